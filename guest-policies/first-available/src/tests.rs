#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};

use super::*;
use pointsman_sdk::native::{NativeBalancer, connection, endpoint, port, setting};

fn of(max_connections: &str) -> ServicePort {
    ServicePort { settings: vec![setting("max-connections", max_connections)], ..port(0) }
}

/// In the order of their keys.
fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().zip(0..).map(|(weight, slot)| endpoint(slot, &format!("pod-{slot:05}:80"), *weight)).collect()
}

/// A balancer whose endpoints' counters follow its picks.
struct Scene {
    balancer: NativeBalancer<FirstAvailable>,
    active: RefCell<Vec<u32>>,
    asked: Cell<usize>,
    n: u64,
}

impl Scene {
    fn new(max_connections: &str, weights: &[u32]) -> Self {
        let mut balancer = NativeBalancer::new(&[], 0).unwrap();
        balancer.plan(&of(max_connections), 0, &endpoints(weights)).unwrap();
        Self { balancer, active: RefCell::new(vec![0; weights.len()]), asked: Cell::new(0), n: 0 }
    }

    fn pick(&mut self, attempt: u32) -> Slot {
        self.asked.set(0);
        self.n += 1;
        let load = |_, slot: Slot| {
            self.asked.set(self.asked.get() + 1);
            self.active.borrow()[slot as usize]
        };
        self.balancer.pick(&Connection { attempt, ..connection(0, self.n) }, 0, &load).unwrap()
    }

    /// A connection that stays.
    fn enter(&mut self) -> Slot {
        let slot = self.pick(0);
        self.active.borrow_mut()[slot as usize] += 1;
        slot
    }

    fn leave(&self, slot: usize) {
        self.active.borrow_mut()[slot] -= 1;
    }
}

#[test]
fn one_after_the_other_is_filled() {
    let mut scene = Scene::new("2", &[1, 1, 1]);
    assert_eq!((0..6).map(|_| scene.enter()).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    scene.leave(1);
    assert_eq!([scene.enter(), scene.enter()], [1, 0], "first where there is room, then the least loaded");
    assert_eq!((0..5).map(|_| scene.enter()).collect::<Vec<_>>(), [1, 2, 0, 1, 2], "and so on, evenly");
}

#[test]
fn weight_is_room() {
    let mut scene = Scene::new("2", &[1, 3, 0, 1]);
    assert_eq!((0..10).map(|_| scene.enter()).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1, 1, 1, 3, 3]);
    let over: Vec<Slot> = (0..10).map(|_| scene.enter()).collect();
    let counts = [0, 1, 2, 3].map(|slot| over.iter().filter(|pick| **pick == slot).count());
    assert_eq!(counts, [2, 6, 0, 2], "beyond that, least loaded for the weight");
}

#[test]
fn the_order_is_that_of_the_keys() {
    let mut balancer = NativeBalancer::<FirstAvailable>::new(&[], 0).unwrap();
    let members = [endpoint(0, "10.0.0.2:80", 1), endpoint(1, "10.0.0.10:80", 1), endpoint(2, "10.0.0.1:80", 1)];
    balancer.plan(&of("1"), 0, &members).unwrap();
    let full = Cell::new(0);
    let mut order = Vec::new();
    for n in 0..3 {
        let slot = balancer.pick(&connection(0, n), 0, &|_, slot: Slot| u32::from(full.get() >> slot & 1 == 1)).unwrap();
        full.set(full.get() | 1 << slot);
        order.push(slot);
    }
    assert_eq!(order, [1, 2, 0], "as text: `10:` before `1:` before `2:`");
}

#[test]
fn another_attempt_goes_to_the_next_with_room() {
    let mut scene = Scene::new("1", &[1; 4]);
    assert_eq!([0, 1, 2, 3].map(|attempt| scene.pick(attempt)), [0, 1, 2, 3]);
    scene.enter();
    assert_eq!([0, 1, 2].map(|attempt| scene.pick(attempt)), [1, 2, 3]);
    assert_eq!(scene.pick(3), 1, "nobody is left with room: the least loaded");
}

