#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use pointsman_sdk::native::{NativeTrafficPolicy, connection, endpoints, port, setting};

const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const DEAD: Conditions = Conditions { ready: false, serving: false, terminating: true };

/// The node is in zone `a`.
fn node() -> Node {
    Node { name: "n1".to_owned(), zone: Some("a".to_owned()), labels: Vec::new() }
}

/// Ready and unready endpoints of a zone.
fn zone(name: &str, ready: usize, unready: usize) -> Vec<Endpoint> {
    let mut list = endpoints(&vec![1; ready + unready]);
    for (n, endpoint) in list.iter_mut().enumerate() {
        endpoint.zone = Some(name.to_owned());
        endpoint.conditions = if n < ready { READY } else { NOT_READY };
    }
    list
}

fn joined(lists: impl IntoIterator<Item = Vec<Endpoint>>) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = lists.into_iter().flatten().collect();
    all.iter_mut().enumerate().for_each(|(slot, endpoint)| endpoint.slot = slot as Slot);
    all
}

struct Scene {
    policy: NativeTrafficPolicy<ZoneSpill>,
    endpoints: Vec<Endpoint>,
    subsets: Vec<Subset>,
}

impl Scene {
    fn new(node: &Node, port: &ServicePort, endpoints: Vec<Endpoint>) -> Self {
        let mut policy = NativeTrafficPolicy::new(node, &[], 0).unwrap();
        let subsets = policy.plan(port, &endpoints).unwrap().subsets;
        Self { policy, endpoints, subsets }
    }

    fn of(endpoints: Vec<Endpoint>) -> Self {
        Self::new(&node(), &port(0), endpoints)
    }

    fn set(settings: &[Setting], endpoints: Vec<Endpoint>) -> Self {
        Self::new(&node(), &ServicePort { settings: settings.to_vec(), ..port(0) }, endpoints)
    }

    /// The slots that a connection may go to; `Err`: how it is refused.
    fn meets(&mut self, connection: &Connection, group: Option<u32>) -> Result<Vec<Slot>, Verdict> {
        match self.policy.choose(connection, group) {
            Verdict::Forward(subset) => {
                let in_group = |slot: &&Slot| group.is_none() || self.endpoints[**slot as usize].group == group;
                Ok(self.subsets[subset as usize].members.iter().filter(in_group).copied().collect())
            }
            refused => Err(refused),
        }
    }

    /// Which of so many connections go to the node's zone. Everyone's candidates are usable and of one kind.
    fn kept(&mut self, connections: u64, group: Option<u32>) -> Vec<bool> {
        let mut kept = Vec::new();
        for n in 0..connections {
            let slots = self.meets(&connection(0, n), group).unwrap();
            let all: Vec<&Endpoint> = slots.iter().map(|slot| &self.endpoints[*slot as usize]).collect();
            assert!(!all.is_empty() && all.iter().all(|endpoint| endpoint.conditions.ready), "{all:?}");
            let near = |endpoint: &&Endpoint| endpoint.local || endpoint.zone.as_deref() == Some("a");
            assert!(all.iter().all(|endpoint| near(endpoint) == near(&all[0])), "{all:?}");
            kept.push(near(&all[0]));
        }
        kept
    }

    /// The zone's share, in per cent, of 20,000 connections: 1 % off is three standard deviations.
    fn share(&mut self) -> f64 {
        self.kept(20_000, None).into_iter().filter(|kept| *kept).count() as f64 / 200.0
    }
}

fn close(share: f64, expected: f64) -> bool {
    // Everything and nothing are exact.
    if expected == 0.0 || expected == 100.0 { share == expected } else { (share - expected).abs() <= 1.2 }
}

