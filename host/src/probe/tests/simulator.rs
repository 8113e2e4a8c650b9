//! Random histories: targets come, change and go, attempts end or are broken off, and at every step the schedule is held against a model
//! that knows the rules and nothing of the queue.

use std::collections::BTreeMap;

use super::*;
use crate::probe::schedule::{Attempt, AttemptId, Schedule};

const SEEDS: u64 = 200;
const STEPS: usize = 1_500;

/// What the rules say of one target.
struct Model {
    life: u64,
    target: Target,
    since_ms: u64,
    /// When it may be asked next, and when it must be at the latest; they differ where chance has a say.
    may_ms: u64,
    must_ms: u64,
    asking: Option<AttemptId>,
    started_ms: u64,
    /// There from the start and not asked twice yet.
    spread: bool,
    starts: u32,
    results: Vec<bool>,
    ready: Option<bool>,
}

struct World {
    random: fastrand::Rng,
    now_ms: u64,
    cap: usize,
    schedule: Schedule,
    models: BTreeMap<ProbeKey, Model>,
    /// With the time at which each ends.
    running: BTreeMap<AttemptId, (u64, ProbeKey)>,
    broken_off: Vec<AttemptId>,
    lives: u64,
    flips: usize,
    waited: usize,
}

#[test]
fn in_every_history_the_rules_hold() {
    let (mut flips, mut waited) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        (flips, waited) = (flips + world.flips, waited + world.waited);
    }
    // A history in which nothing happens proves nothing.
    assert!(flips > 1_000 && waited > 1_000, "{flips} flips, {waited} waits");
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let cap = random.usize(1..6);
        let schedule = Schedule::new(cap, random.u64(..));
        let mut world = Self {
            random,
            now_ms: 0,
            cap,
            schedule,
            models: BTreeMap::new(),
            running: BTreeMap::new(),
            broken_off: vec![],
            lives: 0,
            flips: 0,
            waited: 0,
        };
        world.rewatch();
        for model in world.models.values_mut() {
            model.spread = true;
        }
        world.start();
        world
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..4 => self.rewatch(),
            4..10 => self.late_answer(),
            _ => self.pass_time(),
        }
        self.end_what_ends();
        self.start();
    }

    /// To the next thing that happens, or a little further.
    fn pass_time(&mut self) {
        let due = self.schedule.next_due_ms().into_iter();
        let next = due.chain(self.running.values().map(|(ends_ms, _)| *ends_ms)).min();
        let late = if self.random.bool() { 0 } else { self.random.u64(0..20) };
        self.now_ms = next.unwrap_or(self.now_ms).max(self.now_ms) + late;
    }

    fn probe(&mut self) -> Probe {
        let millis = |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(0..most));
        Probe {
            initial_delay: if self.random.bool() { Duration::ZERO } else { millis(&mut self.random, 100) },
            period: Duration::from_millis(1) + millis(&mut self.random, 60),
            timeout: Duration::from_millis(1) + millis(&mut self.random, 40),
            success_threshold: self.random.u32(1..4),
            failure_threshold: self.random.u32(1..4),
            ..tcp(Some(80))
        }
    }

    /// Some targets go, some come back as others, some are asked in another way.
    fn rewatch(&mut self) {
        let mut wanted = Vec::new();
        for at in 0..10 {
            let key = container(&format!("c{at}"));
            let known = self.models.get(&key).map(|model| (model.life, model.target.clone()));
            match (self.random.u32(0..10), known) {
                (0..2, _) => {}
                (2..5, Some((life, _))) => wanted.push((life, target(key, self.probe()))),
                (5..9, Some(known)) => wanted.push(known),
                _ => {
                    self.lives += 1;
                    wanted.push((self.lives, target(key, self.probe())));
                }
            }
        }
        let broken_off = self.schedule.watch(watched(&wanted), self.now_ms);
        let mut expected = Vec::new();
        let mut models = std::mem::take(&mut self.models);
        for (life, target) in wanted {
            let known = models.remove(&target.key);
            let model = match known {
                Some(model) if model.life == life && model.target == target => model,
                Some(model) if model.life == life => {
                    expected.extend(model.asking);
                    let due_ms = (model.since_ms + millis(target.probe.initial_delay)).max(self.now_ms);
                    Model { target, asking: None, may_ms: due_ms, must_ms: due_ms, results: vec![], ..model }
                }
                other => {
                    expected.extend(other.and_then(|model| model.asking));
                    Model::new(life, target, self.now_ms)
                }
            };
            self.models.insert(model.target.key.clone(), model);
        }
        expected.extend(models.into_values().filter_map(|model| model.asking));
        expected.sort();
        let mut sorted = broken_off.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "what is broken off is what is out of date");
        self.running.retain(|id, _| !broken_off.contains(id));
        self.broken_off.extend(broken_off);
    }

    /// An attempt that was broken off answers all the same.
    fn late_answer(&mut self) {
        if let Some(id) = self.broken_off.pop() {
            assert_eq!(self.schedule.finished(id, &success(), self.now_ms), None);
        }
    }

    fn end_what_ends(&mut self) {
        let ended: Vec<AttemptId> = self.running.iter().filter(|(_, (ends_ms, _))| *ends_ms <= self.now_ms).map(|(id, _)| *id).collect();
        for id in ended {
            let (_, key) = self.running.remove(&id).unwrap();
            let answer = match self.random.u32(0..10) {
                0 => Answer { verdict: Verdict::Unknown, message: String::new() },
                1..6 => success(),
                _ => failure(),
            };
            let flip = self.schedule.finished(id, &answer, self.now_ms);
            let model = self.models.get_mut(&key).unwrap();
            let expected = model.ended(&answer, self.now_ms).map(|ready| (key.clone(), model.life, ready));
            assert_eq!(flip.map(|flip| (flip.key, flip.life, flip.ready)), expected);
            self.flips += usize::from(expected.is_some());
        }
    }

    fn start(&mut self) {
        while let Some(Attempt { id, target }) = self.schedule.next(self.now_ms) {
            let Self { models, random, now_ms, .. } = self;
            let before_us =
                models.values().filter(|model| model.asking.is_none() && model.may_ms == model.must_ms).map(|model| model.must_ms).min();
            let model = models.get_mut(&target.key).unwrap();
            assert_eq!(target, model.target);
            assert_eq!(model.asking, None, "never two at a time");
            assert!(*now_ms >= model.may_ms, "not before its time");
            assert!(before_us.is_none_or(|before_us| before_us >= model.may_ms), "nobody is overtaken");
            self.waited += usize::from(*now_ms > model.must_ms);
            model.started(id, *now_ms);
            let ends_ms = *now_ms + random.u64(0..=millis(model.target.probe.timeout));
            self.running.insert(id, (ends_ms, target.key));
            assert!(self.running.len() <= self.cap, "never more than may be");
        }
        assert_eq!(self.schedule.in_flight(), self.running.len());
        let now_ms = self.now_ms;
        let due = |model: &Model| model.asking.is_none() && model.must_ms <= now_ms;
        assert!(self.running.len() == self.cap || !self.models.values().any(due), "whoever is due is asked where there is a place");
        match self.schedule.next_due_ms() {
            None => assert!(self.running.len() == self.cap || self.models.values().all(|model| model.asking.is_some())),
            Some(due_ms) => {
                assert!(self.models.values().any(|model| model.asking.is_none() && (model.may_ms..=model.must_ms).contains(&due_ms)));
            }
        }
    }
}

