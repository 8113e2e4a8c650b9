//! What is heard outside of what probes say.

use super::*;
use crate::objects::{Kind, Node, ObjectKey};
use crate::probe::readiness::{Readiness, Told, Word};
use crate::probe::schedule::Flip;
use crate::store::{Change, Store};

/// A store and what stands beside the controller.
#[derive(Default)]
struct World {
    store: Store,
    readiness: Readiness,
}

impl World {
    fn change(&mut self, changes: impl IntoIterator<Item = Change>) -> Told {
        let changes = self.store.apply(changes.into_iter().collect());
        self.readiness.update(&changes, &self.store, "node01", false)
    }

    fn life(&self, key: &ProbeKey) -> u64 {
        self.readiness.watched().get(key).unwrap().id
    }

    fn flip(&mut self, key: &ProbeKey, ready: bool) -> Option<Word> {
        let life = self.life(key);
        self.readiness.flip(&Flip { key: key.clone(), life, ready, reason: String::new() })
    }
}

fn says(ready: Option<bool>) -> Word {
    Word::Pod { namespace: "default".to_owned(), pod: "web".to_owned(), ready }
}

fn endpoint_says(address: &str, ready: Option<bool>) -> Word {
    let address = super::address(address);
    Word::Endpoint { namespace: "default".to_owned(), service: "db".to_owned(), address, ready }
}

fn endpoint(address: &str) -> ProbeKey {
    ProbeKey::Endpoint { namespace: "default".to_owned(), service: "db".to_owned(), address: super::address(address) }
}

fn delete(kind: Kind, name: &str) -> Change {
    Change::Delete(ObjectKey { kind, namespace: "default".to_owned(), name: name.to_owned() })
}

fn two_containers(ip: &str) -> Pod {
    pod("web", ip, &[("a", tcp(Some(1))), ("b", tcp(Some(2)))])
}

#[test]
fn a_pod_is_ready_when_all_its_probed_containers_are() {
    let mut world = World::default();
    assert_eq!(world.change([put(two_containers("10.0.0.1"))]).words, [says(Some(false))]);
    let (a, b) = (container("a"), container("b"));
    for (key, ready, heard) in [
        (&a, true, None),
        (&b, true, Some(true)),
        (&b, true, None),
        (&a, false, Some(false)),
        (&b, false, None),
        (&b, true, None),
        (&a, true, Some(true)),
    ] {
        assert_eq!(world.flip(key, ready), heard.map(|ready| says(Some(ready))), "{key} {ready}");
    }
    assert_eq!(world.change([delete(Kind::Pod, "web")]).words, [says(None)]);
    assert!(world.readiness.watched().is_empty());
}

#[test]
fn a_container_that_is_no_longer_probed_no_longer_counts() {
    let mut world = World::default();
    world.change([put(two_containers("10.0.0.1"))]);
    world.flip(&container("a"), true);
    let told = world.change([put(pod("web", "10.0.0.1", &[("a", tcp(Some(1)))]))]);
    assert_eq!(told.words, [says(Some(true))]);
    assert_eq!(world.change([put(pod("web", "10.0.0.1", &[]))]).words, [says(None)]);
}

#[test]
fn another_address_is_another_pod() {
    let mut world = World::default();
    let (a, one) = (container("a"), |ip| put(pod("web", ip, &[("a", tcp(Some(1)))])));
    world.change([one("10.0.0.1")]);
    let late = Flip { key: a.clone(), life: world.life(&a), ready: true, reason: String::new() };
    world.flip(&a, true);
    assert_eq!(world.change([one("10.0.0.2")]).words, [says(Some(false))]);
    assert_eq!(world.readiness.flip(&late), None, "what was said of the pod before does not count");
    // Nor when the address is the first one's again.
    assert_eq!(world.change([one("10.0.0.1")]).words, []);
    assert_eq!(world.readiness.flip(&late), None);
    assert_eq!(world.flip(&a, true), Some(says(Some(true))));
    assert_eq!(world.readiness.flip(&Flip { key: container("z"), ..late }), None, "of nobody we know");
}

#[test]
fn another_way_of_asking_changes_nothing_by_itself() {
    let mut world = World::default();
    world.change([put(pod("web", "10.0.0.1", &[("a", tcp(Some(1)))]))]);
    world.flip(&container("a"), true);
    let life = world.life(&container("a"));
    assert_eq!(world.change([put(pod("web", "10.0.0.1", &[("a", tcp(Some(2)))]))]), Told::default());
    assert_eq!(world.life(&container("a")), life);
    assert_eq!(world.readiness.watched()[&container("a")].target.address, address("10.0.0.1:2"));
}

