//! What selectors promise.

use pointsman_sdk::types::{Connection, Label, Setting};

use super::lab::Lab;
use super::{Case, Class, Found, judge};
use crate::policy::contract::Fault;

/// A selector that is tried, for a Service with the selector `app: web`.
pub trait Selector {
    /// The names of its groups.
    ///
    /// # Errors
    /// It faults, or refuses.
    fn plan(&mut self) -> Result<Vec<String>, Fault>;

    /// The group of a pod.
    ///
    /// # Errors
    /// It faults, or names a group that there is not.
    fn classify(&mut self, labels: &[Label]) -> Result<Option<u32>, Fault>;

    /// The group of a connection.
    ///
    /// # Errors
    /// As for `classify`.
    fn choose(&mut self, connection: &Connection) -> Result<Option<u32>, Fault>;
}

/// Makes a fresh selector, with these settings instead of those of the same name that it would have.
pub type MakeSelector<'a> = dyn FnMut(&[Setting]) -> Result<Box<dyn Selector>, Fault> + 'a;
type SelectorLaw = (&'static str, fn(&mut MakeSelector<'_>, &mut Lab<'_>, &mut Found) -> Result<(), String>);

const LAWS: &[SelectorLaw] = &[
    ("no fault on hostile input", any_labels),
    ("the same calls, the same answers", same_groups),
    ("the order of labels does not matter", label_order),
    ("a client stays in its group", client_group),
];

const MATCH_LAWS: &[SelectorLaw] = &[("the pods with all labels of the selector, and no other", matches)];

const SHARE_LAWS: &[SelectorLaw] =
    &[("as many clients as are asked for, but for chance", share), ("who is among few is among more", grows)];

fn of(class: Class) -> &'static [SelectorLaw] {
    match class {
        Class::Match => MATCH_LAWS,
        Class::Share => SHARE_LAWS,
        _ => &[],
    }
}

/// Names of all laws here, with their class.
#[cfg(test)]
pub(super) fn names() -> Vec<(Class, &'static str)> {
    let laws = [(Class::All, LAWS), (Class::Match, MATCH_LAWS), (Class::Share, SHARE_LAWS)];
    laws.into_iter().flat_map(|(class, laws)| laws.iter().map(move |(name, _)| (class, *name))).collect()
}

/// Checks a selector: what all promise, and what these classes do.
pub fn check_selector(classes: &[Class], make: &mut MakeSelector<'_>, lab: &mut Lab<'_>) -> Vec<Case> {
    let laws = LAWS.iter().chain(classes.iter().flat_map(|class| of(*class)));
    laws.map(|(name, law)| judge(name, |found| law(make, lab, found))).collect()
}

/// Labels of a pod, by number.
pub(in crate::workbench) fn labels(n: usize) -> Vec<Label> {
    let label = |key: &str, value: &str| Label { key: key.to_owned(), value: value.to_owned() };
    match n % 5 {
        0 => Vec::new(),
        1 => vec![label("app", "web")],
        2 => vec![label("app", "db"), label("track", "canary")],
        3 => vec![label("app", "web"), label("track", "canary"), label("version", "v2")],
        _ => (0..200).map(|at| label(&format!("key-{at}"), "value")).chain([label("app", "web")]).collect(),
    }
}

fn any_labels(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut selector = make(&[])?;
    selector.plan()?;
    for n in 0..20 {
        if let Err(why) = selector.classify(&labels(n)) {
            found.wrong(|| format!("classify, labels {:?}: {why}", labels(n)));
        }
    }
    for connection in (0..64).map(super::hostile::extreme).chain(lab.connections(200)) {
        if let Err(why) = selector.choose(&connection) {
            found.wrong(|| format!("choose: {why}"));
        }
    }
    Ok(())
}

