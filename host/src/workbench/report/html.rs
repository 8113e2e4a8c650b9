//! For a browser: one file that asks for nothing else, with its plots drawn, in light and dark.
//!
//! No script, no font, no image from anywhere; the page forbids them too. Lines differ by colour and by dashes, and every plot says in words
//! what it shows.

mod intervals;
mod plot;

use super::shown::{clean, columns, command, estimate, verdict};
use super::{Case, Kind, Metric, Report};

/// A page.
pub fn render(report: &Report) -> String {
    let subjects: Vec<String> = report.subjects.iter().map(|subject| escaped(&subject.name)).collect();
    let title = format!("{}: {}", command(report.kind), subjects.join(" vs "));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    head(&mut page, report, &subjects);
    if !report.cases.is_empty() {
        page.push_str("<h2>Checked</h2>\n<ul class=\"cases\">\n");
        report.cases.iter().for_each(|case| self::case(&mut page, report, case));
        page.push_str("</ul>\n");
    }
    if !report.metrics.is_empty() {
        page.push_str("<h2>Measured</h2>\n");
        metrics(&mut page, report, &report.metrics);
    }
    if !report.plots.is_empty() {
        page.push_str("<h2>Plots</h2>\n<div class=\"plots\">\n");
        report.plots.iter().for_each(|plot| page.push_str(&plot::figure(plot)));
        page.push_str("</div>\n");
    }
    page.push_str(&format!("<footer>{}</footer>\n</main>\n</body>\n</html>\n", escaped(&report.schema)));
    page
}

fn head(page: &mut String, report: &Report, subjects: &[String]) {
    let state = verdict(report.verdict);
    page.push_str(&format!("<header>\n<h1>{} <span class=\"verdict {state}\">{state}</span></h1>\n<dl>\n", command(report.kind)));
    // Beside what was recorded, or is in force, the second is tried.
    let tried = usize::from(matches!(report.kind, Kind::Diff | Kind::Shadow | Kind::Canary));
    for (n, (subject, name)) in report.subjects.iter().zip(subjects).enumerate() {
        let digest = subject.digest.as_deref().map(|digest| format!(" <code>{}</code>", escaped(digest))).unwrap_or_default();
        let role = if n == tried { "subject" } else { "compared with" };
        page.push_str(&format!("<dt>{role}</dt><dd>{}<b>{name}</b>{digest}</dd>\n", plot::swatch(n)));
    }
    if let Some(seed) = report.seed {
        let runs = report.metrics.iter().flat_map(|metric| &metric.values).map(|value| value.samples).max().unwrap_or(1);
        let runs = if runs > 1 { format!(", {runs} runs; ± and the bars are 95 % intervals") } else { String::new() };
        page.push_str(&format!("<dt>seed</dt><dd><code>{seed}</code>{runs}</dd>\n"));
    }
    page.push_str("</dl>\n");
    for note in &report.notes {
        page.push_str(&format!("<p class=\"note\">{}</p>\n", escaped(note)));
    }
    page.push_str("</header>\n");
}

fn case(page: &mut String, report: &Report, case: &Case) {
    let state = verdict(case.verdict);
    page.push_str(&format!("<li><span class=\"verdict {state}\">{state}</span> {}", escaped(&case.name)));
    if !case.findings.is_empty() {
        let findings: String = case.findings.iter().map(|finding| format!("<li>{}</li>", escaped(finding))).collect();
        page.push_str(&format!("<ul>{findings}</ul>"));
    }
    if !case.metrics.is_empty() {
        page.push('\n');
        metrics(page, report, &case.metrics);
    }
    page.push_str("</li>\n");
}

