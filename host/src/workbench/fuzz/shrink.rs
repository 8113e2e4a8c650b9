//! Makes an input small: steps are left out, sets cut down, numbers brought to zero, as long as the flaw still shows (delta debugging;
//! Zeller and Hildebrandt 2002).

use pointsman_sdk::types::Connection;

use super::steps::Step;

/// Runs of an input that shrinking may take: at some 100 µs for a step, seconds.
const RUNS: u32 = 1000;

/// The smallest that was found for which `shows` is still true.
pub(super) fn shrink(mut steps: Vec<Step>, mut shows: impl FnMut(&[Step]) -> Result<bool, String>) -> Result<Vec<Step>, String> {
    let mut runs = 0;
    let mut still = |steps: &[Step]| -> Result<bool, String> {
        runs += 1;
        Ok(runs <= RUNS && shows(steps)?)
    };
    loop {
        let before = steps.clone();
        let mut length = steps.len() / 2;
        while length > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + length).min(steps.len()));
                if still(&fewer)? {
                    steps = fewer;
                } else {
                    at += length;
                }
            }
            length /= 2;
        }
        for at in 0..steps.len() {
            for simpler in simpler(&steps[at]) {
                let mut changed = steps.clone();
                changed[at] = simpler;
                if still(&changed)? {
                    // The others were made from what it was.
                    steps = changed;
                    break;
                }
            }
        }
        if steps == before {
            return Ok(steps);
        }
    }
}

/// What a step could be instead, the boldest first.
fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Endpoints(named) => {
            let half = named.len() / 2;
            let mut sets: Vec<Vec<(u32, u32)>> = vec![named[..half].to_vec(), named[half..].to_vec()];
            sets.extend((0..named.len().min(20)).map(|at| {
                let mut fewer = named.clone();
                fewer.remove(at);
                fewer
            }));
            sets.push((0..).zip(named).map(|(number, (_, weight))| (number + 1, *weight)).collect());
            sets.push(named.iter().map(|(number, _)| (*number, 1)).collect());
            sets.into_iter().filter(|set| !set.is_empty() && set != named).map(Step::Endpoints).collect()
        }
        Step::Pick(connection) => {
            let plain = pointsman_sdk::native::connection(0, 0);
            let changes: [fn(&mut Connection, &Connection); 8] = [
                |c, plain| (c.client_hi, c.client_lo) = (plain.client_hi, plain.client_lo),
                |c, plain| c.random = plain.random,
                |c, _| c.random = 0,
                |c, _| c.attempt = 0,
                |c, _| c.client_hash = 0,
                |c, _| c.client_port = 0,
                |c, plain| (c.frontend, c.origin) = (plain.frontend, plain.origin),
                |c, _| c.now_ms = 0,
            ];
            let changed = changes.map(|change| {
                let mut connection = *connection;
                change(&mut connection, &plain);
                connection
            });
            changed.into_iter().filter(|changed| changed != connection).map(Step::Pick).collect()
        }
        Step::Active(slot, active) if *active > 0 => vec![Step::Active(*slot, 0), Step::Active(*slot, 1)],
        Step::Local | Step::Active(..) | Step::Report(..) => Vec::new(),
    }
}
