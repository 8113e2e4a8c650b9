//! UDP: time passes and tables change while clients keep their source port.

use std::time::Duration;

use tokio::net::UdpSocket;

use crate::table::Drain;

use super::rig::{Rig, config, within};
use super::udp::{answering, client, query, ready, rig};

/// Replaced under a client that never changes its port: the next datagram after the change reaches the new endpoint.
#[tokio::test]
async fn a_replaced_endpoint_is_left_with_the_next_datagram() {
    for drain in [Drain::Keep, Drain::Reset, Drain::After(Duration::from_secs(600))] {
        let (old, new) = (answering("old", "127.0.0.1:0").await, answering("new", "127.0.0.1:0").await);
        let with = |endpoint| {
            let mut port = ready(&[endpoint]);
            port.options.drain = drain;
            port
        };
        let mut rig = rig(with(old));
        let client = client(&rig).await;
        assert_eq!(query(&client, b"!").await.unwrap(), "old!");
        rig.publish(Some(with(new)));
        // The worker takes its commands in order: when it answers this, the table is in force.
        assert_eq!(rig.snapshot().await.totals.endpoint_left, 1);
        assert_eq!(query(&client, b"!").await.unwrap(), "new!");
        let (_, log) = rig.end(Duration::ZERO).await;
        assert_eq!((&log[0]["outcome"], &log[0]["endpoint"]), (&"endpoint-left".into(), &old.to_string().into()));
        assert_eq!((&log[1]["generation"], &log[1]["endpoint"]), (&2.into(), &new.to_string().into()));
    }
}

#[tokio::test]
async fn flows_of_the_endpoints_that_stay_go_on() {
    let endpoints = [answering("a", "127.0.0.1:0").await, answering("b", "127.0.0.1:0").await, answering("c", "127.0.0.1:0").await];
    let port = ready(&endpoints);
    let loads: Vec<_> = port.endpoints.iter().map(|endpoint| endpoint.load.clone()).collect();
    let mut rig = rig(port);
    let clients = [client(&rig).await, client(&rig).await, client(&rig).await];
    for (client, name) in clients.iter().zip(["a", "b", "c"]) {
        assert_eq!(query(client, b"").await.unwrap(), name);
    }
    rig.publish(Some(ready(&endpoints[1..])));
    assert_eq!(query(&clients[1], b"").await.unwrap(), "b");
    assert_eq!(query(&clients[2], b"").await.unwrap(), "c");
    assert_ne!(query(&clients[0], b"").await.unwrap(), "a");
    let totals = rig.snapshot().await.totals;
    assert_eq!((totals.accepted, totals.endpoint_left, totals.active, loads[0].active()), (4, 1, 3, 0));
}

