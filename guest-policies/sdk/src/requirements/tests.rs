#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(key, value)| Label { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

/// Pods of a made-up namespace.
const PODS: [(&str, &[(&str, &str)]); 6] = [
    ("front", &[("tier", "front"), ("env", "prod"), ("app", "web")]),
    ("back", &[("tier", "back"), ("env", "prod"), ("gpu", "")]),
    ("test", &[("tier", "front"), ("env", "test"), ("legacy", "yes")]),
    ("empty", &[("tier", ""), ("example.com/team", "a")]),
    ("words", &[("tier", "in"), ("env", "notin")]),
    ("bare", &[]),
];

fn met(selector: &str) -> Vec<&'static str> {
    let requirements = Requirements::parse(selector).unwrap();
    PODS.iter().filter(|(_, pod)| requirements.met_by(&labels(pod))).map(|(name, _)| *name).collect()
}

#[test]
fn each_operator_as_in_kubernetes() {
    for (selector, expected) in [
        ("", &["front", "back", "test", "empty", "words", "bare"][..]),
        ("  ", &["front", "back", "test", "empty", "words", "bare"]),
        ("tier", &["front", "back", "test", "empty", "words"]),
        ("!tier", &["bare"]),
        ("tier=front", &["front", "test"]),
        ("tier == front", &["front", "test"]),
        ("tier!=front", &["back", "empty", "words", "bare"]),
        ("tier in (front, back)", &["front", "back", "test"]),
        ("tier in (in)", &["words"]),
        ("tier=in,env=notin", &["words"]),
        ("env notin (prod,test)", &["empty", "words", "bare"]),
        ("tier notin (front), env", &["back", "words"]),
        ("tier=", &["empty"]),
        ("tier=,example.com/team", &["empty"]),
        ("tier in (,back)", &["back", "empty"]),
        ("tier in (back,)", &["back", "empty"]),
        ("tier!=", &["front", "back", "test", "words", "bare"]),
        ("gpu=", &["back"]),
        ("tier in (front, back), env notin (test), !legacy", &["front", "back"]),
        ("\ttier\nin\r( front ) , ! legacy", &["front"]),
        ("example.com/team=a", &["empty"]),
        ("tier=front,tier=back", &[]),
    ] {
        assert_eq!(met(selector), expected, "{selector:?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let key = "is no label's key: that is a name of up to 63 letters, digits, `-`, `_` and `.`, after `domain/` perhaps";
    let value = "is no label's value: that is up to 63 letters, digits, `-`, `_` and `.`";
    let long = "x".repeat(64);
    for (selector, expected) in [
        ("tier in a", "at character 9: found `a`, expected `(`".to_owned()),
        ("tier in", "at character 8: it ends, expected `(`".to_owned()),
        ("tier in ()", "at character 10: found `)`, expected a label's value".to_owned()),
        ("tier in (a", "at character 11: it ends, expected `,` or `)`".to_owned()),
        ("tier in (a b)", "at character 12: found `b`, expected `,` or `)`".to_owned()),
        ("tier in (a,(b))", "at character 12: found `(`, expected a label's value".to_owned()),
        ("tier front", "at character 6: found `front`, expected `=`, `!=`, `in`, `notin`, `,` or the end".to_owned()),
        ("tier > 3", "at character 6: found `>`, expected `=`, `!=`, `in`, `notin`, `,` or the end".to_owned()),
        ("tier=a b", "at character 8: found `b`, expected `,` or the end".to_owned()),
        ("tier===a", "at character 7: found `=`, expected a label's value".to_owned()),
        ("tier=!a", "at character 6: found `!`, expected a label's value".to_owned()),
        ("!tier=a", "at character 6: found `=`, expected `,` or the end".to_owned()),
        ("!!tier", "at character 2: found `!`, expected a label's key".to_owned()),
        ("tier,", "at character 6: it ends, expected a label's key".to_owned()),
        (",tier", "at character 1: found `,`, expected a label's key".to_owned()),
        ("a,,b", "at character 3: found `,`, expected a label's key".to_owned()),
        ("in in (a)", "at character 1: found `in`, expected a label's key".to_owned()),
        ("=a", "at character 1: found `=`, expected a label's key".to_owned()),
        ("ä=a", format!("at character 1: `ä` {key}")),
        ("ok, -x", format!("at character 5: `-x` {key}")),
        ("Example.com/x", format!("at character 1: `Example.com/x` {key}")),
        ("example.com/", format!("at character 1: `example.com/` {key}")),
        ("/x", format!("at character 1: `/x` {key}")),
        ("a/b/c", format!("at character 1: `a/b/c` {key}")),
        ("tier=ü", format!("at character 6: `ü` {value}")),
        ("tier in (a, b-)", format!("at character 13: `b-` {value}")),
        (&long, format!("at character 1: `{long}` {key}")),
    ] {
        assert_eq!(Requirements::parse(selector).unwrap_err(), expected, "{selector}");
    }
}

#[test]
fn order_does_not_matter() {
    let one = Requirements::parse("b in (y,x,y), a, a").unwrap();
    assert_eq!(one, Requirements::parse("a,b in (x,y)").unwrap());
    let equal = Requirements::equal(&labels(&[("b", "1"), ("a", "2")]));
    assert_eq!(equal, Requirements::parse("a=2,b==1").unwrap());
    assert_eq!(equal.clone().and(one.clone()), one.and(equal));
    assert!(Requirements::default().is_empty() && Requirements::equal(&[]).met_by(&[]));
}
