#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, endpoints, port, setting};

fn set(settings: &[(&str, &str)]) -> ServicePort {
    ServicePort { settings: settings.iter().map(|(key, value)| setting(key, value)).collect(), ..port(0) }
}

/// Balancers, one for each worker, whose endpoints' counters follow their picks.
struct Scene {
    workers: Vec<NativeBalancer<BoundedMaglev>>,
    weights: Vec<u32>,
    factor: u64,
    active: RefCell<Vec<u32>>,
    asked: Cell<usize>,
    /// How many picks there were: each has random bits of its own.
    n: u64,
}

impl Scene {
    fn new(workers: usize, factor: u32, weights: &[u32]) -> Self {
        let worker = |seed| {
            let mut balancer = NativeBalancer::new(&[], seed).unwrap();
            balancer.plan(&set(&[("balance-factor", &factor.to_string())]), 0, &endpoints(weights)).unwrap();
            balancer
        };
        Self {
            workers: (0..workers as u64).map(worker).collect(),
            weights: weights.to_vec(),
            factor: factor.into(),
            active: RefCell::new(vec![0; weights.len()]),
            asked: Cell::new(0),
            n: 0,
        }
    }

    /// Where a worker sends a client; it is not counted yet.
    fn pick(&mut self, worker: usize, client: u64) -> usize {
        self.asked.set(0);
        let load = |_, slot: Slot| {
            self.asked.set(self.asked.get() + 1);
            self.active.borrow()[slot as usize]
        };
        self.n += 1;
        let random = connection(0, self.n).random;
        self.workers[worker].pick(&Connection { random, ..connection(0, client) }, 0, &load).unwrap() as usize
    }

    fn enter(&mut self, client: u64) -> usize {
        let slot = self.pick(0, client);
        self.active.borrow_mut()[slot] += 1;
        slot
    }

    fn leave(&self, slot: usize) {
        self.active.borrow_mut()[slot] -= 1;
    }

    /// ⌈c · m · w / W⌉ of an endpoint, where m are the connections there are, and so many more.
    fn bound(&self, slot: usize, more: u64) -> u32 {
        let total: u64 = self.active.borrow().iter().map(|active| u64::from(*active)).sum();
        let weights: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        (self.factor * (total + more) * u64::from(self.weights[slot])).div_ceil(100 * weights) as u32
    }
}

/// Clients: each its own, or a hundred of them, or one.
const CLIENTS: [u64; 3] = [u64::MAX, 100, 1];

#[test]
fn nobody_has_more_than_the_bound_when_a_connection_is_placed() {
    for weights in [vec![1; 3], vec![1; 10], vec![1; 100], vec![1; 256], vec![1, 5, 0, 2, 2, 7], vec![1, 1000]] {
        for (factor, clients) in [100, 101, 125, 200].into_iter().flat_map(|factor| CLIENTS.map(|clients| (factor, clients))) {
            let mut scene = Scene::new(1, factor, &weights);
            let mut held = Vec::new();
            for n in 0..3_000u64 {
                let random = mix(n);
                // Grows to some 500, and falls again.
                let coming = if n < 2_000 { 5 } else { 3 };
                if random % 8 < coming || held.is_empty() {
                    let slot = scene.enter(random % clients);
                    let (active, bound) = (scene.active.borrow()[slot], scene.bound(slot, 0));
                    assert!(active <= bound, "{slot} of {weights:?} has {active}, {factor} % are {bound}");
                    held.push(slot);
                } else {
                    scene.leave(held.swap_remove((random >> 8) as usize % held.len()));
                }
            }
        }
    }
}

#[test]
fn with_many_workers_by_as_many_more_as_decide_at_once() {
    const WORKERS: usize = 16;
    let mut scene = Scene::new(WORKERS, 125, &[1; 20]);
    let mut most = 0;
    for round in 0..200u64 {
        // All decide before one of them is counted; one hot client among others.
        let picks: Vec<usize> =
            (0..WORKERS).map(|worker| scene.pick(worker, if worker % 2 == 0 { 7 } else { round * 100 + worker as u64 })).collect();
        for slot in picks {
            scene.active.borrow_mut()[slot] += 1;
            most = most.max(scene.active.borrow()[slot].saturating_sub(scene.bound(slot, 0)));
        }
    }
    println!("{WORKERS} workers at once: at most {most} beyond the bound");
    assert!(most < WORKERS as u32, "{most}");
}

