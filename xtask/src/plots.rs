//! `cargo xtask plots`: the plots on the pages of the built-in balancers, drawn anew by the simulator.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::provision;
use crate::step::{Steps, cargo, root};

/// A balancer, the scenario that shows what it is for, and who is simulated beside it.
const DRAWN: [(&str, &str, &str); 11] = [
    ("round-robin", "steady", "random"),
    ("random", "steady", "round-robin"),
    ("least-connections", "slow-endpoint", "round-robin"),
    ("two-choices", "slow-endpoint", "round-robin"),
    ("peak-ewma", "slow-endpoint", "round-robin"),
    ("first-available", "steady", "round-robin"),
    ("maglev", "hot-key", "two-choices"),
    ("ring-hash", "hot-key", "maglev"),
    ("ketama", "hot-key", "maglev"),
    ("rendezvous", "hot-key", "maglev"),
    ("bounded-maglev", "hot-key", "maglev"),
];

/// The same runs give the same plots.
const SEEDS: &str = "16";

/// Draws each into `docs/policies/NAME.svg`.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    provision::wasm_toolchain(steps)?;
    steps.run("build", cargo().args(["build", "--locked", "--bin", "pointsman"]))?;
    let folder = tempfile::tempdir()?;
    for (name, scenario, other) in DRAWN {
        let page = folder.path().join("page.html");
        let file = format!("docs/scenarios/{scenario}.yaml");
        let mut command = Command::new(root().join("target/debug/pointsman"));
        command.current_dir(root()).args(["policy", "sim", name, "--vs", other, "-f", &file, "--seeds", SEEDS, "--html"]).arg(&page);
        let output = command.output().context("running pointsman")?;
        // 1: the scenario's own expectations do not hold of every policy.
        ensure!(output.status.code().is_some_and(|code| code < 2), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let html = std::fs::read_to_string(&page)?;
        let drawing = drawing(&html, [name, other]).with_context(|| format!("{name}: the page has no plot"))?;
        std::fs::write(root().join(format!("docs/policies/{name}.svg")), drawing)?;
        println!("docs/policies/{name}.svg: {name} and {other}, {scenario}");
    }
    Ok(())
}

/// The first plot of a page, to stand by itself: with the page's style, a ground, its caption and a legend.
fn drawing(html: &str, names: [&str; 2]) -> Option<String> {
    let between = |from: &str, to: &str| html.split_once(from)?.1.split_once(to).map(|(inner, _)| inner);
    let style = between("<style>", "</style>")?;
    let caption = between("<figcaption>", "</figcaption>")?;
    let svg = between("</figcaption><svg ", "</svg>")?.split_once('>')?.1;
    let legend: String = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let (x, dashes) = (270 + 190 * n, if n == 0 { "" } else { " stroke-dasharray=\"9 4\"" });
            format!("<path class=\"line s{n}\"{dashes} d=\"M{x} 392h34\"/><text class=\"title\" x=\"{}\" y=\"397\">{name}</text>", x + 40)
        })
        .collect();
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 412\" role=\"img\" aria-label=\"{caption}\">\
         <style>{style} text{{font-family:system-ui,\"DejaVu Sans\",sans-serif}}</style>\
         <rect width=\"640\" height=\"412\" style=\"fill:var(--ground)\"/>{svg}\
         <text class=\"title\" x=\"8\" y=\"397\">{caption}</text>{legend}</svg>\n"
    ))
}