/// The table in Envoy's documentation of priority levels, with its rounding to whole percents where it is more than ours.
#[test]
fn shares_are_those_of_envoys_documentation() {
    for (own, others, expected) in [
        (100, 100, 100.0),
        (72, 72, 100.0),
        (71, 71, 99.4),
        (50, 50, 70.0),
        (25, 100, 35.0),
        (25, 25, 50.0),
        (0, 100, 0.0),
        (100, 0, 100.0),
        (20, 30, 40.0),
    ] {
        let mut scene = Scene::of(joined([zone("a", own, 100 - own), zone("b", others, 100 - others)]));
        let share = scene.share();
        assert!(close(share, expected), "{own} % and {others} % ready: {share} %, not {expected} %");
    }
}

#[test]
fn a_zone_keeps_its_health_times_the_overprovisioning() {
    for (percent, ready) in (0..=10).flat_map(|ready| [("100", ready), ("140", ready), ("250", ready), ("1000", ready)]) {
        let all = joined([zone("a", ready, 10 - ready), zone("b", 4, 0), zone("c", 4, 0)]);
        let share = Scene::set(&[setting("overprovisioning", percent)], all).share();
        let expected = (percent.parse::<f64>().unwrap() * ready as f64 / 10.0).min(100.0);
        assert!(close(share, expected), "{ready} of 10 at {percent} %: {share} %, not {expected} %");
    }
}

#[test]
fn what_does_not_count() {
    let rows: [(&str, Conditions, u32, f64); 4] = [
        ("an unready endpoint counts", NOT_READY, 1, 70.0),
        ("one that goes does not", DRAINING, 1, 100.0),
        ("nor one that went", DEAD, 1, 100.0),
        ("nor one without weight", NOT_READY, 0, 100.0),
    ];
    for (why, conditions, weight, expected) in rows {
        let mut near = zone("a", 4, 0);
        for endpoint in &mut near[2..] {
            (endpoint.conditions, endpoint.weight) = (conditions, weight);
        }
        let share = Scene::of(joined([near, zone("b", 4, 0)])).share();
        assert!(close(share, expected), "{why}: {share} %");
    }
    let mut weighted = zone("a", 1, 1);
    weighted[1].weight = 3;
    let share = Scene::of(joined([weighted, zone("b", 4, 0)])).share();
    assert!(close(share, 35.0), "a quarter of the weight is ready: {share} %");
    let mut nothing = zone("a", 2, 0);
    nothing.iter_mut().for_each(|endpoint| endpoint.weight = 0);
    assert!(close(Scene::of(joined([nothing, zone("b", 1, 3)])).share(), 0.0), "ready, but never picked");
}

/// Every set of endpoints with at most one of each condition in each zone.
#[test]
fn nobody_unusable_is_ever_a_candidate_and_somebody_usable_always_is() {
    let kinds: Vec<Endpoint> = joined(["a", "b"].map(|name| zone(name, 4, 0)));
    for chosen in 0..1_u32 << kinds.len() {
        let mut all = Vec::new();
        for (n, kind) in kinds.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1) {
            all.push(Endpoint { conditions: [READY, NOT_READY, DRAINING, DEAD][n % 4], ..kind.clone() });
        }
        let all = joined([all]);
        let usable = |wanted: Conditions| all.iter().filter(move |e| e.conditions == wanted).map(|e| e.slot).collect::<Vec<Slot>>();
        let expected = if usable(READY).is_empty() { usable(DRAINING) } else { usable(READY) };
        let mut scene = Scene::of(all.clone());
        for n in 0..64 {
            match scene.meets(&connection(0, n), None) {
                Ok(slots) => assert!(!slots.is_empty() && slots.iter().all(|slot| expected.contains(slot)), "{slots:?} of {all:?}"),
                Err(verdict) => assert!(verdict == Verdict::Reject && expected.is_empty(), "{verdict:?} for {all:?}"),
            }
        }
    }
}

#[test]
fn an_endpoint_of_this_node_is_in_its_zone() {
    let mut near = zone("a", 1, 0);
    (near[0].zone, near[0].local) = (None, true);
    let mut scene = Scene::of(joined([near, zone("b", 3, 0)]));
    assert_eq!(scene.meets(&connection(0, 1), None), Ok(vec![0]));
    let mut far = zone("b", 1, 0);
    far[0].zone = None;
    let mut scene = Scene::of(joined([far, zone("b", 3, 0)]));
    assert_eq!(scene.meets(&connection(0, 1), None), Ok(vec![0, 1, 2, 3]), "an unknown zone is another");
}

