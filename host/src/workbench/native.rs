//! A subject without a sandbox: a balancer of the SDK in plain Rust, through the same bytes as the component.

use std::collections::BTreeMap;

use pointsman_sdk::native::port;
use pointsman_sdk::types::{Connection, Endpoint, Node, Outcome, Place, ServicePort, Setting, Slot};
use pointsman_sdk::{Balancer, BalancerInstance, LearningBalancer};

use super::subject::{Answer, FaultClass, Subject};

/// A balancer with its planner and its workers.
pub struct NativeSubject<B: Balancer> {
    name: String,
    port: ServicePort,
    planner: BalancerInstance<B>,
    workers: Vec<Worker<B>>,
    /// What is told of outcomes, if it learns.
    learn: Option<Learn<B>>,
    endpoints: Vec<(String, u32)>,
}

type Learn<B> = fn(&mut BalancerInstance<B>, u64, &[Outcome]);

struct Worker<B: Balancer> {
    instance: BalancerInstance<B>,
    /// By slot.
    active: Vec<u32>,
}

impl<B: Balancer> NativeSubject<B> {
    /// With the settings of a Service, and a seed for each of the workers.
    ///
    /// # Errors
    /// The policy's own.
    pub fn new(name: &str, settings: &[Setting], workers: usize, seed: u64) -> Result<Self, String> {
        let configured = |place| {
            let mut instance = BalancerInstance::new();
            instance.configure(place, &Node::default(), settings).map(|()| instance)
        };
        let worker =
            |at| Ok(Worker { instance: configured(Place::Worker(pointsman_sdk::hash::mix(seed.wrapping_add(at))))?, active: Vec::new() });
        Ok(Self {
            name: name.to_owned(),
            port: ServicePort { settings: settings.to_vec(), ..port(0) },
            planner: configured(Place::Planner)?,
            workers: (0..workers as u64).map(worker).collect::<Result<_, String>>()?,
            learn: None,
            endpoints: Vec::new(),
        })
    }
}

impl<B: LearningBalancer> NativeSubject<B> {
    /// The same, of a balancer that learns.
    ///
    /// # Errors
    /// The policy's own.
    pub fn learning(name: &str, settings: &[Setting], workers: usize, seed: u64) -> Result<Self, String> {
        Ok(Self { learn: Some(BalancerInstance::report), ..Self::new(name, settings, workers, seed)? })
    }
}

impl<B: Balancer> Subject for NativeSubject<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn workers(&self) -> usize {
        self.workers.len()
    }

    fn set_endpoints(&mut self, endpoints: &[Endpoint], _now_ms: u64) -> Result<(), String> {
        let plan = self.planner.plan(&self.port, endpoints)?;
        let before: BTreeMap<&str, usize> = self.endpoints.iter().enumerate().map(|(slot, (key, _))| (key.as_str(), slot)).collect();
        let before: Vec<Option<usize>> = endpoints.iter().map(|endpoint| before.get(endpoint.key.as_str()).copied()).collect();
        for worker in &mut self.workers {
            let active = |slot: &Option<usize>| slot.and_then(|slot| worker.active.get(slot)).copied().unwrap_or(0);
            worker.active = before.iter().map(active).collect();
            worker.instance.adopt(self.port.id, 0, &plan);
        }
        self.endpoints = endpoints.iter().map(|endpoint| (endpoint.key.clone(), endpoint.weight)).collect();
        Ok(())
    }

    fn pick(&mut self, worker: usize, connection: &Connection) -> Answer {
        let Some(Worker { instance, active }) = self.workers.get_mut(worker) else { return Answer::Fault(FaultClass::NotAsked) };
        let load = |_, slot: Slot| active.get(slot as usize).copied().unwrap_or(0);
        match instance.pick(connection, 0, &load) {
            None => Answer::NoOpinion,
            Some(slot) if self.endpoints.get(slot as usize).is_some_and(|(_, weight)| *weight > 0) => Answer::Slot(slot),
            Some(_) => Answer::Fault(FaultClass::OutOfRange),
        }
    }

    fn last_fuel(&self) -> u64 {
        0
    }

    fn set_active(&mut self, worker: usize, slot: Slot, active: u32) {
        if let Some(counter) = self.workers.get_mut(worker).and_then(|worker| worker.active.get_mut(slot as usize)) {
            *counter = active;
        }
    }

    fn report(&mut self, worker: usize, now_ms: u64, outcomes: &[Outcome]) -> Result<(), FaultClass> {
        if let (Some(learn), Some(worker)) = (self.learn, self.workers.get_mut(worker)) {
            learn(&mut worker.instance, now_ms, outcomes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use pointsman_policy_least_connections::LeastConnections;
    use pointsman_sdk::native::{connection, endpoints};

    #[test]
    fn loads_are_a_workers_own_and_stay_with_the_key() {
        let mut subject = NativeSubject::<LeastConnections>::new("least", &[], 2, 7).unwrap();
        let mut members = endpoints(&[1, 1, 1]);
        subject.set_endpoints(&members, 0).unwrap();
        for (slot, active) in [(0, 5), (1, 0), (2, 5)] {
            subject.set_active(0, slot, active);
            subject.set_active(1, slot, 5 - active);
        }
        assert_eq!(subject.pick(0, &connection(0, 1)), Answer::Slot(1));
        assert_ne!(subject.pick(1, &connection(0, 1)), Answer::Slot(1));
        members.remove(0);
        members.iter_mut().for_each(|endpoint| endpoint.slot -= 1);
        subject.set_endpoints(&members, 1).unwrap();
        assert_eq!(subject.pick(0, &connection(0, 1)), Answer::Slot(0), "it was slot 1");
        assert_eq!(subject.pick(1, &connection(0, 1)), Answer::Slot(1));
        assert_eq!((subject.workers(), subject.name()), (2, "least"));
    }

    #[test]
    fn nobody_to_pick_is_no_opinion() {
        let mut subject = NativeSubject::<LeastConnections>::new("least", &[], 1, 7).unwrap();
        assert_eq!(subject.pick(0, &connection(0, 1)), Answer::NoOpinion);
        subject.set_endpoints(&endpoints(&[0]), 0).unwrap();
        assert_eq!(subject.pick(0, &connection(0, 1)), Answer::NoOpinion);
    }
}