/// Connections come and go at random; a model looks at every endpoint.
#[test]
fn while_64_are_full_at_most_it_is_always_the_first_with_room() {
    for (count, connections) in [(5, 30), (64, 500), (2000, 500)] {
        let mut scene = Scene::new("4", &vec![1; count]);
        let mut held: Vec<Slot> = Vec::new();
        for n in 0..20_000u64 {
            let random = pointsman_sdk::hash::mix(n);
            if held.len() < connections && random & 1 == 0 {
                let first = scene.active.borrow().iter().position(|active| *active < 4).map(|first| first as Slot);
                let slot = scene.enter();
                assert!(first.is_none_or(|first| first == slot), "{slot} of {count}, where {first:?} had room");
                held.push(slot);
            } else if !held.is_empty() {
                let gone = held.swap_remove((random >> 8) as usize % held.len());
                scene.leave(gone as usize);
            }
        }
    }
}

#[test]
fn of_thousands_few_are_asked_and_no_room_is_missed_for_long() {
    let mut scene = Scene::new("2", &vec![1; 3000]);
    for n in 0..6000 {
        assert_eq!(scene.enter(), n / 2, "filling needs no luck");
        assert!(scene.asked.get() <= 2 * EXAMINED);
    }
    // All full: 3,000 are looked through in 47 picks.
    scene.leave(1500);
    let picks = (1..).find(|_| scene.enter() == 1500).unwrap();
    assert!(picks <= 47, "{picks}");
    assert!(scene.asked.get() <= 2 * EXAMINED);

    // A fresh plan learns within as many.
    scene.balancer.plan(&of("2"), 0, &endpoints(&vec![1; 3000])).unwrap();
    scene.active.borrow_mut()[2900] = 0;
    let picks = (1..).find(|_| scene.enter() == 2900).unwrap();
    assert!(picks <= 47, "{picks}");
}

#[test]
fn the_setting() {
    let members = endpoints(&[1; 2]);
    let mut balancer = NativeBalancer::<FirstAvailable>::new(&[], 0).unwrap();
    for wrong in ["", "0", "-1", "1.5", "lots", "4294967296"] {
        let refused = balancer.plan(&of(wrong), 0, &members).unwrap_err();
        assert_eq!(refused, format!("max-connections is `{wrong}`; it must be a whole number from 1 to 4294967295"));
    }
    let misspelt = ServicePort { settings: vec![setting("max-connection", "9")], ..port(0) };
    assert_eq!(balancer.plan(&misspelt, 0, &members).unwrap_err(), "there is no setting `max-connection`; there is max-connections");
    let mut at = |active: u32| {
        balancer.plan(&port(0), 0, &members).and(Ok(balancer.pick(&connection(0, 0), 0, &|_, slot| active * (1 - slot)))).unwrap()
    };
    assert_eq!([at(99), at(100)], [Some(0), Some(1)], "100 by default");

    assert!(NativeBalancer::<FirstAvailable>::new(&[setting("max-connections", "0")], 0).is_err());
    let mut host_wide = NativeBalancer::<FirstAvailable>::new(&[setting("max-connections", "1")], 0).unwrap();
    host_wide.plan(&port(0), 0, &members).unwrap();
    assert_eq!(host_wide.pick(&connection(0, 0), 0, &|_, slot| 1 - slot), Some(1));
}

#[test]
fn nobody_to_pick() {
    let mut balancer = NativeBalancer::<FirstAvailable>::new(&[], 0).unwrap();
    for weights in [&[][..], &[0, 0]] {
        balancer.plan(&port(0), 0, &endpoints(weights)).unwrap();
        assert_eq!(balancer.pick(&connection(0, 0), 0, &Idle), None);
    }
    balancer.plan(&of("4294967295"), 0, &endpoints(&[u32::MAX])).unwrap();
    assert_eq!(balancer.pick(&connection(0, 0), 0, &|_, _| u32::MAX), Some(0));
}
