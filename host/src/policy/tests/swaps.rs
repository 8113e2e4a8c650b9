//! Versions come, go and come back.

use std::fs;

use super::*;
use crate::policy::directory::{DirectoryEvent, PolicyDirectory};
use crate::policy::registry::{Registry, RegistryOptions, Swapped};

fn registry() -> Arc<Registry> {
    Registry::new(Arc::clone(&SANDBOX), RegistryOptions::default())
}

fn current(registry: &Registry, name: &str) -> Arc<str> {
    let catalogue = registry.catalogue();
    Arc::clone(&catalogue.entry(StageKind::Balancer, name).expect("it is known").current.digest)
}

#[test]
fn built_in_policies_are_known_at_once_and_loaded_when_asked_for() {
    let registry = registry();
    let catalogue = registry.catalogue();
    let entry = catalogue.entry(StageKind::Balancer, "round-robin").unwrap();
    assert!(registry.list().iter().all(|status| status.version.is_none()), "nothing is compiled yet");
    let policy = registry.loaded(entry.current.id).unwrap();
    assert_eq!(policy.version(), &entry.current);
    assert!(Arc::ptr_eq(&policy, &registry.loaded(entry.current.id).unwrap()), "once");
    assert_eq!(registry.list().iter().filter(|status| status.version.is_some()).count(), 1);
}

#[test]
fn a_built_in_name_is_reserved_and_a_name_is_a_plain_word() {
    let swap = |name: &str| registry().swap(name, component("random")).unwrap_err();
    assert!(matches!(swap("round-robin"), Refusal::Reserved(_)));
    for name in ["", ".hidden", "-dash", "../etc", "a b", "ü"] {
        assert!(matches!(swap(name), Refusal::BadName(_)), "{name:?}");
    }
}

#[test]
fn a_swap_keeps_the_one_before_and_rollback_exchanges_them() {
    let registry = registry();
    let first = registry.swap("mine", component("random")).unwrap();
    assert_eq!((first.changed, first.previous.clone(), first.stage), (true, None, StageKind::Balancer));
    assert!(matches!(registry.rollback("mine"), Err(Refusal::NothingToRollBack(_))));
    let second = registry.swap("mine", component("maglev")).unwrap();
    assert_eq!(second.previous, Some(first.digest.clone()));
    let again = registry.swap("mine", component("maglev")).unwrap();
    assert_eq!(again, Swapped { changed: false, ..second.clone() });

    let back = registry.rollback("mine").unwrap();
    assert_eq!((&back.digest, &back.previous), (&first.digest, &Some(second.digest.clone())));
    assert_eq!(current(&registry, "mine"), first.digest);
    assert_eq!(registry.rollback("mine").unwrap().digest, second.digest, "a second one undoes the first");
    assert!(matches!(registry.rollback("nobody"), Err(Refusal::Unknown { .. })));
}

#[test]
fn versions_that_nobody_can_go_back_to_are_not_live() {
    let registry = registry();
    let built_in = registry.live().len();
    let id = |registry: &Registry| registry.catalogue().entry(StageKind::Balancer, "mine").unwrap().current.id;
    registry.swap("mine", component("random")).unwrap();
    let first = id(&registry);
    registry.swap("mine", component("maglev")).unwrap();
    assert!(registry.loaded(first).is_some(), "the one before is warm");
    registry.swap("mine", component("two-choices")).unwrap();
    assert_eq!(registry.live().len(), built_in + 2);
    assert!(registry.loaded(first).is_none());
}

#[test]
fn a_refused_swap_leaves_the_version_in_force() {
    let registry = registry();
    let before = registry.swap("mine", component("random")).unwrap();
    let whole = component("maglev");
    assert!(matches!(registry.swap("mine", &whole[..whole.len() / 2]), Err(Refusal::Malformed(_))));
    let why = registry.swap("mine", component("kubernetes")).unwrap_err().to_string();
    assert_eq!(why, "\"mine\" is a balancer, and this component is a traffic-policy: give it a name of its own");
    let why = registry.swap("mine", component("always-trap")).unwrap_err().to_string();
    assert!(why.starts_with("failed its self-test in `pick`, with 1 endpoints, a client at 10.1.0.0, attempt 0: trap: "), "{why}");
    assert_eq!(current(&registry, "mine"), before.digest);
}

#[test]
fn a_folder_is_read_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("mine.wasm"), component("random")).unwrap();
    fs::write(file("round-robin.wasm"), component("random")).unwrap();
    fs::write(file("notes.txt"), "not a policy").unwrap();
    let registry = registry();
    let (directory, events) = PolicyDirectory::open(folder.path().to_owned(), Arc::clone(&registry)).unwrap();
    assert!(matches!(&events[0], DirectoryEvent::Swapped(swapped) if *swapped.name == *"mine" && swapped.changed));
    assert!(matches!(&events[1], DirectoryEvent::Refused { name, reason: Refusal::Reserved(_) } if name == "round-robin"));
    assert_eq!(events.len(), 2);

    let (tell, told) = std::sync::mpsc::channel();
    let watch = directory.watch(move |event| drop(tell.send(event))).unwrap();
    let next = || told.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    let maglev = component("maglev");
    fs::write(file("mine.wasm"), &maglev[..1000]).unwrap();
    assert!(matches!(next(), DirectoryEvent::Refused { reason: Refusal::Malformed(_), .. }), "half written");
    fs::write(file("mine.wasm"), maglev).unwrap();
    assert!(matches!(next(), DirectoryEvent::Swapped(swapped) if swapped.changed && swapped.previous.is_some()));
    fs::File::create(file("huge.wasm")).unwrap().set_len(100 << 20).unwrap();
    assert!(matches!(next(), DirectoryEvent::Refused { reason: Refusal::OverLimit { .. }, .. }));
    fs::remove_file(file("mine.wasm")).unwrap();
    drop(watch);
    assert!(told.recv().is_err(), "the thread ends with the watch");
    assert!(registry.catalogue().entry(StageKind::Balancer, "mine").is_some(), "a removed file stays in force");
}