/// 1,000 endpoints: 64 are counted at a pick, and what closed since is still in the sum.
#[test]
fn of_many_endpoints_by_what_closed_since_they_were_counted() {
    let count = 1_000;
    for clients in CLIENTS {
        let mut scene = Scene::new(1, 125, &vec![1; count]);
        let (mut held, mut closed) = (Vec::new(), VecDeque::from([0u64; 16]));
        let mut beyond = 0;
        for n in 0..30_000u64 {
            let random = mix(n);
            let slot = scene.enter(random % clients);
            assert!(scene.asked.get() <= 1 + REFRESHED + (DRAWS + CHANCES) as usize, "{}", scene.asked.get());
            held.push(slot);
            let stale: u64 = closed.iter().sum();
            // A fresh worker thinks that those it has not seen have as many as the others.
            if n > 1_000 {
                let active = scene.active.borrow()[slot];
                assert!(active <= scene.bound(slot, stale), "{active} connections, {} and for {stale} that closed", scene.bound(slot, 0));
                beyond += u32::from(active > scene.bound(slot, 0));
            }
            let leaving = if held.len() > 5_000 { (random >> 40) % 3 } else { 0 };
            for _ in 0..leaving {
                scene.leave(held.swap_remove((mix(random) >> 8) as usize % held.len()));
            }
            closed.push_back(leaving);
            closed.pop_front();
        }
        println!("{clients} clients: {beyond} of 29,000 connections were placed beyond the bound");
    }
}

#[test]
fn without_load_it_is_maglev() {
    const WEIGHTS: [u32; 5] = [1, 2, 3, 0, 1];
    let members = endpoints(&WEIGHTS);
    let table = Table::of(&eligible(&members), TableSize::default()).unwrap();
    let mut balancer = NativeBalancer::<BoundedMaglev>::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, &members).unwrap();
    for n in 0..1_000 {
        for attempt in 0..3 {
            let connection = Connection { attempt, ..connection(0, n) };
            let home = table.at(hash_of_attempt(connection.client_hash, attempt));
            assert_eq!(balancer.pick(&connection, 0, &Idle), home);
            let even = |_, slot: Slot| 9 * WEIGHTS[slot as usize];
            assert_eq!(balancer.pick(&connection, 0, &even), home, "nor where everybody has their share");
        }
    }
}

/// 10,000 clients with a connection each, at 100 endpoints: how many are where `maglev` would have them.
#[test]
fn most_clients_are_at_their_endpoint() {
    let members = endpoints(&[1; 100]);
    let table = Table::of(&eligible(&members), TableSize::default()).unwrap();
    for (factor, least) in [(100, 0.5), (110, 0.9), (125, 0.97), (150, 0.99)] {
        let mut scene = Scene::new(1, factor, &[1; 100]);
        let home = |n| table.at(connection(0, n).client_hash).unwrap() as usize;
        let at_home = (0..10_000).filter(|n| scene.enter(*n) == home(*n)).count() as f64 / 10_000.0;
        let most = *scene.active.borrow().iter().max().unwrap();
        println!("{factor} %: {:.1} % of the clients are at their endpoint, the fullest has {most} where 100 is the mean", 100.0 * at_home);
        assert!(at_home >= least && most <= factor, "{factor}: {at_home}, {most}");
    }
}

/// The clients of one full endpoint spread over the others, and are the same elsewhere each time.
#[test]
fn overflow_does_not_cascade() {
    let members = endpoints(&[1; 20]);
    let table = Table::of(&eligible(&members), TableSize::default()).unwrap();
    let mut balancer = NativeBalancer::<BoundedMaglev>::new(&[], 0).unwrap();
    balancer.plan(&port(0), 0, &members).unwrap();
    let mut elsewhere = [0u32; 20];
    for n in (0..40_000).filter(|n| table.at(connection(0, *n).client_hash) == Some(4)) {
        let load = |_, slot: Slot| if slot == 4 { 100 } else { 50 };
        let slot = balancer.pick(&connection(0, n), 0, &load).unwrap();
        assert_eq!(balancer.pick(&Connection { random: 1, now_ms: 2, ..connection(0, n) }, 0, &load), Some(slot));
        elsewhere[slot as usize] += 1;
    }
    assert_eq!(elsewhere[4], 0);
    // Some 2,000 of them, 105 each, ± 5 standard deviations.
    assert!(elsewhere.iter().enumerate().all(|(slot, count)| slot == 4 || (50..160).contains(count)), "{elsewhere:?}");
}