fn same_groups(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let connections = lab.connections(1000);
    let mut run = || -> Result<_, Fault> {
        let mut selector = make(&[])?;
        let groups = selector.plan()?;
        let pods = (0..20).map(|n| selector.classify(&labels(n))).collect::<Result<Vec<_>, _>>()?;
        let chosen = connections.iter().map(|connection| selector.choose(connection)).collect::<Result<Vec<_>, _>>()?;
        Ok((groups, pods, chosen))
    };
    found.unless(run()? == run()?, || "two instances that were asked the same differ".to_owned());
    Ok(())
}

fn label_order(make: &mut MakeSelector<'_>, _lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut selector = make(&[])?;
    selector.plan()?;
    for n in 0..5 {
        let (straight, reversed) = (labels(n), labels(n).into_iter().rev().collect::<Vec<_>>());
        let same = selector.classify(&straight)? == selector.classify(&reversed)?;
        found.unless(same, || format!("labels {straight:?}: another group where they are listed backwards"));
    }
    Ok(())
}

fn client_group(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut selector = make(&[])?;
    selector.plan()?;
    for connection in lab.connections(1000) {
        let again = Connection { random: !connection.random, now_ms: connection.now_ms + 1, client_port: 1, ..connection };
        let (first, second) = (selector.choose(&connection)?, selector.choose(&again)?);
        found.unless(first == second, || format!("a client is in group {first:?}, and then in {second:?}"));
    }
    Ok(())
}

fn matches(make: &mut MakeSelector<'_>, _lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut selector = make(&[])?;
    selector.plan()?;
    for n in 0..5 {
        let labels = labels(n);
        let (selected, group) = (labels.iter().any(|label| label.key == "app" && label.value == "web"), selector.classify(&labels)?);
        found.unless(group.is_some() == selected, || match group {
            Some(group) => format!("the selector is app=web, and a pod with the labels {labels:?} is in group {group}"),
            None => format!("the selector is app=web, and a pod with the labels {labels:?} is in no group"),
        });
    }
    Ok(())
}

/// Clients that are put to each share.
const CLIENTS: u64 = 20_000;
/// Standard deviations that chance may miss by: once in two million.
const Z: f64 = 5.0;

/// Which of these clients are in the group of the pods with the label `track: canary`, where that is to be so many percent of them.
fn among(make: &mut MakeSelector<'_>, percent: u32, connections: &[Connection]) -> Result<Vec<bool>, String> {
    let setting = |key: &str, value: String| Setting { key: key.to_owned(), value };
    let mut selector = make(&[setting("canary", "track=canary".to_owned()), setting("share", format!("{percent}%"))])?;
    selector.plan()?;
    let (theirs, others) = (selector.classify(&labels(3))?, selector.classify(&labels(1))?);
    if theirs.is_none() || theirs == others {
        return Err(format!(
            "with canary=track=canary, share={percent}%: pods with that label and without it are both in group {theirs:?}"
        ));
    }
    Ok(connections
        .iter()
        .map(|connection| selector.choose(connection))
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .map(|group| *group == theirs)
        .collect())
}

fn share(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let connections = lab.connections(CLIENTS);
    let mut worst = 0.0_f64;
    for percent in [0, 1, 5, 50, 100] {
        let share = f64::from(percent) / 100.0;
        let seen = among(make, percent, &connections)?.iter().filter(|among| **among).count() as f64;
        let off = (seen - share * CLIENTS as f64).abs();
        let deviation = (CLIENTS as f64 * share * (1.0 - share)).sqrt();
        if deviation > 0.0 {
            worst = worst.max(off / deviation);
        }
        found.unless(off <= Z * deviation, || format!("{percent} % are asked for, and {seen} of {CLIENTS} clients are among them"));
    }
    found.measured("worst-z", "", worst);
    Ok(())
}

fn grows(make: &mut MakeSelector<'_>, lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let connections = lab.connections(CLIENTS);
    let mut before = among(make, 0, &connections)?;
    for percent in [1, 5, 20, 100] {
        let now = among(make, percent, &connections)?;
        let lost = before.iter().zip(&now).filter(|(before, now)| **before && !**now).count();
        found.unless(lost == 0, || format!("the share grows to {percent} %, and {lost} clients that were among fewer are not among these"));
        before = now;
    }
    Ok(())
}
