//! The shell: real sockets, real time in milliseconds.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::*;
use crate::probe::counters::{Counters, Counts, KeyKind};
use crate::probe::prober::{Options, run};
use crate::probe::schedule::Flip;

const OPTIONS: Options = Options { max_in_flight: 4, seed: 1 };

/// Nothing here takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(20);

fn every(period_ms: u64) -> Probe {
    Probe { period: Duration::from_millis(period_ms), timeout: Duration::from_secs(10), ..tcp(None) }
}

async fn next(flips: &mut mpsc::Receiver<Flip>) -> Flip {
    timeout(HANGS, flips.recv()).await.unwrap().unwrap()
}

/// A server that answers with 200 or 503, as it is told.
async fn web() -> (SocketAddr, Arc<AtomicBool>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, healthy) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
    let says = Arc::clone(&healthy);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let status = if says.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    (address, healthy)
}

fn http() -> ProbeAction {
    ProbeAction::Http { tls: false, host: None, port: None, path: "/readyz".to_owned(), headers: vec![] }
}

#[tokio::test]
async fn a_target_goes_and_comes_back() {
    let (address, healthy) = web().await;
    let target = Target { key: container("a"), probe: Probe { action: http(), ..every(5) }, address };
    let (targets, seen) = watch::channel(watched(&[(3, target)]));
    let (told, mut flips) = mpsc::channel(1);
    let counters = Arc::<Counters>::default();
    let prober = tokio::spawn(run(seen, told, OPTIONS, Arc::clone(&counters)));
    let flip = next(&mut flips).await;
    assert_eq!((flip.key, flip.life, flip.ready), (container("a"), 3, true));
    assert_eq!(flip.reason, format!("GET http://{address}/readyz: 200 OK"));
    healthy.store(false, Ordering::SeqCst);
    let flip = next(&mut flips).await;
    assert!(!flip.ready);
    assert_eq!(flip.reason, format!("3 times in a row, last: GET http://{address}/readyz: 503 Service Unavailable"));
    healthy.store(true, Ordering::SeqCst);
    assert!(next(&mut flips).await.ready);
    let Counts { attempts, held, .. } = counters.counts();
    let count = |kind, verdict| attempts.iter().find(|(a, b, _)| (*a, *b) == (kind, verdict)).unwrap().2;
    assert!(count(KeyKind::Container, Verdict::Success) >= 2 && count(KeyKind::Container, Verdict::Failure) >= 3, "{attempts:?}");
    assert_eq!((count(KeyKind::Endpoint, Verdict::Success), held), (0, 0));
    drop(targets);
    timeout(HANGS, prober).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let (_targets, seen) = watch::channel(Watched::new());
    let (told, flips) = mpsc::channel(1);
    let prober = tokio::spawn(run(seen, told, OPTIONS, Arc::default()));
    drop(flips);
    timeout(HANGS, prober).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_of_each_and_holds_nothing_up() {
    let (address, healthy) = web().await;
    let probe = |failures| Probe { action: http(), failure_threshold: failures, ..every(1) };
    let targets: Vec<_> = ["a", "b", "c"].iter().map(|name| (1, Target { key: container(name), probe: probe(1), address })).collect();
    let (_targets, seen) = watch::channel(watched(&targets));
    let (told, mut flips) = mpsc::channel(1);
    let counters = Arc::<Counters>::default();
    tokio::spawn(run(seen, told, OPTIONS, Arc::clone(&counters)));
    // Nobody reads, and probing goes on.
    let attempts = |verdict| counters.counts().attempts.iter().filter(|(_, v, _)| *v == verdict).map(|(_, _, count)| count).sum::<u64>();
    for (says, verdict) in [(true, Verdict::Success), (false, Verdict::Failure)] {
        healthy.store(says, Ordering::SeqCst);
        let enough = attempts(verdict) + 30;
        timeout(HANGS, async {
            while attempts(verdict) < enough {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
    let mut newest = BTreeMap::new();
    for _ in 0..4 {
        let flip = next(&mut flips).await;
        newest.insert(flip.key, flip.ready);
    }
    // One was in the channel, three wait: each target's last word is among them.
    assert_eq!(newest.into_values().collect::<Vec<_>>(), [false; 3]);
}

#[tokio::test]
async fn what_is_no_longer_watched_is_broken_off() {
    use tokio::io::AsyncReadExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { key: container("a"), probe: Probe { action: http(), ..every(5) }, address: listener.local_addr().unwrap() };
    let (targets, seen) = watch::channel(watched(&[(1, target)]));
    let (told, _flips) = mpsc::channel(1);
    let counters = Arc::<Counters>::default();
    tokio::spawn(run(seen, told, OPTIONS, Arc::clone(&counters)));
    let (mut stream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    targets.send_replace(Watched::new());
    // The request, and then the end: nobody waits for an answer any more.
    let read = timeout(HANGS, stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    timeout(HANGS, async {
        while counters.counts().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(counters.counts().attempts.iter().all(|(_, _, count)| *count == 0), "it is not counted as an answer");
}