#[test]
fn without_a_zone_or_a_ready_endpoint_there_is_no_preference() {
    let nowhere = Node { zone: None, ..node() };
    let all = joined([zone("a", 1, 1), zone("b", 1, 0)]);
    assert_eq!(Scene::new(&nowhere, &port(0), all).meets(&connection(0, 1), None), Ok(vec![0, 2]));
    let mut draining = joined([zone("a", 2, 0), zone("b", 2, 0)]);
    for (endpoint, conditions) in draining.iter_mut().zip([DRAINING, DEAD, DRAINING, NOT_READY]) {
        endpoint.conditions = conditions;
    }
    assert_eq!(Scene::of(draining).meets(&connection(0, 1), None), Ok(vec![0, 2]));
    assert_eq!(Scene::of(joined([zone("a", 0, 2)])).meets(&connection(0, 1), None), Err(Verdict::Reject));
    assert_eq!(Scene::of(Vec::new()).meets(&connection(0, 1), None), Err(Verdict::Reject));
}

#[test]
fn local_is_what_it_is_in_kubernetes() {
    let port = ServicePort { internal_traffic_policy: Locality::Local, external_traffic_policy: Locality::Local, ..port(0) };
    let bound = Connection { frontend: Frontend::NodePort, origin: Origin::Outside, ..connection(0, 1) };
    let free = [
        Connection { origin: Origin::Pod, ..bound },
        Connection { origin: Origin::Node, ..bound },
        Connection { frontend: Frontend::HostPort, ..bound },
    ];
    let inside = Connection { frontend: Frontend::ClusterIp, origin: Origin::Pod, ..bound };
    // Slot 0 is on this node; 1 in its zone; 2 and 3 are elsewhere. Where it is the zone's, what is expected of bound connections.
    for (here, expected) in [(READY, Ok(vec![0])), (DRAINING, Ok(vec![0])), (DEAD, Err(Verdict::Drop)), (NOT_READY, Err(Verdict::Drop))] {
        let mut all = joined([zone("a", 2, 0), zone("b", 2, 0)]);
        (all[0].conditions, all[0].local) = (here, true);
        let mut scene = Scene::new(&node(), &port, all);
        for connection in [bound, inside] {
            assert_eq!(scene.meets(&connection, None), expected, "{here:?}");
        }
        for connection in free {
            let slots = scene.meets(&connection, None).unwrap();
            let zone = if here == READY { vec![0, 1] } else { vec![1] };
            assert!(slots == zone || (here == NOT_READY && slots == [2, 3]), "{here:?}: {slots:?}");
        }
    }
    let mut scene = Scene::new(&node(), &port, joined([zone("b", 0, 1)]));
    assert_eq!([bound, inside].map(|connection| scene.meets(&connection, None)), [Err(Verdict::Reject), Err(Verdict::Reject)]);
}

#[test]
fn a_client_keeps_its_side_and_few_move() {
    let by_client = [setting("spill-by", "client")];
    let half = |ready| joined([zone("a", ready, 100 - ready), zone("b", 10, 0)]);
    let mut sticky = Scene::set(&by_client, half(50));
    let before = sticky.kept(10_000, None);
    let share = before.iter().filter(|kept| **kept).count();
    assert!((6_850..=7_150).contains(&share), "{share}");
    for n in 0..100 {
        let again = Connection { random: !connection(0, n).random, ..connection(0, n) };
        let first = sticky.meets(&connection(0, n), None);
        assert_eq!(sticky.meets(&again, None), first, "whatever the random bits");
    }
    // From 70 % to 56 %: 14 % of the clients leave the zone, and nobody comes.
    let after = Scene::set(&by_client, half(40)).kept(10_000, None);
    let left = before.iter().zip(&after).filter(|(before, after)| **before && !**after).count();
    let came = before.iter().zip(&after).filter(|(before, after)| !**before && **after).count();
    assert!((1_280..=1_520).contains(&left) && came == 0, "{left} left, {came} came");
}

