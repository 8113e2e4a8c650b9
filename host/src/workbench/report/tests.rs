#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const HOSTILE: &str = "<script src=\"http://evil\">&'\u{1b}[31m]]>\u{202e}";

fn metric(name: &str, values: &[(f64, f64)], differs: Option<bool>) -> Metric {
    let values = values.iter().map(|(mean, half)| Estimate { mean: *mean, low: mean - half, high: mean + half, samples: 32 }).collect();
    Metric { name: name.to_owned(), unit: "ms".to_owned(), values, differs }
}

fn case(name: &str, verdict: Verdict, findings: &[&str]) -> Case {
    Case { name: name.to_owned(), verdict, findings: findings.iter().map(|text| (*text).to_owned()).collect(), metrics: Vec::new() }
}

fn report(name: &str) -> Report {
    let subject = |name: &str| Subject { name: name.to_owned(), digest: Some("sha256:abc".to_owned()) };
    let line = |label: &str, height: f64| Line {
        label: label.to_owned(),
        points: (1..=50).map(|x| (f64::from(x), height * f64::from(x))).collect(),
    };
    Report {
        schema: SCHEMA.to_owned(),
        kind: Kind::Sim,
        subjects: vec![subject(name), subject("other")],
        seed: Some(7),
        verdict: Verdict::Fails,
        cases: vec![
            case("holds well", Verdict::Holds, &[]),
            case(name, Verdict::Fails, &["expected this,\nsaw that", name]),
            case("later", Verdict::Skipped, &["no traffic"]),
        ],
        metrics: vec![
            metric("queue-wait-p99", &[(1.25, 0.05), (20.5, 1.5)], Some(true)),
            metric("herd", &[(1.0, 0.0), (1.0, 0.5)], Some(false)),
        ],
        plots: vec![
            Plot {
                title: name.to_owned(),
                x: "time (s)".to_owned(),
                y: "gap".to_owned(),
                logarithmic: false,
                lines: vec![line(name, 1.0), line("other", 2.0)],
            },
            Plot { title: "waits".to_owned(), x: "one in".to_owned(), y: "ms".to_owned(), logarithmic: true, lines: vec![line("a", 1.0)] },
        ],
        notes: vec![name.to_owned()],
    }
}

#[test]
fn text_is_aligned_and_fits() {
    let text = text::render(&report("two-choices"), 100);
    let expected = "policy sim: fails, seed 7, 32 runs, ± is a 95 % interval
  two-choices  sha256:abc
  other  sha256:abc

ok    holds well
FAILS two-choices
      - expected this,\\u{a}saw that
      - two-choices
skip  later
      - no traffic

                     two-choices       other
queue-wait-p99 (ms)  1.25 ± 0.05  20.5 ± 1.5  differs
herd (ms)                      1     1 ± 0.5

note: two-choices
";
    assert_eq!(text, expected);
    let long = "a-policy-with-a-name-that-is-far-longer-than-anybody-would-want-to-read and words after it";
    let narrow = text::render(&report(long), 44);
    assert!(narrow.contains("queue-wait-p99 (ms)  differs\n  1.25 ± 0.05  a-policy"), "{narrow}");
    let tables: Vec<&str> = narrow.lines().filter(|line| line.contains('±') && !line.contains("policy sim")).collect();
    assert!(tables.iter().all(|line| line.chars().count() <= 44), "{tables:?}");
}

