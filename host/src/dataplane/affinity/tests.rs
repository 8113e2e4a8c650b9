use super::*;

const TIMEOUT: Duration = Duration::from_millis(100);

fn client(at: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0x7f00_0000 + at).into()
}

#[test]
fn a_pin_holds_until_it_expires_and_is_renewed_by_use() {
    let affinity = Affinity::default();
    assert_eq!(affinity.lookup(1, client(1), 0), None);
    affinity.pin(1, client(1), 7, 0, TIMEOUT);
    assert_eq!(affinity.lookup(1, client(1), 99), Some(7));
    assert_eq!(affinity.lookup(1, client(1), 100), None);
    affinity.pin(1, client(1), 7, 99, TIMEOUT);
    assert_eq!(affinity.lookup(1, client(1), 198), Some(7));
    assert_eq!(affinity.lookup(2, client(1), 99), None, "another Service");
    assert_eq!(affinity.lookup(1, client(2), 99), None, "another client");
}

#[test]
fn only_the_endpoint_that_failed_is_forgotten() {
    let affinity = Affinity::default();
    affinity.pin(1, client(1), 7, 0, TIMEOUT);
    affinity.forget(1, client(1), 8);
    assert_eq!(affinity.lookup(1, client(1), 1), Some(7), "another worker has moved the client on");
    affinity.forget(1, client(1), 7);
    assert_eq!(affinity.lookup(1, client(1), 1), None);
    affinity.pin(1, client(1), 9, 1, TIMEOUT);
    assert_eq!(affinity.lookup(1, client(1), 2), Some(9));
}

#[test]
fn a_service_that_is_gone_holds_nobody() {
    let affinity = Affinity::default();
    (0..100).for_each(|at| affinity.pin(at % 2, client(at), 7, 0, TIMEOUT));
    affinity.forget_service(0);
    assert_eq!((0..100).filter(|at| affinity.lookup(at % 2, client(*at), 1).is_some()).count(), 50);
    assert!((0..100).all(|at| at % 2 == 0 || affinity.lookup(1, client(at), 1) == Some(7)));
}

#[test]
fn what_has_expired_is_freed_and_what_was_renewed_is_not() {
    let affinity = Affinity::default();
    (0..1000).for_each(|at| affinity.pin(1, client(at), 7, 0, TIMEOUT));
    (0..10).for_each(|at| affinity.pin(1, client(at), 7, 50, TIMEOUT));
    affinity.expire(99);
    assert_eq!(affinity.len(), 1000);
    affinity.expire(100);
    assert_eq!(affinity.len(), 10);
    affinity.expire(150);
    assert!(affinity.is_empty());
    assert_eq!(affinity.evicted(), 0);
}

#[test]
fn memory_is_bounded_and_the_least_recently_seen_make_room() {
    let affinity = Affinity::with_limit(64 * 8);
    affinity.pin(1, client(0), 7, 0, Duration::from_secs(3600));
    for at in 1..100_000 {
        affinity.pin(1, client(at), 7, u64::from(at), Duration::from_secs(3600));
        affinity.pin(1, client(0), 7, u64::from(at), Duration::from_secs(3600));
    }
    assert!(affinity.len() <= 64 * 8);
    assert!(affinity.evicted() > 90_000);
    assert_eq!(affinity.lookup(1, client(0), 100_000), Some(7), "seen all the time");
    assert_eq!(affinity.lookup(1, client(1), 100_000), None, "seen first and never again");
}

#[test]
fn queue_and_pins_stay_the_same_size() {
    let affinity = Affinity::with_limit(64 * 4);
    for at in 0..10_000u32 {
        affinity.pin(at % 3, client(at % 700), u64::from(at), u64::from(at), TIMEOUT);
        affinity.forget(at % 3, client(at % 500), u64::from(at));
        if at % 50 == 0 {
            affinity.expire(u64::from(at));
        }
    }
    for shard in &affinity.shards {
        let shard = lock(shard);
        assert_eq!(shard.pins.len(), shard.queue.len());
        assert!(shard.pins.len() <= 4);
    }
}
