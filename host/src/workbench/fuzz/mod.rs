//! Looks for input that makes a balancer fault, or say something else to the same question, and makes what it found small.

mod shrink;
mod steps;

use super::report::{Case, Estimate, Metric, Verdict};
use super::subject::{Answer, FaultClass, Subject};
use shrink::shrink;
use steps::{Step, draw};

/// Makes a fresh subject with one worker.
pub type Make<'a> = dyn FnMut() -> Result<Box<dyn Subject>, String> + 'a;

/// What is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// It promises to send a client to the same endpoint as long as the endpoints are the same.
    pub affinity: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    /// A fault, as the host would count it.
    Fault(FaultClass),
    /// A plan was refused or failed.
    Plan,
    /// No opinion, though there are endpoints of weight, on the first attempt.
    NoOpinion,
    /// Two instances that were asked the same differ.
    Differs,
    /// A client went elsewhere, although no endpoint changed.
    Flaps,
}

impl Flaw {
    fn name(self) -> String {
        match self {
            Self::Fault(class) => serde_json::to_value(class).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default(),
            Self::Plan => "plan fails".to_owned(),
            Self::NoOpinion => "no opinion".to_owned(),
            Self::Differs => "two instances differ".to_owned(),
            Self::Flaps => "a client goes elsewhere".to_owned(),
        }
    }
}

/// Tries one input after the other, each drawn from the seed and its number, as long as `keep_going` says (it is asked before each). Ends with
/// the first flaw, made small.
///
/// # Errors
/// A subject cannot be made at all.
pub fn fuzz(make: &mut Make<'_>, wanted: Wanted, seed: u64, keep_going: &mut dyn FnMut(u64) -> bool) -> Result<Case, String> {
    let mut tried = 0;
    while keep_going(tried) {
        let steps = draw(seed.wrapping_add(tried));
        tried += 1;
        if let Some(flaw) = run(make, wanted, &steps)? {
            let small = shrink(steps, |steps| Ok(run(make, wanted, steps)? == Some(flaw)))?;
            let what = format!("{}, found with input {tried}; the smallest that shows it:", flaw.name());
            let findings = std::iter::once(what).chain(small.iter().map(ToString::to_string)).collect();
            return Ok(case(Verdict::Fails, findings, tried));
        }
    }
    Ok(case(Verdict::Holds, Vec::new(), tried))
}

fn case(verdict: Verdict, findings: Vec<String>, tried: u64) -> Case {
    let metric = Metric { name: "inputs".to_owned(), unit: String::new(), values: vec![Estimate::exact(tried as f64)], differs: None };
    Case { name: "no input makes it fault or differ".to_owned(), verdict, findings, metrics: vec![metric] }
}

/// The first flaw that these steps show.
fn run(make: &mut Make<'_>, wanted: Wanted, steps: &[Step]) -> Result<Option<Flaw>, String> {
    let (mut one, mut twin) = (make()?, make()?);
    let mut weights: Vec<u32> = Vec::new();
    let mut homes: std::collections::HashMap<u64, Answer> = std::collections::HashMap::new();
    for step in steps {
        match step {
            Step::Endpoints(named) => {
                let endpoints = steps::endpoints(named);
                let planned = (one.set_endpoints(&endpoints, 0), twin.set_endpoints(&endpoints, 0));
                if planned.0.is_err() {
                    return Ok(Some(Flaw::Plan));
                }
                if planned.1.is_err() {
                    return Ok(Some(Flaw::Differs));
                }
                weights = endpoints.iter().map(|endpoint| endpoint.weight).collect();
                homes.clear();
            }
            Step::Active(slot, active) => {
                one.set_active(0, *slot, *active);
                twin.set_active(0, *slot, *active);
            }
            Step::Pick(connection) if !weights.is_empty() => {
                let answer = one.pick(0, connection);
                if let Answer::Fault(class) = answer {
                    return Ok(Some(Flaw::Fault(class)));
                }
                if answer != twin.pick(0, connection) {
                    return Ok(Some(Flaw::Differs));
                }
                if answer == Answer::NoOpinion && connection.attempt == 0 && weights.iter().any(|weight| *weight > 0) {
                    return Ok(Some(Flaw::NoOpinion));
                }
                if wanted.affinity && connection.attempt == 0 && *homes.entry(connection.client_hash).or_insert(answer) != answer {
                    return Ok(Some(Flaw::Flaps));
                }
            }
            Step::Pick(_) => {}
            Step::Report(now_ms, outcome) => {
                one.report(0, *now_ms, &[*outcome]);
                twin.report(0, *now_ms, &[*outcome]);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
