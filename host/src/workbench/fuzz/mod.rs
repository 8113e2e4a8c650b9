//! Looks for input that makes a policy fault, or say something else to the same question, and makes what it found small.

mod shrink;
mod steps;
mod tried;

use std::collections::HashMap;

use pointsman_sdk::types::Locality;

pub use tried::{Make, Tried};

use super::report::{Case, Estimate, Metric, Verdict};
use super::subject::FaultClass;
use shrink::shrink;
use steps::{Step, draw};
use tried::{Said, Twins};

/// What is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// It promises to answer a client alike as long as the endpoints are the same.
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
    /// A connection was refused, though the Service is `Cluster` and an endpoint is ready.
    Refuses,
    /// Two instances that were asked the same differ.
    Differs,
    /// A client was answered otherwise, although no endpoint changed.
    Flaps,
}

impl Flaw {
    fn name(self) -> String {
        match self {
            Self::Fault(class) => serde_json::to_value(class).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default(),
            Self::Plan => "plan fails".to_owned(),
            Self::NoOpinion => "no opinion".to_owned(),
            Self::Refuses => "refused, though an endpoint is ready".to_owned(),
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
    let local = steps.contains(&Step::Local);
    let mut twins = Twins::new(make, if local { Locality::Local } else { Locality::Cluster })?;
    let mut homes: HashMap<u64, Said> = HashMap::new();
    for step in steps {
        let said = match step {
            Step::Local => Ok(None),
            Step::Endpoints(named) => {
                homes.clear();
                twins.meet(steps::endpoints(named)).map(|()| None)
            }
            Step::Active(slot, active) => {
                twins.set_active(*slot, *active);
                Ok(None)
            }
            Step::Pick(connection) => twins.ask(connection).map(|said| said.map(|said| (connection, said))),
            Step::Report(now_ms, outcome) => twins.report(*now_ms, *outcome).map(|()| None),
        };
        match said {
            Err(flaw) => return Ok(Some(flaw)),
            Ok(Some((connection, said))) if wanted.affinity && connection.attempt == 0 => {
                if *homes.entry(connection.client_hash).or_insert(said) != said {
                    return Ok(Some(Flaw::Flaps));
                }
            }
            Ok(_) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