/// A table for each run of metrics with the same columns.
fn metrics(page: &mut String, report: &Report, metrics: &[Metric]) {
    for group in metrics.chunk_by(|a, b| a.values.len() == b.values.len()) {
        let values = group.first().map_or(0, |metric| metric.values.len());
        let compared = group.iter().any(|metric| metric.differs.is_some());
        let varies = group.iter().any(|metric| metric.values.len() > 1 || metric.values.iter().any(|value| value.low < value.high));
        page.push_str("<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">metric</th><th scope=\"col\">unit</th>");
        columns(report, values)
            .iter()
            .for_each(|column| page.push_str(&format!("<th scope=\"col\" class=\"number\">{}</th>", escaped(column))));
        page.push_str(if varies { "<th scope=\"col\">interval</th>" } else { "" });
        page.push_str(if compared { "<th scope=\"col\">differs</th>" } else { "" });
        page.push_str("</tr></thead>\n<tbody>\n");
        for metric in group {
            let differs = metric.differs == Some(true);
            page.push_str(if differs { "<tr class=\"differs\">" } else { "<tr>" });
            page.push_str(&format!("<th scope=\"row\">{}</th><td>{}</td>", escaped(&metric.name), escaped(&metric.unit)));
            metric.values.iter().for_each(|value| page.push_str(&format!("<td class=\"number\">{}</td>", escaped(&estimate(value)))));
            if varies {
                page.push_str(&format!("<td>{}</td>", intervals::bars(&metric.values)));
            }
            if compared {
                page.push_str(if differs { "<td>differs</td>" } else { "<td></td>" });
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table></div>\n");
    }
}

/// Text, or an attribute's value.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Colours that people with any of the common colour blindnesses tell apart (Okabe & Ito 2008), darker on light and lighter on dark, each
/// with a contrast of 3:1 or more to its ground.
const STYLE: &str = "\
:root{--ground:#fff;--card:#f7f8fa;--text:#1c2430;--faint:#5b6675;--rule:#d5dae1;--good:#0a6b47;--bad:#b3261e;--idle:#5b6675;\
--s0:#0069b4;--s1:#c24e00;--s2:#00805d;--s3:#a8487f;--s4:#8a6d00;--s5:#3a8fc0}
@media (prefers-color-scheme:dark){:root{--ground:#12161c;--card:#1a2029;--text:#e6eaf0;--faint:#a3aebd;--rule:#333d4a;--good:#4fd3a1;--bad:#ff8a80;\
--idle:#a3aebd;--s0:#56b4e9;--s1:#ff9a4d;--s2:#2fcf9f;--s3:#e79ac6;--s4:#e8cf4a;--s5:#9ecbff}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}
main{max-width:1180px;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.6rem;margin:0 0 .75rem}
h2{font-size:1.15rem;margin:2rem 0 .75rem}
code{font:.88em ui-monospace,\"DejaVu Sans Mono\",monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0}
dt{color:var(--faint)}
dd{margin:0}
.note{color:var(--faint);margin:.5rem 0 0}
.verdict{display:inline-block;border:1px solid currentColor;border-radius:.3rem;padding:0 .45rem;font-size:.8rem;font-weight:600;vertical-align:middle}
.holds{color:var(--good)}
.fails{color:var(--bad)}
.skipped{color:var(--idle)}
.cases{list-style:none;padding:0;margin:0}
.cases>li{padding:.35rem 0;border-bottom:1px solid var(--rule)}
.cases li li{color:var(--faint);overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:0 0 .75rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .8rem .22rem 0;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap}
thead th{color:var(--faint);font-weight:600}
tbody th{font-weight:400}
.number{text-align:right}
.differs th,.differs .number{font-weight:600}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1rem}
figure{margin:0;padding:.75rem;background:var(--card);border:1px solid var(--rule);border-radius:.5rem;min-width:0}
figcaption{font-weight:600;margin-bottom:.25rem}
figure>svg{display:block;width:100%;height:auto}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;margin:.25rem 0 0;padding:0;list-style:none}
.legend li{overflow-wrap:anywhere;min-width:0}
.swatch{width:34px;height:10px;margin-right:.45rem;vertical-align:middle}
.grid{fill:none;stroke:var(--rule);stroke-width:1}
.axis{fill:none;stroke:var(--faint);stroke-width:1}
.tick{fill:var(--faint);font-size:14px}
.title{fill:var(--text);font-size:14px}
@media (max-width:600px){.tick,.title{font-size:18px}}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:butt}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}.s5{stroke:var(--s5)}
circle.s0{fill:var(--s0)}circle.s1{fill:var(--s1)}circle.s2{fill:var(--s2)}circle.s3{fill:var(--s3)}circle.s4{fill:var(--s4)}circle.s5{fill:var(--s5)}
footer{margin-top:2.5rem;color:var(--faint);font-size:.85rem}
@media print{figure{break-inside:avoid}}
";
