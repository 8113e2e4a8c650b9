//! What balancers promise that go by live connections.

use std::collections::VecDeque;

use super::lab::{Lab, endpoints, equal};
use super::{Found, Law};
use crate::workbench::metrics::gap;
use crate::workbench::subject::{Answer, Subject};

pub(super) const LAWS: &[Law] = &[
    ("a loaded endpoint is avoided", avoids),
    ("10,000 open connections stay even over 100 endpoints", in_flight_gap),
    ("a slow endpoint gets fewer", slow),
    ("of those it looks at, none is less loaded than the one it picks", least),
];

pub(super) const FEW_LAWS: &[Law] = &[("counters that are stale do not make a herd", herd)];

pub(super) const BOUNDED_LAWS: &[Law] = &[("no endpoint gets more than its bound", bounded)];

/// Open connections by endpoint, as all workers of the subject read them.
pub(super) struct Floor {
    subject: Box<dyn Subject>,
    pub(super) active: Vec<u32>,
}

impl Floor {
    pub(super) fn new(subject: Box<dyn Subject>, endpoints: usize) -> Self {
        Self { subject, active: vec![0; endpoints] }
    }

    pub(super) fn change(&mut self, slot: usize, by: i32) {
        self.active[slot] = self.active[slot].saturating_add_signed(by);
        (0..self.subject.workers()).for_each(|worker| self.subject.set_active(worker, slot as u32, self.active[slot]));
    }

    /// One more connection; `None` where nobody was picked.
    pub(super) fn open(&mut self, lab: &mut Lab<'_>, now_ms: u64) -> Option<usize> {
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

/// Which endpoints a connection makes it look at shows in what it picks as these become busy, one after the other; then loads are drawn anew.
fn least(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    const ENDPOINTS: usize = 20;
    let mut subject = lab.subject(&equal(ENDPOINTS))?;
    let mut looked_at = 0;
    for connection in lab.connections(TRIED) {
        let mut seen: Vec<u32> = Vec::new();
        (0..ENDPOINTS).for_each(|slot| subject.set_active(0, slot as u32, 0));
        while let Answer::Slot(slot) = subject.pick(0, &connection) {
            if seen.contains(&slot) {
                break;
            }
            seen.push(slot);
            subject.set_active(0, slot, BUSY);
        }
        (0..ENDPOINTS).for_each(|slot| subject.set_active(0, slot as u32, 0));
        if seen.first().is_none_or(|first| subject.pick(0, &connection) != Answer::Slot(*first)) {
            found.skipped =
                Some("the same connection under the same loads is not always answered alike, so what it looks at is not known".to_owned());
            return Ok(());
        }
        looked_at += seen.len();
        let loads: Vec<u32> = (0..ENDPOINTS).map(|_| lab.below(10) as u32).collect();
        (0..).zip(&loads).for_each(|(slot, active)| subject.set_active(0, slot, *active));
        let less = |picked: u32| seen.iter().find(|slot| loads[**slot as usize] < loads[picked as usize]);
        match subject.pick(0, &connection) {
            Answer::Slot(slot) if !seen.contains(&slot) => {
                found.wrong(|| format!("it looked at the endpoints {seen:?} alone, and under other loads picks {slot}"));
            }
            Answer::Slot(slot) => {
                if let Some(less) = less(slot) {
                    found.wrong(|| {
                        format!(
                            "of {seen:?} it picks {slot}, which has {} connections; {less} has {}",
                            loads[slot as usize], loads[*less as usize]
                        )
                    });
                }
            }
            _ => return Err("it picks nobody".to_owned()),
        }
    }
    found.measured("looks-at", "endpoints", looked_at as f64 / TRIED as f64);
    Ok(())
}

const TRIED: u64 = 1000;
/// More than any load that is drawn.
const BUSY: u32 = 1000;

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

/// Connections of four workers come and go; three of four are those of one hot client, whose hash always says the same endpoint.
fn bounded(lab: &mut Lab<'_>, found: &mut Found) -> Result<(), String> {
    let factor = lab.bounds.factor;
    let mut worst = 0.0_f64;
    for weights in [[1; 20], std::array::from_fn(|at| 1 + at as u32 % 4)] {
        let subject = lab.subject_of(4, 5, &endpoints(&weights))?;
        let mut floor = Floor::new(subject, weights.len());
        let hot = lab.connection(0);
        let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut open: Vec<usize> = Vec::new();
        for at in 0..10_000_u64 {
            // It fills up, empties to a few, and fills again.
            let closes = if at % 4000 < 2000 { lab.below(4) == 0 } else { lab.below(4) > 0 };
            if closes && !open.is_empty() {
                let slot = open.swap_remove(lab.below(open.len()));
                floor.change(slot, -1);
                continue;
            }
            let connection = if lab.below(4) == 0 { lab.connection(at) } else { hot };
            let worker = lab.below(4);
            let Answer::Slot(slot) = floor.subject.pick(worker, &connection) else { return Err("it picks nobody".to_owned()) };
            let slot = slot as usize;
            open.push(slot);
            floor.change(slot, 1);
            let (count, weight, has) = (open.len() as f64, f64::from(weights[slot]), f64::from(floor.active[slot]));
            let bound = (factor * count * weight / all).ceil().max(1.0);
            worst = worst.max(has / bound);
            found.unless(has <= bound, || {
                format!(
                    "with {count} connections open, an endpoint with {weight} of the weight {all} gets its {has}th; the bound is {bound}"
                )
            });
        }
    }
    found.measured("most-of-the-bound", "", worst);
    Ok(())
}
