//! What an instance makes of the host's calls, whatever the policy.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::native::{connection, endpoints, port};
use crate::prelude::*;
use crate::{BalancerInstance, SelectorInstance, TrafficPolicyInstance};

/// Counts what it is asked, in its plan.
struct Counter;

impl Balancer for Counter {
    type Plan = u32;

    fn configure(_place: Place, _node: &Node, settings: &[Setting]) -> Result<Self, String> {
        settings.first().map_or(Ok(Self), |setting| Err(setting.key.clone()))
    }

    fn plan(&mut self, _port: &ServicePort, members: &[Endpoint]) -> Result<u32, String> {
        Ok(members.len() as u32 * 100)
    }

    fn adopt(&mut self, plan: u32, previous: Option<u32>) -> u32 {
        plan + previous.map_or(0, |previous| previous % 100)
    }

    fn pick(&mut self, plan: &mut u32, _connection: &Connection, load: &impl Load) -> Option<Slot> {
        *plan += 1;
        Some(*plan + load.active(0, 0))
    }
}

impl Selector for Counter {
    type Plan = u32;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort) -> Result<(Vec<String>, u32), String> {
        Ok((vec!["one".to_owned()], 7))
    }

    fn classify(&mut self, plan: &u32, _labels: &[Label]) -> Option<u32> {
        Some(*plan)
    }

    fn choose(&mut self, plan: &mut u32, _connection: &Connection) -> Option<u32> {
        Some(*plan)
    }
}

impl TrafficPolicy for Counter {
    type Plan = u32;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, _endpoints: &[Endpoint]) -> Result<(Vec<Subset>, u32), String> {
        Ok((Vec::new(), 7))
    }

    fn choose(&mut self, plan: &mut u32, _connection: &Connection, _group: Option<u32>) -> Verdict {
        Verdict::Forward(*plan)
    }
}

fn balancer() -> BalancerInstance<Counter> {
    let mut instance = BalancerInstance::new();
    instance.configure(Place::Planner, &Node::default(), &[]).unwrap();
    instance
}

#[test]
fn nothing_works_before_configure() {
    let mut instance = BalancerInstance::<Counter>::new();
    assert!(instance.plan(&port(0), &[]).is_err());
    instance.adopt(0, 0, &balancer().plan(&port(0), &[]).unwrap());
    assert_eq!(instance.pick(&connection(0, 0), 0, &Idle), None);
    let refusal = Setting { key: "no".to_owned(), value: String::new() };
    assert_eq!(instance.configure(Place::Planner, &Node::default(), &[refusal]), Err("no".to_owned()));
}

#[test]
fn a_set_has_a_plan_of_its_own_and_the_next_one_sees_it() {
    let mut instance = balancer();
    let data = instance.plan(&port(3), &endpoints(&[1])).unwrap();
    for set in [0, 5] {
        instance.adopt(3, set, &data);
        assert_eq!(instance.pick(&connection(3, 0), set, &Idle), Some(101));
    }
    assert_eq!(instance.pick(&connection(3, 1), 5, &|_, _| 1000), Some(1102));
    instance.adopt(3, 5, &data);
    assert_eq!(instance.pick(&connection(3, 2), 5, &Idle), Some(103), "carried over");
    assert_eq!(instance.pick(&connection(3, 3), 0, &Idle), Some(102), "the other set's went on");
    assert_eq!((instance.pick(&connection(3, 4), 1, &Idle), instance.pick(&connection(4, 4), 0, &Idle)), (None, None));
}

#[test]
fn bytes_that_are_no_plan_leave_no_plan() {
    let mut instance = balancer();
    let data = instance.plan(&port(0), &endpoints(&[1])).unwrap();
    instance.adopt(0, 0, &data);
    instance.adopt(0, 0, &data[1..]);
    assert_eq!(instance.pick(&connection(0, 0), 0, &Idle), None);
    instance.adopt(0, 0, &data);
    assert_eq!(instance.pick(&connection(0, 0), 0, &Idle), Some(101), "and a good one mends it");
}

#[test]
fn forget_and_configure_start_afresh() {
    let mut instance = balancer();
    let data = instance.plan(&port(0), &[]).unwrap();
    instance.adopt(0, 0, &data);
    instance.forget(0);
    assert_eq!(instance.pick(&connection(0, 0), 0, &Idle), None);
    instance.adopt(0, 0, &data);
    instance.configure(Place::Worker(1), &Node::default(), &[]).unwrap();
    assert_eq!(instance.pick(&connection(0, 0), 0, &Idle), None);
}

#[test]
fn without_a_plan_any_group_and_no_subset() {
    let mut selector = SelectorInstance::<Counter>::new();
    selector.configure(Place::Planner, &Node::default(), &[]).unwrap();
    assert_eq!((selector.classify(0, &[]), selector.choose(&connection(0, 0))), (None, None));
    let data = selector.plan(&port(0)).unwrap().data;
    assert_eq!(selector.classify(0, &[]), Some(7));
    selector.adopt(0, &data);
    assert_eq!(selector.choose(&connection(0, 0)), Some(7));
    selector.adopt(0, b"garbage");
    assert_eq!(selector.choose(&connection(0, 0)), None);

    let mut policy = TrafficPolicyInstance::<Counter>::new();
    policy.configure(Place::Planner, &Node::default(), &[]).unwrap();
    assert_eq!(policy.choose(&connection(0, 0), None), Verdict::Reject);
    let data = policy.plan(&port(0), &[]).unwrap().data;
    policy.adopt(0, &data);
    assert_eq!(policy.choose(&connection(0, 0), None), Verdict::Forward(7));
    policy.adopt(0, b"garbage");
    assert_eq!(policy.choose(&connection(0, 0), None), Verdict::Reject);
}
