use std::net::TcpListener;

use super::*;
use crate::observe::fixture::{endpoint, port, table};

const WORKERS: usize = 2;

fn key(host: u8, protocol: Protocol) -> FrontendKey {
    FrontendKey { ip: std::net::Ipv4Addr::new(10, 97, 72, host).into(), port: 80, protocol }
}

/// Services `0..count` at 10.97.72.0, .1, …; those below `with_endpoints` have one.
fn services(count: u8, with_endpoints: u8) -> Table {
    let endpoints = |id| if id < with_endpoints { vec![endpoint("127.0.0.1:1")] } else { vec![] };
    let ports: Vec<_> = (0..count).map(|id| Arc::new(port(id.into(), &format!("s{id}"), endpoints(id)))).collect();
    let mut table = table(&ports);
    for id in 0..count {
        table.frontends.insert(key(id, Protocol::Tcp), Frontend { kind: FrontendKind::ClusterIp, service: id.into() });
    }
    table
}

fn loopback(_: &FrontendKey, _: &Frontend) -> Result<SocketAddr, String> {
    Ok("127.0.0.1:0".parse().unwrap())
}

fn opened(commands: &Commands) -> Vec<(usize, FrontendKey)> {
    let open = |(worker, command): &(usize, ListenerCommand)| match command {
        ListenerCommand::Open { key, .. } => Some((*worker, *key)),
        ListenerCommand::Close { .. } => None,
    };
    commands.iter().filter_map(open).collect()
}

fn closed(commands: &Commands) -> usize {
    commands.len() - opened(commands).len()
}

#[test]
fn every_worker_listens_for_what_can_be_forwarded() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let table = services(3, 2);
    let commands = listeners.update(&table, &loopback);
    assert_eq!((opened(&commands).len(), listeners.sockets()), (4, 4));
    let bound = listeners.bound(&table);
    assert_eq!(bound.iter().map(|bound| bound.service.as_str()).collect::<Vec<_>>(), ["default/s0:80", "default/s1:80"]);
    assert!(bound.iter().all(|bound| bound.address.port() != 0));
    let refused = NotServed {
        key: key(2, Protocol::Tcp),
        service: "default/s2:80".into(),
        why: "no endpoint to forward to: connections are refused".into(),
        by_design: true,
    };
    assert_eq!(listeners.not_served(&table), [refused]);
    assert!(listeners.update(&table, &loopback).is_empty(), "nothing changed");
    let _open = listeners.update(&services(3, 3), &loopback);
    assert!(listeners.not_served(&services(3, 3)).is_empty());
}

#[test]
fn frontends_that_are_gone_close_first_and_those_without_endpoints_last() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let _open = listeners.update(&services(3, 3), &loopback);
    let coming = services(2, 1);
    assert_eq!(closed(&listeners.close_gone(&coming)), 2);
    let commands = listeners.update(&coming, &loopback);
    assert_eq!((opened(&commands).len(), closed(&commands)), (0, 2));
    assert_eq!((listeners.sockets(), listeners.bound(&coming).len()), (2, 1));
}

#[test]
fn a_frontend_that_moves_opens_before_it_closes() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let table = services(1, 1);
    let _open = listeners.update(&table, &loopback);
    let commands = listeners.update(&table, &|_, _| Ok("127.0.0.2:0".parse().unwrap()));
    assert!(matches!(
        commands[..],
        [(0, ListenerCommand::Open { .. }), (1, ListenerCommand::Open { .. }), (_, ListenerCommand::Close { .. }), _]
    ));
    assert_eq!(listeners.bound(&table)[0].address.ip(), "127.0.0.2".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn beyond_a_quarter_of_the_descriptors_frontends_are_spread() {
    let mut listeners = Listeners::new(WORKERS, 40);
    let _few = listeners.update(&services(5, 5), &loopback);
    assert_eq!(listeners.sockets(), 10);
    let mut listeners = Listeners::new(WORKERS, 40);
    let many = listeners.update(&services(6, 6), &loopback);
    assert_eq!(listeners.sockets(), 6);
    assert_eq!(opened(&many).iter().filter(|(worker, _)| *worker == 0).count(), 3, "evenly");
}

#[test]
fn udp_is_listened_for_beside_tcp() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let mut table = services(1, 1);
    table.frontends.insert(key(0, Protocol::Udp), Frontend { kind: FrontendKind::ClusterIp, service: 0 });
    let commands = listeners.update(&table, &loopback);
    assert_eq!((opened(&commands).len(), listeners.bound(&table).len()), (2 * WORKERS, 2));
    assert!(listeners.not_served(&table).is_empty());
    let everywhere = |_: &FrontendKey, _: &Frontend| Ok("0.0.0.0:0".parse().unwrap());
    let commands = listeners.update(&table, &everywhere);
    assert_eq!((opened(&commands).len(), closed(&commands)), (WORKERS, 2 * WORKERS), "TCP moves");
    assert!(listeners.not_served(&table)[0].why.contains("name one"), "a wildcard answers from any address");
}

