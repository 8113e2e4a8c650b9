//! Each way of asking against a server that this file writes by hand, on loopback addresses.
#![allow(clippy::unwrap_used, reason = "a wrong fixture must fail the test")]

mod exec;
mod grpc;
mod http;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::ask;
use crate::objects::{Probe, ProbeAction};
use crate::probe::schedule::{Answer, Verdict};
use crate::probe::targets::{ProbeKey, Target};

/// For answers that come: nothing here takes this long unless it hangs.
const LONG: Duration = Duration::from_secs(20);

/// For answers that never come.
const SHORT: Duration = Duration::from_millis(50);

async fn asked(action: ProbeAction, address: SocketAddr, timeout: Duration) -> Answer {
    let probe = Probe { action, initial_delay: Duration::ZERO, period: LONG, timeout, success_threshold: 1, failure_threshold: 1 };
    let key = ProbeKey::Endpoint { namespace: "default".to_owned(), service: "web".to_owned(), address };
    ask(&Target { key, probe, address }).await
}

/// An address where nobody listens: the port was ours until now.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn tcp(host: Option<&str>) -> ProbeAction {
    ProbeAction::Tcp { host: host.map(ToOwned::to_owned), port: None }
}

#[tokio::test]
async fn a_connection_is_success() {
    for (bind, host) in [("127.0.0.1:0", None), ("[::1]:0", None), ("[::1]:0", Some("::1")), ("127.0.0.1:0", Some("localhost"))] {
        let listener = TcpListener::bind(bind).await.unwrap();
        let answer = asked(tcp(host), listener.local_addr().unwrap(), LONG).await;
        assert_eq!(answer.verdict, Verdict::Success, "{host:?} {answer:?}");
    }
}

#[tokio::test]
async fn the_named_host_is_asked_and_not_the_pod() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), listener.local_addr().unwrap().port());
    assert_eq!(asked(tcp(None), elsewhere, LONG).await.verdict, Verdict::Failure);
    assert_eq!(asked(tcp(Some("127.0.0.1")), elsewhere, LONG).await.verdict, Verdict::Success);
}

#[tokio::test]
async fn a_refusal_is_failure() {
    let address = nobody().await;
    let answer = asked(tcp(None), address, LONG).await;
    assert_eq!(answer.verdict, Verdict::Failure);
    assert!(answer.message.starts_with(&format!("connecting to {address}: Connection refused")), "{answer:?}");
}

#[test]
fn what_this_host_has_run_out_of_says_nothing_about_the_target() {
    for (code, verdict) in [
        (libc::EMFILE, Verdict::Unknown),
        (libc::ENFILE, Verdict::Unknown),
        (libc::ENOMEM, Verdict::Unknown),
        (libc::ECONNREFUSED, Verdict::Failure),
        (libc::EHOSTUNREACH, Verdict::Failure),
        (libc::ENOENT, Verdict::Failure),
    ] {
        assert_eq!(Answer::error("asking", &std::io::Error::from_raw_os_error(code)).verdict, verdict, "{code}");
    }
}