impl Model {
    fn new(life: u64, target: Target, now_ms: u64) -> Self {
        let due_ms = now_ms + millis(target.probe.initial_delay);
        Self {
            life,
            target,
            since_ms: now_ms,
            may_ms: due_ms,
            must_ms: due_ms,
            asking: None,
            started_ms: 0,
            spread: false,
            starts: 0,
            results: vec![],
            ready: None,
        }
    }

    fn started(&mut self, id: AttemptId, now_ms: u64) {
        (self.asking, self.started_ms) = (Some(id), now_ms);
        self.starts += 1;
    }

    /// Takes a result in; gives the state where that is news.
    fn ended(&mut self, answer: &Answer, now_ms: u64) -> Option<bool> {
        self.asking = None;
        let period = millis(self.target.probe.period);
        let least = if self.spread && self.starts == 1 { period.div_ceil(2) } else { period };
        self.may_ms = (self.started_ms + least).max(now_ms);
        self.must_ms = (self.started_ms + period).max(now_ms);
        let ready = match answer.verdict {
            Verdict::Success => true,
            Verdict::Failure => false,
            Verdict::Unknown => return None,
        };
        self.results.push(ready);
        let threshold = if ready { self.target.probe.success_threshold } else { self.target.probe.failure_threshold };
        let in_a_row = self.results.iter().rev().take_while(|result| **result == ready).count();
        let news = in_a_row >= threshold as usize && self.ready != Some(ready);
        self.ready = if news { Some(ready) } else { self.ready };
        news.then_some(ready)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
