//! When who is asked and what counts.

use super::*;
use crate::probe::schedule::{Attempt, Flip, Schedule};

/// One target, asked in order; returns its flips as (time, ready).
struct One {
    schedule: Schedule,
    now_ms: u64,
}

impl One {
    fn new(probe: Probe) -> Self {
        let mut schedule = Schedule::new(1, 0);
        // Somebody else was there from the start, so that nothing is left to chance.
        schedule
            .watch(watched(&[(1, target(container("other"), Probe { initial_delay: Duration::from_secs(1 << 40), ..probe.clone() }))]), 0);
        let mut one = Self { schedule, now_ms: 0 };
        one.watch(7, probe);
        one
    }

    fn watch(&mut self, life: u64, probe: Probe) {
        let other = Probe { initial_delay: Duration::from_secs(1 << 40), ..tcp(Some(1)) };
        self.schedule.watch(watched(&[(1, target(container("other"), other)), (life, target(container("a"), probe))]), self.now_ms);
    }

    /// Goes to the next attempt.
    fn next(&mut self) -> Attempt {
        self.now_ms = self.schedule.next_due_ms().unwrap().max(self.now_ms);
        self.schedule.next(self.now_ms).unwrap()
    }

    /// The next attempt, answered `took_ms` later.
    fn answer(&mut self, answer: &Answer, took_ms: u64) -> Option<Flip> {
        let attempt = self.next();
        self.now_ms += took_ms;
        self.schedule.finished(attempt.id, answer, self.now_ms)
    }
}

fn every(period_ms: u64) -> Probe {
    Probe { period: Duration::from_millis(period_ms), ..tcp(Some(80)) }
}

#[test]
fn results_count_when_they_come_often_enough_in_a_row() {
    // s: success, f: failure, u: not asked. Upper case where the state is established or flips with this result.
    for (case, successes, failures, script) in [
        ("kubernetes' defaults", 1, 3, "SsffFffSffsffFS"),
        ("failures from the start", 1, 3, "ffFffS"),
        ("two successes", 2, 1, "FsSFsfsSssF"),
        ("success at last", 3, 2, "fFssfssSfsfF"),
        ("an attempt that was not made counts for nothing", 2, 3, "suSfufFuusS"),
        ("thresholds of nothing are thresholds of one", 0, 0, "FSF"),
    ] {
        let mut one = One::new(Probe { success_threshold: successes, failure_threshold: failures, ..every(1_000) });
        for (at, step) in script.chars().enumerate() {
            let answer = match step.to_ascii_lowercase() {
                's' => success(),
                'f' => failure(),
                _ => Answer { verdict: Verdict::Unknown, message: String::new() },
            };
            let flip = one.answer(&answer, 1).map(|flip| flip.ready);
            let expected = step.is_ascii_uppercase().then_some(step == 'S');
            assert_eq!(flip, expected, "{case}: step {at} of {script}");
        }
    }
}

#[test]
fn a_flip_says_why() {
    let mut one = One::new(every(1_000));
    let flips: Vec<Option<Flip>> = [success(), failure(), failure(), failure()].iter().map(|answer| one.answer(answer, 1)).collect();
    let said = |ready, reason: &str| Some(Flip { key: container("a"), life: 7, ready, reason: reason.to_owned() });
    assert_eq!(flips, [said(true, "it answered"), None, None, said(false, "3 times in a row, last: it did not")]);
}

#[test]
fn the_first_attempt_waits_for_the_initial_delay_and_the_others_for_the_period() {
    let mut one = One::new(Probe { initial_delay: Duration::from_secs(15), period: Duration::from_secs(10), ..tcp(Some(80)) });
    let mut times = Vec::new();
    // The third takes longer than a period: the next comes at once, and the period begins anew with it.
    for took_ms in [0, 900, 13_000, 900, 0] {
        let attempt = one.next();
        times.push(one.now_ms);
        assert_eq!(one.schedule.next(one.now_ms).map(|attempt| attempt.target.key), None, "one at a time");
        one.now_ms += took_ms;
        one.schedule.finished(attempt.id, &success(), one.now_ms);
    }
    assert_eq!(times, [15_000, 25_000, 35_000, 48_000, 58_000]);
}

