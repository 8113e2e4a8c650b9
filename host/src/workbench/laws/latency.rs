//! What balancers promise that go by how long an endpoint takes to connect to.

use pointsman_sdk::types::{Endpoint, Outcome, OutcomeKind};

use super::lab::{Lab, equal};
use super::{Found, Law};
use crate::workbench::subject::{Answer, Subject};

pub(super) const LAWS: &[Law] = &[
    ("an endpoint that is slow to connect to gets little", avoided),
    ("and comes back when it is quick again", comes_back),
    ("an endpoint that refuses at once does not attract", refusing),
];

/// Of ten endpoints; chance would give each a tenth.
const ENDPOINTS: usize = 10;
const MOST_SHARE: f64 = 0.01;
/// Half of its part is not yet all of it.
const LEAST_SHARE: f64 = 0.05;
/// The first connections teach.
const LEARNT: u64 = 100;
const PICKS: u64 = 5000;

/// Connections 5 ms apart, none of which stays; the share of endpoint 0, whose connections end as `first` says, and all others' within 2 ms.
struct Route {
    subject: Box<dyn Subject>,
    endpoints: Vec<Endpoint>,
    now_ms: u64,
}

impl Route {
    fn new(lab: &mut Lab<'_>) -> Result<Self, String> {
        let endpoints = equal(ENDPOINTS);
        Ok(Self { subject: lab.subject(&endpoints)?, endpoints, now_ms: 0 })
    }

    fn share(&mut self, lab: &mut Lab<'_>, picks: u64, first: (OutcomeKind, u32)) -> Result<f64, String> {
        let mut of_first = 0;
        for _ in 0..picks {
            self.now_ms += 5;
            let connection = lab.connection(self.now_ms);
            let Answer::Slot(slot) = self.subject.pick(0, &connection) else { return Err("it picks nobody".to_owned()) };
            of_first += u64::from(slot == 0);
            let (kind, millis) = if slot == 0 { first } else { (OutcomeKind::Connected, 2) };
            let outcome = Outcome { service: 0, endpoint: self.endpoints[slot as usize].hash, kind, millis };
            self.subject.report(0, self.now_ms, &[outcome]).map_err(|fault| format!("told of an outcome: a fault ({fault:?})"))?;
        }
        Ok(of_first as f64 / picks as f64)
    }
}

fn avoided(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    judge(lab, found, "takes 200 ms to connect to", (OutcomeKind::Connected, 200))
}

fn refusing(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    judge(lab, found, "refuses at once", (OutcomeKind::Refused, 0))
}

fn judge(lab: &mut Lab<'_>, found: &mut Found, what: &str, first: (OutcomeKind, u32)) -> Result<(), String> {
    let mut route = Route::new(lab)?;
    route.share(lab, LEARNT, first)?;
    let share = route.share(lab, PICKS, first)?;
    found.measured("share", "", share);
    found.unless(share <= MOST_SHARE, || {
        format!("one of {ENDPOINTS} endpoints {what}, the others take 2 ms; it gets {:.1} % of the connections", share * 100.0)
    });
    Ok(())
}

fn comes_back(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let mut route = Route::new(lab)?;
    route.share(lab, PICKS, (OutcomeKind::Connected, 200))?;
    // Two minutes: a memory of 10 s has faded to six millionths.
    let quick = (OutcomeKind::Connected, 2);
    route.share(lab, 24_000, quick)?;
    let share = route.share(lab, PICKS, quick)?;
    found.measured("share", "", share);
    found.unless(share >= LEAST_SHARE, || {
        format!("one of {ENDPOINTS} endpoints is quick again for two minutes; it gets {:.1} % of the connections", share * 100.0)
    });
    Ok(())
}