/// What draws the zone and what draws the endpoint are the same bits: within each side every endpoint still gets its part.
#[test]
fn the_draw_leaves_the_bits_to_the_balancers() {
    let mut scene = Scene::of(joined([zone("a", 4, 4), zone("b", 4, 0)]));
    let mut counts = [0_u32; 12];
    for n in 0..40_000 {
        let connection = connection(0, n);
        let slots = scene.meets(&connection, None).unwrap();
        let at = pointsman_sdk::hash::below((connection.random >> 32) as u32, slots.len() as u32);
        counts[slots[at as usize] as usize] += 1;
    }
    // 70 % and 30 % of 40,000, by four.
    assert!(counts[..4].iter().all(|count| (6_750..=7_250).contains(count)), "{counts:?}");
    assert!(counts[8..].iter().all(|count| (2_820..=3_180).contains(count)), "{counts:?}");
}

#[test]
fn each_group_is_a_service_to_itself() {
    // Group 0: ready in both zones; group 1: half of the zone's are ready; group 2: nobody in the zone; group 3: terminating only.
    let mut all = joined([zone("a", 2, 1), zone("b", 3, 0), zone("a", 1, 0)]);
    for (endpoint, group) in all.iter_mut().zip([0, 1, 1, 0, 1, 2, 3]) {
        endpoint.group = Some(group);
    }
    all[6].conditions = DRAINING;
    let mut scene = Scene::of(all);
    assert!(scene.kept(1_000, Some(0)).iter().all(|kept| *kept));
    let kept = scene.kept(20_000, Some(1)).into_iter().filter(|kept| *kept).count();
    assert!((13_760..=14_240).contains(&kept), "{kept}");
    assert!(!scene.kept(1_000, Some(2)).contains(&true));
    assert_eq!(scene.meets(&connection(0, 1), Some(3)), Ok(vec![6]));
    assert_eq!(scene.meets(&connection(0, 1), Some(4)), Err(Verdict::Reject));
    // All together two of three in the zone are ready, and 2 ÷ 3 × 1.4 is less than 1.
    assert!(close(scene.share(), 93.33), "two of three are ready");
}

#[test]
fn subsets_are_only_what_is_used() {
    let names = |scene: Scene| scene.subsets.into_iter().map(|subset| subset.name).collect::<Vec<_>>();
    assert_eq!(names(Scene::of(joined([zone("a", 2, 0), zone("b", 2, 0)]))), ["zone"]);
    assert_eq!(names(Scene::of(joined([zone("a", 1, 1), zone("b", 2, 0)]))), ["zone", "other-zones"]);
    assert_eq!(names(Scene::of(joined([zone("a", 0, 1), zone("b", 2, 0)]))), ["other-zones"]);
    assert_eq!(names(Scene::new(&Node::default(), &port(0), zone("a", 2, 0))), ["cluster"]);
}

#[test]
fn a_setting_that_cannot_be_is_refused() {
    let bad = [setting("overprovisioning", "none")];
    assert!(NativeTrafficPolicy::<ZoneSpill>::new(&node(), &bad, 0).is_err(), "of the host");
    let mut policy = NativeTrafficPolicy::<ZoneSpill>::new(&node(), &[], 0).unwrap();
    assert!(policy.plan(&ServicePort { settings: bad.to_vec(), ..port(0) }, &[]).is_err(), "of a Service");
    let misspelt = [setting("spillby", "client")];
    let refused = policy.plan(&ServicePort { settings: misspelt.to_vec(), ..port(0) }, &[]).unwrap_err();
    assert_eq!(refused, "there is no setting `spillby`; there is overprovisioning, spill-by");
}