#[test]
fn nothing_foreign_reaches_the_terminal() {
    let text = text::render(&report(HOSTILE), 80);
    assert!(!text.chars().any(|c| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn json_is_the_report_and_comes_back() {
    let report = report(HOSTILE);
    let text = json::render(&report);
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert!(text.starts_with("{\n  \"schema\": \"pointsman.dev/report/v1\",\n  \"kind\": \"sim\"") && text.ends_with("}\n"));
}

#[test]
fn junit_counts_and_escapes() {
    let xml = junit::render(&report(HOSTILE));
    assert!(
        xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\">"),
        "{xml}"
    );
    assert!(xml.contains("name=\"holds well\"") && xml.contains("<skipped message=\"no traffic\"/>"));
    assert!(xml.contains("<property name=\"queue-wait-p99\" value=\"1.25 ± 0.05 vs 20.5 ± 1.5 ms (differs)\"/>"), "{xml}");
    assert!(xml.contains("<failure message=\"expected this,&#10;saw that\">expected this,&#10;saw that&#10;"));
    well_formed(&xml);
    for raw in ["<script", "\u{1b}", "]]>"] {
        assert!(!xml.contains(raw), "{raw:?} in {xml}");
    }
}

/// What was measured for a case is shown whether it holds or not: the costs and the laws' numbers stand there alone.
#[test]
fn metrics_of_a_case_are_shown_whatever_its_verdict() {
    let mut report = report("maglev");
    for (n, case) in report.cases.iter_mut().enumerate() {
        case.metrics = vec![metric(&format!("fuel-{n}"), &[(120.0 + n as f64, 0.0)], None)];
    }
    let (page, xml) = (html::render(&report), junit::render(&report));
    well_formed(&page);
    well_formed(&xml);
    for n in 0..3 {
        assert!(page.contains(&format!("<th scope=\"row\">fuel-{n}</th><td>ms</td><td class=\"number\">12{n}</td>")), "{page}");
        assert!(
            xml.contains(&format!("      <properties>\n        <property name=\"fuel-{n}\" value=\"12{n} ms\"/>\n      </properties>\n")),
            "{xml}"
        );
    }
    // Before the verdict, as readers of JUnit have it.
    let (properties, failure) = (xml.find("fuel-1"), xml.find("<failure"));
    assert!(properties < failure && properties.is_some());
}

#[test]
fn a_page_asks_for_nothing_and_lets_nothing_in() {
    let page = html::render(&report(HOSTILE));
    for foreign in ["http:", "https:", "//", "<script", "url(", "@import", " src=", " href=", "onload", "\u{1b}", "\u{202e}"] {
        let own = if foreign == "http:" || foreign == "//" || foreign == " src=" {
            page.replace("&lt;script src=&quot;http://evil&quot;", "")
        } else {
            page.clone()
        };
        assert!(!own.contains(foreign), "{foreign:?} in the page");
    }
    well_formed(&page);
}

#[test]
fn a_page_shows_everything() {
    let page = html::render(&report("two-choices"));
    assert_eq!((page.matches("<figure>").count(), page.matches("role=\"img\"").count()), (2, 2));
    for wanted in [
        "<title>policy sim: two-choices vs other</title>",
        "1.25 ± 0.05",
        "queue-wait-p99",
        "class=\"verdict fails\"",
        "prefers-color-scheme:dark",
        "goes from 1 to 50, at most 50",
    ] {
        assert!(page.contains(wanted), "no {wanted:?}");
    }
    // Lines differ by dashes too.
    assert!(page.contains("class=\"line s0\" d=") && page.contains("class=\"line s1\" stroke-dasharray=\"9 4\" d="));
    for (kind, first) in [(Kind::Sim, "subject"), (Kind::Diff, "compared with")] {
        let page = html::render(&Report { kind, ..report("x") });
        assert!(page.contains(&format!("<dl>\n<dt>{first}</dt>")), "{kind:?}");
    }
    let empty = Report { cases: Vec::new(), metrics: Vec::new(), plots: Vec::new(), notes: Vec::new(), ..report("x") };
    well_formed(&html::render(&empty));
    let nothing =
        Plot { lines: vec![Line { label: "a".to_owned(), points: vec![(0.0, 1.0), (f64::NAN, 2.0)] }], ..report("x").plots[1].clone() };
    assert!(html::render(&Report { plots: vec![nothing], ..empty }).contains("nothing to draw"));
}

/// Every element that is opened is closed, in order; attributes are quoted, and no bracket stands in text.
fn well_formed(text: &str) {
    const VOID: [&str; 2] = ["meta", "?xml"];
    let (mut open, mut rest) = (Vec::new(), text.strip_prefix("<!DOCTYPE html>").unwrap_or(text));
    while let Some(begin) = rest.find('<') {
        assert!(!rest[..begin].contains('>') || open.last() == Some(&"style"), "a bracket in {:?}", &rest[..begin]);
        let end = begin + rest[begin..].find('>').unwrap();
        let tag = &rest[begin + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap().trim_end_matches('/');
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} left open");
}