#[test]
fn a_change_beside_the_point_changes_nothing() {
    let mut world = World::default();
    let web = two_containers("10.0.0.1");
    world.change([put(web.clone())]);
    let before = world.readiness.watched();
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    assert_eq!(world.change([put(Pod { meta: Meta { labels, ..web.meta.clone() }, ..web })]), Told::default());
    assert!(world.readiness.watched().ptr_eq(&before), "the prober has nothing to look at");
}

#[test]
fn endpoints_of_a_service_are_told_one_by_one() {
    let mut world = World::default();
    let db = || put(service("db", Some(tcp(None)), &[("", Protocol::Tcp)]));
    let written = |addresses: &[&str]| {
        let addresses: Vec<(&str, bool)> = addresses.iter().map(|ip| (*ip, true)).collect();
        put(endpoints("db", &addresses, &[port("", Protocol::Tcp, 5432)]))
    };
    // In either order: endpoints before their Service, or after it.
    assert_eq!(world.change([written(&["10.0.0.1", "10.0.0.2"])]).words, []);
    assert_eq!(world.change([db()]).words, [endpoint_says("10.0.0.1:5432", Some(false)), endpoint_says("10.0.0.2:5432", Some(false))]);
    assert_eq!(world.flip(&endpoint("10.0.0.2:5432"), true), Some(endpoint_says("10.0.0.2:5432", Some(true))));
    let told = world.change([written(&["10.0.0.2", "10.0.0.3"])]);
    assert_eq!(told.words, [endpoint_says("10.0.0.1:5432", None), endpoint_says("10.0.0.3:5432", Some(false))]);
    let told = world.change([delete(Kind::Service, "db")]);
    assert_eq!(told.words, [endpoint_says("10.0.0.2:5432", None), endpoint_says("10.0.0.3:5432", None)]);
}

#[test]
fn slices_are_followed_when_they_come_and_go() {
    let mut world = World::default();
    let ports = [port("", Protocol::Tcp, 1)];
    world.change([put(service("db", Some(tcp(None)), &[("", Protocol::Tcp)]))]);
    assert_eq!(world.change([put(slice("s", "db", &[], &[("10.0.0.1", true)], &ports))]).words, [endpoint_says("10.0.0.1:1", Some(false))]);
    let elsewhere = put(slice("s", "other", &[], &[("10.0.0.1", true)], &ports));
    assert_eq!(world.change([elsewhere]).words, [endpoint_says("10.0.0.1:1", None)]);
    world.change([put(slice("s", "db", &[], &[("10.0.0.1", true)], &ports))]);
    assert_eq!(world.change([delete(Kind::EndpointSlice, "s")]).words, [endpoint_says("10.0.0.1:1", None)]);
}

#[test]
fn the_first_node_and_the_last_change_whose_pods_are_ours() {
    let mut world = World::default();
    let theirs = Pod { node: Some("node02".to_owned()), ..pod("web", "10.0.0.1", &[("a", tcp(Some(1)))]) };
    assert_eq!(world.change([put(theirs)]).words, [says(Some(false))]);
    let node = Object::Node(Arc::new(Node { meta: Meta { name: "node01".to_owned(), ..Meta::default() }, ..Node::default() }));
    let gone = Change::Delete(node.key());
    assert_eq!(world.change([Change::Put(node)]).words, [says(None)]);
    assert_eq!(world.change([gone]).words, [says(Some(false))]);
}

#[test]
fn what_is_not_probed_is_told_once() {
    let mut world = World::default();
    let asks = pod("web", "10.0.0.1", &[("a", exec(&["true"]))]);
    let told = world.change([put(asks.clone())]);
    assert_eq!((told.words.len(), told.diagnostics.len()), (0, 1), "the pod's condition stands");
    let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
    assert_eq!(world.change([put(Pod { meta: Meta { labels, ..meta("web") }, ..asks.clone() })]).diagnostics, []);
    world.change([put(pod("web", "10.0.0.1", &[]))]);
    assert_eq!(world.change([put(asks)]).diagnostics.len(), 1, "asked for anew");
}