#[test]
fn with_no_slack_it_still_finds_the_one_with_room() {
    for n in 0..256 {
        let mut balancer = NativeBalancer::<BoundedMaglev>::new(&[], 0).unwrap();
        balancer.plan(&set(&[("balance-factor", "100%")]), 0, &endpoints(&[1; 256])).unwrap();
        assert_eq!(balancer.pick(&connection(0, u64::from(n)), 0, &|_, slot: Slot| if slot == n { 6 } else { 7 }), Some(n));
    }
}

#[test]
fn a_client_whose_endpoint_has_little_is_placed_after_few_looks() {
    let mut scene = Scene::new(1, 125, &[1; 100]);
    scene.pick(0, 3);
    assert_eq!(scene.asked.get(), 1, "an idle one always has room");
    scene.active.borrow_mut().fill(10);
    let slot = scene.pick(0, 3);
    assert!((80..=84).contains(&scene.asked.get()), "10 · 100 / 125 of 10 each: {}", scene.asked.get());
    scene.active.borrow_mut()[slot] = 2;
    scene.pick(0, 3);
    assert!(scene.asked.get() <= 20, "{}", scene.asked.get());
}

#[test]
fn the_settings() {
    let members = endpoints(&[1; 8]);
    let mut balancer = NativeBalancer::<BoundedMaglev>::new(&[], 0).unwrap();
    for wrong in ["", "99", "1001", "1.25", "-125", "some", "125 %"] {
        let refused = balancer.plan(&set(&[("balance-factor", wrong)]), 0, &members).unwrap_err();
        assert_eq!(refused, format!("balance-factor is `{wrong}`; it must be a whole percentage from 100 to 1000, such as 125"));
    }
    assert!(balancer.plan(&set(&[("table-size", "1000")]), 0, &members).unwrap_err().contains("a prime"));
    assert!(balancer.plan(&set(&[("table-size", "7")]), 0, &members).unwrap_err().contains("8 endpoints"));
    let refused = balancer.plan(&set(&[("factor", "125")]), 0, &members).unwrap_err();
    assert_eq!(refused, "there is no setting `factor`; there is balance-factor, table-size");

    // Of 8 with 8 connections each, 100 % leaves no room for an endpoint that has 10, and 125 % does: ⌈1.25 · 67 / 8⌉ = 11.
    let moved = |balancer: &mut NativeBalancer<BoundedMaglev>, port: &ServicePort, active: u32| {
        balancer.plan(port, 0, &members).unwrap();
        let home = balancer.pick(&connection(0, 0), 0, &Idle).unwrap();
        balancer.pick(&connection(0, 0), 0, &|_, slot: Slot| if slot == home { active } else { 8 }) != Some(home)
    };
    let full = |balancer: &mut NativeBalancer<BoundedMaglev>, settings: &[(&str, &str)]| {
        [9, 10, 11, 17].map(|active| moved(balancer, &set(settings), active))
    };
    assert_eq!(full(&mut balancer, &[]), [false, false, true, true]);
    assert_eq!(full(&mut balancer, &[("balance-factor", "100")]), [true, true, true, true]);
    assert_eq!(full(&mut balancer, &[("balance-factor", "200%")]), [false, false, false, false]);
    let mut host_wide = NativeBalancer::<BoundedMaglev>::new(&[setting("balance-factor", "100")], 0).unwrap();
    assert_eq!(full(&mut host_wide, &[]), [true, true, true, true]);
    assert_eq!(full(&mut host_wide, &[("balance-factor", "125")]), [false, false, true, true], "a Service's own comes first");
    assert!(NativeBalancer::<BoundedMaglev>::new(&[setting("balance-factor", "9")], 0).is_err());
}

#[test]
fn one_and_nobody() {
    let mut balancer = NativeBalancer::<BoundedMaglev>::new(&[], 0).unwrap();
    for weights in [&[][..], &[0, 0]] {
        balancer.plan(&port(0), 0, &endpoints(weights)).unwrap();
        assert_eq!(balancer.pick(&connection(0, 0), 0, &Idle), None);
    }
    balancer.plan(&port(0), 0, &[endpoint(5, "a:1", u32::MAX)]).unwrap();
    assert_eq!(balancer.pick(&connection(0, 0), 0, &|_, _| u32::MAX), Some(5));
    balancer.plan(&port(0), 0, &endpoints(&vec![u32::MAX; 300])).unwrap();
    assert!(balancer.pick(&connection(0, 0), 0, &|_, _| u32::MAX).is_some());
}
