//! `cargo xtask plots`: the plots on the pages of the built-in policies, drawn anew by the workbench.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::provision;
use crate::step::{Steps, cargo, root};

/// A balancer, the scenario that shows what it is for, and who is simulated beside it.
const SIMULATED: [(&str, &str, &str); 11] = [
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

/// A policy of another stage, what it is asked, and the plot that shows what it is for.
const ASKED: [(&str, &[&str], &str); 5] = [
    ("canary", &["check", "canary", "--setting", "canary=version=v2", "--setting", "share=5%"], "Clients of each group but the largest"),
    (
        "label-selector",
        &["cost", "label-selector", "--no-times", "--setting", "expression=tier in (front, edge), env notin (test), !legacy"],
        "Fuel by the number of endpoints",
    ),
    ("kubernetes", &["check", "kubernetes"], "Where connections go, with Local"),
    ("prefer-local", &["check", "prefer-local"], "Where connections go, with Cluster"),
    ("zone-spill", &["check", "zone-spill"], "Where connections go, with Cluster"),
];

/// The same runs give the same plots.
const SEEDS: &str = "16";

/// Draws each into `docs/policies/NAME.svg`.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    provision::wasm_toolchain(steps)?;
    steps.run("build", cargo().args(["build", "--locked", "--bin", "pointsman"]))?;
    for (name, scenario, other) in SIMULATED {
        let file = format!("docs/scenarios/{scenario}.yaml");
        let page = page(&["sim", name, "--vs", other, "-f", &file, "--seeds", SEEDS])?;
        draw(name, page.split_once("<figure>").map(|(_, figures)| figures), &page)?;
    }
    for (name, arguments, title) in ASKED {
        let page = page(arguments)?;
        draw(name, page.split("<figure>").find(|figure| figure.contains(&format!("<figcaption>{title}<"))), &page)?;
    }
    Ok(())
}

/// The HTML report of a command of the workbench.
fn page(arguments: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let page = folder.path().join("page.html");
    let mut command = Command::new(root().join("target/debug/pointsman"));
    command.current_dir(root()).arg("policy").args(arguments).arg("--html").arg(&page);
    let output = command.output().context("running pointsman")?;
    // 1: the scenario's own expectations do not hold of every policy.
    ensure!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(std::fs::read_to_string(&page)?)
}

fn draw(name: &str, figure: Option<&str>, page: &str) -> Result<()> {
    let drawing = figure.and_then(|figure| drawing(figure, page)).with_context(|| format!("{name}: the page has no such plot"))?;
    let file = format!("docs/policies/{name}.svg");
    std::fs::write(root().join(&file), drawing)?;
    println!("{file}");
    Ok(())
}

/// A plot of a page, to stand by itself: with the page's style, a ground, its caption and its legend below, two lines of it in a row.
fn drawing(figure: &str, page: &str) -> Option<String> {
    let between = |text: &str, from: &str, to: &str| text.split_once(from)?.1.split_once(to).map(|(inner, _)| inner.to_owned());
    let style = between(page, "<style>", "</style>")?;
    let caption = between(figure, "<figcaption>", "</figcaption>")?;
    let svg = between(figure, "</figcaption><svg ", "</svg>")?.split_once('>')?.1.to_owned();
    let entries = between(figure, "<ul class=\"legend\">", "</ul>")?;
    let mut legend = String::new();
    let mut rows = 0;
    for (n, entry) in entries.split("<li>").skip(1).enumerate() {
        let dashes =
            between(entry, "stroke-dasharray=\"", "\"").map(|dashes| format!(" stroke-dasharray=\"{dashes}\"")).unwrap_or_default();
        let label = between(entry, "</svg>", "</li>")?;
        let (x, y) = (8 + 300 * (n % 2), 416 + 22 * (n / 2));
        legend.push_str(&format!(
            "<path class=\"line s{n}\"{dashes} d=\"M{x} {}h34\"/><text class=\"title\" x=\"{}\" y=\"{y}\">{label}</text>",
            y - 5,
            x + 40
        ));
        rows = n / 2 + 1;
    }
    let height = 402 + 22 * rows;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {height}\" role=\"img\" aria-label=\"{caption}\">\
         <style>{style} text{{font-family:system-ui,\"DejaVu Sans\",sans-serif}}</style>\
         <rect width=\"640\" height=\"{height}\" style=\"fill:var(--ground)\"/>{svg}\
         <text class=\"title\" x=\"8\" y=\"390\" font-weight=\"600\">{caption}</text>{legend}</svg>\n"
    ))
}
