//! What balancers promise that go by live connections.

use std::collections::VecDeque;

use super::lab::{Lab, equal};
use super::{Found, Law};
use crate::workbench::metrics::gap;
use crate::workbench::subject::{Answer, Subject};

pub(super) const LAWS: &[Law] = &[
    ("a loaded endpoint is avoided", avoids),
    ("10,000 open connections stay even over 100 endpoints", in_flight_gap),
    ("a slow endpoint gets fewer", slow),
];

pub(super) const FEW_LAWS: &[Law] = &[("counters that are stale do not make a herd", herd)];

pub(super) const BOUNDED_LAWS: &[Law] = &[("no endpoint gets more than its bound", bounded)];

/// Open connections by endpoint, as the subject reads them.
struct Floor {
    subject: Box<dyn Subject>,
    active: Vec<u32>,
}

impl Floor {
    fn new(subject: Box<dyn Subject>, endpoints: usize) -> Self {
        Self { subject, active: vec![0; endpoints] }
    }

    fn change(&mut self, slot: usize, by: i32) {
        self.active[slot] = self.active[slot].saturating_add_signed(by);
        self.subject.set_active(0, slot as u32, self.active[slot]);
    }

    /// One more connection; `None` where nobody was picked.
    fn open(&mut self, lab: &mut Lab<'_>, now_ms: u64) -> Option<usize> {
        let connection = lab.connection(now_ms);
        match self.subject.pick(0, &connection) {
            Answer::Slot(slot) => {
                self.change(slot as usize, 1);
                Some(slot as usize)
            }
            _ => None,
        }
    }
}

fn avoids(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(10);
    let mut subject = lab.subject(&endpoints)?;
    subject.set_active(0, 3, 1000);
    let picks = 10_000;
    let met = lab.connections(picks).iter().filter(|connection| subject.pick(0, connection) == Answer::Slot(3)).count();
    let share = met as f64 / picks as f64;
    found.measured("share-of-the-loaded", "", share);
    // Two choices with replacement meet it twice in a row once in 100 times; at random it would be once in 10.
    found.unless(share <= 0.03, || {
        format!("an endpoint with 1,000 connections more than the nine others gets {:.1} % of new ones", share * 100.0)
    });
    Ok(())
}

/// Two choices: 2.0 on average for 10,000 balls in 100 bins, at random 24 (Berenbrink et al. 2000; measured).
const MOST_GAP: f64 = 4.0;

fn in_flight_gap(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(100);
    let subject = lab.subject(&endpoints)?;
    let mut floor = Floor::new(subject, endpoints.len());
    for at in 0..10_000 {
        floor.open(lab, at).ok_or("it picks nobody")?;
    }
    let gap = gap(floor.active.iter().map(|active| (f64::from(*active), 1.0))).unwrap_or_default();
    found.measured("in-flight-gap", "connections", gap);
    found.unless(gap <= MOST_GAP, || format!("the busiest has {gap:.0} connections above the mean; {MOST_GAP} is the most"));
    Ok(())
}

/// Closed loop: 200 connections are open all the time; those of one endpoint live ten times as long.
fn slow(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(10);
    let subject = lab.subject(&endpoints)?;
    let mut floor = Floor::new(subject, endpoints.len());
    let mut open: VecDeque<(u64, usize)> = VecDeque::new();
    let mut picks = vec![0_u64; endpoints.len()];
    for now in 0..20_000_u64 {
        let slot = floor.open(lab, now).ok_or("it picks nobody")?;
        if now >= 5000 {
            picks[slot] += 1;
        }
        let ends = now + if slot == 0 { 2000 } else { 200 };
        let at = open.partition_point(|(end, _)| *end <= ends);
        open.insert(at, (ends, slot));
        while open.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, slot)) = open.pop_front() {
                floor.change(slot, -1);
            }
        }
    }
    let mean = picks[1..].iter().sum::<u64>() as f64 / 9.0;
    let ratio = picks[0] as f64 / mean;
    found.measured("slow-to-others", "", ratio);
    found.unless(ratio <= 0.5, || {
        format!("an endpoint that holds connections ten times as long gets {ratio:.2} times what each other gets")
    });
    Ok(())
}

/// Of 100 connections that read the same loads, over 20 endpoints. Two choices take the least loaded one 10 times, and who always takes it,
/// 100 times.
const MOST_BURST: u32 = 35;

fn herd(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(20);
    let mut subject = lab.subject(&endpoints)?;
    let mut active = [0_u32; 20];
    let mut worst = 0;
    for round in 0..50 {
        let mut burst = [0_u32; 20];
        for connection in lab.connections(100) {
            if let Answer::Slot(slot) = subject.pick(0, &connection) {
                burst[slot as usize] += 1;
            }
        }
        worst = worst.max(burst.iter().copied().max().unwrap_or_default());
        for (slot, (active, burst)) in active.iter_mut().zip(burst).enumerate() {
            *active += burst;
            subject.set_active(0, slot as u32, *active);
        }
        // Time passes: half of them close.
        if round % 2 == 1 {
            active.iter_mut().for_each(|active| *active /= 2);
        }
    }
    found.measured("burst-on-one", "% of 100 connections", f64::from(worst));
    found.unless(worst <= MOST_BURST, || format!("{worst} of 100 connections that read the same loads met on one of 20 endpoints"));
    Ok(())
}

fn bounded(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let endpoints = equal(20);
    let subject = lab.subject(&endpoints)?;
    let mut floor = Floor::new(subject, endpoints.len());
    let factor = lab.bounds.factor;
    // One hot client, whose hash always says the same endpoint.
    let hot = lab.connection(0);
    let mut worst = 0.0_f64;
    for at in 0..5000_u32 {
        let connection = if at % 4 == 0 { lab.connection(u64::from(at)) } else { hot };
        let Answer::Slot(slot) = floor.subject.pick(0, &connection) else { return Err("it picks nobody".to_owned()) };
        floor.change(slot as usize, 1);
        let open = f64::from(at + 1);
        let bound = (factor * open / endpoints.len() as f64).ceil().max(1.0);
        let has = f64::from(floor.active[slot as usize]);
        worst = worst.max(has / bound);
        found.unless(has <= bound, || format!("with {open} connections open, one of 20 endpoints gets its {has}th; the bound is {bound}"));
    }
    found.measured("most-of-the-bound", "", worst);
    Ok(())
}