/// The mask comes before the plan that knows the new endpoint: a datagram in between waits for that plan.
#[tokio::test]
async fn a_datagram_between_the_mask_and_the_plan_waits_for_the_plan() {
    let (leaving, coming) = (answering("leaving", "127.0.0.1:0").await, answering("coming", "127.0.0.1:0").await);
    let mut rig = rig(ready(&[leaving]));
    let client = client(&rig).await;
    assert_eq!(query(&client, b"1").await.unwrap(), "leaving1");
    let mut masked = ready(&[leaving]);
    masked.masked = [0].into();
    rig.publish(Some(masked));
    assert_eq!(rig.snapshot().await.totals.endpoint_left, 1);
    let asked = rig.script.asked();
    client.send(b"2").await.unwrap();
    within(async {
        while rig.script.asked() == asked {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    rig.publish(Some(ready(&[coming])));
    let answer = super::udp::receive(&client).await.unwrap();
    assert_eq!(answer, b"coming2");
}

#[tokio::test]
async fn terminating_endpoints_keep_their_flows_until_the_drain_rule_ends_them() {
    for (drain, ends) in [(Drain::Keep, false), (Drain::Reset, true), (Drain::After(Duration::from_millis(150)), true)] {
        let (terminating, other) = (answering("terminating", "127.0.0.1:0").await, answering("other", "127.0.0.1:0").await);
        let mut rig = rig(ready(&[terminating]));
        let client = client(&rig).await;
        assert_eq!(query(&client, b"").await.unwrap(), "terminating");
        let mut port = ready(&[terminating, other]);
        let mut endpoints = port.endpoints.to_vec();
        (endpoints[0].conditions.ready, endpoints[0].conditions.terminating) = (false, true);
        port.endpoints = endpoints.into();
        port.options.drain = drain;
        rig.publish(Some(port));
        let left = rig.snapshot().await.totals.endpoint_left;
        assert_eq!(left, u64::from(drain == Drain::Reset), "{drain:?}");
        if ends {
            rig.until(|snapshot| snapshot.totals.endpoint_left == 1).await;
        } else {
            assert_eq!(query(&client, b"").await.unwrap(), "terminating");
        }
    }
}

#[tokio::test]
async fn an_idle_flow_ends_and_a_used_one_does_not() {
    let mut port = ready(&[answering("", "127.0.0.1:0").await]);
    port.options.udp_idle_timeout = Some(Duration::from_millis(400));
    let rig = rig(port);
    let (idle, used) = (client(&rig).await, client(&rig).await);
    query(&idle, b"x").await.unwrap();
    within(async {
        while rig.snapshot().await.totals.closed == 0 {
            query(&used, b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let totals = rig.snapshot().await.totals;
    assert_eq!((totals.accepted, totals.closed, totals.active), (2, 1, 1));
    let (_, log) = rig.end(Duration::ZERO).await;
    let duration = log[0]["duration_ms"].as_u64().unwrap();
    assert!(log[0]["outcome"] == "closed" && (400..).contains(&duration), "{}", log[0]);
}

#[tokio::test]
async fn a_flow_ends_at_its_maximum_age_however_busy() {
    let mut port = ready(&[answering("", "127.0.0.1:0").await]);
    port.options.max_connection_age = Some(Duration::from_millis(150));
    let rig = rig(port);
    let client = client(&rig).await;
    within(async {
        while rig.snapshot().await.totals.aged == 0 {
            // An answer that comes after the end is lost.
            client.send(b"x").await.unwrap();
        }
    })
    .await;
    client.send(b"again").await.unwrap();
    while super::udp::receive(&client).await.unwrap() != b"again" {}
}

#[tokio::test]
async fn what_is_queued_when_a_frontend_goes_is_passed_on() {
    let backend = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut rig = rig(ready(&[backend.local_addr().unwrap()]));
    let script = rig.script.clone();
    let held = script.hold();
    let clients = [client(&rig).await, client(&rig).await, client(&rig).await];
    for client in &clients {
        client.send(b"in time").await.unwrap();
    }
    // The worker stands still with the first one.
    rig.publish(None);
    drop(held);
    for _ in 0..3 {
        assert_eq!(super::udp::receive(&backend).await.unwrap(), b"in time");
    }
    let snapshot = rig.until(|snapshot| snapshot.totals.endpoint_left == 3).await;
    assert_eq!((snapshot.totals.accepted, snapshot.totals.active), (3, 0));
    clients[0].send(b"late").await.unwrap();
    let refused = super::udp::receive(&clients[0]).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "nobody listens any more");
}

#[tokio::test]
async fn a_drain_lets_flows_go_on_and_begins_no_new_ones() {
    let mut port = ready(&[answering("", "127.0.0.1:0").await]);
    port.options.udp_idle_timeout = Some(Duration::from_millis(600));
    let rig = rig(port);
    let address = rig.address();
    let old = client(&rig).await;
    query(&old, b"x").await.unwrap();
    let drain = tokio::spawn(rig.end(Duration::from_secs(600)));
    // Refused or lost, but not answered: as soon as that is so, the drain has begun.
    within(async {
        loop {
            let new = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            new.connect(address).await.unwrap();
            new.send(b"x").await.unwrap();
            assert_eq!(query(&old, b"on").await.unwrap(), "on");
            let mut answer = [0; 8];
            match tokio::time::timeout(Duration::from_millis(20), new.recv(&mut answer)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    })
    .await;
    // The drain ends with the last flow, which nobody uses any more.
    let (snapshot, _) = within(drain).await.unwrap();
    assert!(snapshot.totals.balances() && snapshot.totals.drained == 0 && snapshot.totals.closed > 0, "{snapshot:?}");
    assert!(snapshot.datagrams_lost["draining"] > 0);
}

#[tokio::test]
async fn a_hundred_tables_a_second_lose_no_question() {
    let endpoints = [answering("a", "127.0.0.1:0").await, answering("b", "127.0.0.1:0").await];
    let mut rig = Rig::on(super::rig::key_of("10.97.72.1", crate::table::Protocol::Udp), &config(), ready(&endpoints));
    let asking = client(&rig).await;
    let questions = tokio::spawn(async move {
        for n in 0..500 {
            // The endpoint of a question may leave before it has answered; its answer is then lost, and the client asks again.
            loop {
                asking.send(n.to_string().as_bytes()).await.unwrap();
                let answer = tokio::time::timeout(Duration::from_millis(200), super::udp::receive(&asking)).await;
                if let Ok(answer) = answer {
                    let answer = String::from_utf8(answer.unwrap()).unwrap();
                    if answer[1..] == n.to_string() {
                        break;
                    }
                }
            }
        }
    });
    let mut tables = 0;
    while !questions.is_finished() {
        rig.publish(Some(ready(&endpoints[tables % 2..])));
        tables += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    within(questions).await.unwrap();
    assert!(tables > 1);
    assert!(rig.snapshot().await.totals.balances());
}