#[test]
fn another_probe_counts_anew_and_another_life_begins_anew() {
    let mut one = One::new(Probe { initial_delay: Duration::from_secs(5), ..every(1_000) });
    assert!(one.answer(&success(), 1).is_some_and(|flip| flip.ready));
    one.answer(&failure(), 1);
    one.answer(&failure(), 1);
    let changed_ms = one.now_ms;
    let other = Probe { initial_delay: Duration::from_secs(5), timeout: Duration::from_secs(2), ..every(1_000) };
    one.watch(7, other.clone());
    assert_eq!(one.answer(&failure(), 1), None);
    assert_eq!(one.now_ms, changed_ms + 1, "asked at once: the delay is over");
    assert_eq!(one.answer(&success(), 1), None, "it was ready all the time");
    one.watch(8, other);
    let begun_ms = one.now_ms;
    let flip = one.answer(&success(), 1).unwrap();
    assert_eq!((flip.ready, flip.life, one.now_ms), (true, 8, begun_ms + 5_001));
}

#[test]
fn what_is_broken_off_does_not_count() {
    let mut one = One::new(every(1_000));
    let old = one.next();
    let other = Probe { timeout: Duration::from_secs(2), ..every(1_000) };
    let broken_off = one.schedule.watch(watched(&[(7, target(container("a"), other))]), one.now_ms);
    assert_eq!(broken_off, [old.id]);
    assert_eq!(one.schedule.in_flight(), 0);
    assert_eq!(one.schedule.finished(old.id, &success(), one.now_ms), None);
    let new = one.next();
    assert_eq!(one.schedule.watch(Watched::new(), one.now_ms), [new.id]);
    assert_eq!((one.schedule.next_due_ms(), one.schedule.in_flight()), (None, 0));
}

#[test]
fn those_who_are_there_at_the_start_are_asked_at_once_and_then_apart() {
    let targets: Vec<_> = (0..200).map(|at| (at, target(container(&format!("c{at}")), every(10_000)))).collect();
    let mut schedule = Schedule::new(1_000, 42);
    schedule.watch(watched(&targets), 0);
    let first: Vec<Attempt> = std::iter::from_fn(|| schedule.next(0)).collect();
    assert_eq!(first.len(), 200);
    for attempt in first {
        schedule.finished(attempt.id, &success(), 1);
    }
    let mut starts = Vec::new();
    while let Some(due_ms) = schedule.next_due_ms() {
        starts.push(due_ms);
        schedule.next(due_ms).unwrap();
    }
    assert!(starts[0] >= 5_000 && *starts.last().unwrap() <= 10_000, "{starts:?}");
    let most = (0..10).map(|part| starts.iter().filter(|start| (**start - 5_000) / 500 == part).count()).max();
    assert!(most < Some(60), "spread evenly, 20 in each tenth are expected: {starts:?}");
}

#[test]
fn those_over_the_cap_wait_their_turn_and_are_counted() {
    let targets: Vec<_> = (0..5).map(|at| (at, target(container(&format!("c{at}")), every(1_000)))).collect();
    let mut schedule = Schedule::new(2, 0);
    schedule.watch(watched(&targets), 0);
    let mut order = Vec::new();
    for now_ms in 0..4 {
        while let Some(attempt) = schedule.next(now_ms) {
            order.push(attempt);
        }
        assert_eq!(schedule.in_flight(), 2);
        assert_eq!(schedule.next_due_ms(), None, "nobody needs to look before one ends");
        schedule.finished(order[usize::try_from(now_ms).unwrap()].id, &success(), now_ms);
    }
    let names: Vec<String> = order.iter().map(|attempt| attempt.target.key.to_string()).collect();
    let expected: Vec<String> = (0..5).map(|at| format!("Pod default/web, container c{at}")).collect();
    assert_eq!(names[..5], expected);
    assert_eq!(schedule.held(), 3);
}