#[test]
fn what_has_no_place_is_said_not_to_be_served() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let table = services(3, 2);
    let place = |key: &FrontendKey, frontend: &Frontend| match key.ip {
        ip if ip == std::net::Ipv4Addr::new(10, 97, 72, 1) => Err("no place for it".into()),
        _ => loopback(key, frontend),
    };
    let commands = listeners.update(&table, &place);
    assert_eq!(opened(&commands).len(), 2);
    let not_served = listeners.not_served(&table);
    assert_eq!(
        not_served.iter().map(|not| (not.service.as_str(), not.by_design)).collect::<Vec<_>>(),
        [("default/s1:80", false), ("default/s2:80", true)]
    );
    assert_eq!(not_served[0].why, "no place for it");
}

#[test]
fn without_sctp_in_the_kernel_one_message_says_so_and_the_rest_is_served() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let mut table = services(1, 1);
    table.frontends.insert(key(0, Protocol::Sctp), Frontend { kind: FrontendKind::ClusterIp, service: 0 });
    let commands = listeners.update(&table, &loopback);
    let Some(why) = sockets::sctp_missing() else {
        assert_eq!(opened(&commands).len(), 2 * WORKERS);
        return;
    };
    assert_eq!(opened(&commands).len(), WORKERS);
    let not_served = listeners.not_served(&table);
    assert_eq!((not_served.len(), not_served[0].key.protocol, not_served[0].by_design), (1, Protocol::Sctp, false));
    assert_eq!(not_served[0].why, why);
}

#[test]
fn a_stranger_is_named_and_the_address_taken_when_it_leaves() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let place = |_: &FrontendKey, _: &Frontend| Ok(address);
    let mut listeners = Listeners::new(WORKERS, 1000);
    let table = services(1, 1);
    assert!(listeners.update(&table, &place).is_empty());
    assert!(listeners.not_served(&table)[0].why.contains("something else listens"));
    drop(stranger);
    assert!(listeners.update(&table, &place).is_empty(), "left to `retry`, so that updates stay cheap");
    assert_eq!(opened(&listeners.retry(&table, &place)).len(), WORKERS);
    assert!(listeners.not_served(&table).is_empty());
}

#[test]
fn an_address_that_is_still_closing_is_no_stranger() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let open = listeners.update(&services(1, 1), &loopback);
    let address = listeners.bound(&services(1, 1))[0].address;
    let close = listeners.update(&services(1, 0), &loopback);
    assert_eq!(closed(&close), 2);
    let place = |_: &FrontendKey, _: &Frontend| Ok(address);
    let again = listeners.update(&services(1, 1), &place);
    assert_eq!(opened(&again).len(), 2, "{:?}", listeners.failures());
    drop((open, close, again));
}

#[test]
fn nothing_is_said_of_what_is_not_planned_yet() {
    let mut listeners = Listeners::new(WORKERS, 1000);
    let mut table = services(1, 1);
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        table.frontends.insert(key(1, protocol), Frontend { kind: FrontendKind::ClusterIp, service: 1 });
    }
    assert_eq!(opened(&listeners.update(&table, &loopback)).len(), WORKERS);
    assert!(listeners.not_served(&table).is_empty(), "it has no name to be told by");
}
