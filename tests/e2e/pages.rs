//! What the pages of the workbench show is what their commands say.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::binary;

/// Pages whose examples need nothing but this repository.
const PAGES: [(&str, usize); 3] = [("testing", 4), ("simulator", 1), ("policies", 1)];

/// A command and what the page shows of it. Those on files of one's own, or through other programs, are not for here.
fn examples(page: &str) -> Vec<(Vec<String>, String)> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    let example = |block: &str| {
        let (command, shown) = block.split_once('\n')?;
        let words = command.strip_prefix("$ pointsman policy ")?;
        if words.contains(['|', '>', '&']) || words.contains(".wasm") || words.contains(" mine.yaml") {
            return None;
        }
        // `--html FILE` is for eyes.
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        if let Some(at) = words.iter().position(|word| word == "--html") {
            words.drain(at..at + 2);
        }
        let shown = shown.lines().take_while(|line| !line.starts_with("$ "));
        Some((words, shown.map(|line| format!("{line}\n")).collect()))
    };
    blocks.filter_map(example).collect()
}

/// Without what differs from one machine or toolchain to another: digests, times, fuel, memory, sizes, and the numbers of a simulation.
fn stable(text: &str, simulated: bool) -> Vec<String> {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for word in &mut words {
            if word.starts_with("sha256:") {
                "sha256:".clone_into(word);
            }
        }
        let measured = ["fuel", "memory", "bytes", "(ns)", "(µs)", "functions", "modules"].iter().any(|mark| line.contains(mark));
        if measured || simulated {
            words.retain(|word| !word.starts_with(|c: char| c.is_ascii_digit()) && word != "±");
        }
        words.join(" ")
    };
    text.lines().map(line).collect()
}

#[test]
fn examples_are_as_they_are_shown() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?.to_owned();
    for (name, count) in PAGES {
        let page = std::fs::read_to_string(root.join(format!("docs/{name}.md")))?;
        let examples = examples(&page);
        ensure!(examples.len() == count, "docs/{name}.md has {} examples", examples.len());
        for (words, shown) in examples {
            let output = Command::new(binary()?).current_dir(&root).arg("policy").args(&words).output()?;
            let said = String::from_utf8(output.stdout)?;
            let simulated = words[0] == "sim";
            let (said, shown) = (stable(&said, simulated), stable(&shown, simulated));
            ensure!(said == shown, "docs/{name}.md: {words:?} says\n{}\nand is shown as\n{}", said.join("\n"), shown.join("\n"));
        }
    }
    Ok(())
}
