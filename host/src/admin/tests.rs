#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::workbench::report::{self, Report};

/// An admin port on a free port, and the engine's end of its channels.
struct Port {
    address: SocketAddr,
    readiness: watch::Sender<Readiness>,
    bound: Arc<ArcSwap<Bound>>,
    events: Arc<EventLog>,
    health: Arc<ProxyHealth>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Port {
    async fn open() -> Self {
        Self::guarded(None).await
    }

    async fn guarded(token: Option<Token>) -> Self {
        let (readiness, readiness_seen) = watch::channel(Readiness::Serving);
        let (metrics, mut metrics_asked) = mpsc::channel::<oneshot::Sender<Metrics>>(1);
        let (policies, mut policies_asked) = mpsc::channel(1);
        let health = health();
        let (objects, mut objects_asked) = mpsc::channel::<ObjectsRequest>(1);
        tokio::spawn(async move {
            while let Some(request) = objects_asked.recv().await {
                let _ = request.reply.send(json!({"kind": "List", "asked": format!("{:?}", request.kind)}));
            }
        });
        let (shadows, mut shadows_asked) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(request) = shadows_asked.recv().await {
                tried(request);
            }
        });
        let bound = Arc::new(ArcSwap::from_pointee(Bound::default()));
        let events = Arc::new(EventLog::new());
        let handle = Handle {
            readiness: readiness_seen,
            bound: Arc::clone(&bound),
            events: Arc::clone(&events),
            metrics,
            health: Arc::clone(&health),
            objects,
            policies,
            shadows,
            token,
        };
        tokio::spawn(async move {
            while let Some(reply) = metrics_asked.recv().await {
                let _ = reply.send(Metrics { generation: 42, ..Metrics::default() });
            }
        });
        tokio::spawn(async move {
            let mut checked = vec![];
            while let Some(request) = policies_asked.recv().await {
                match request {
                    // Its check takes until "slow" is rolled back.
                    PolicyRequest::Swap { name, component, reply } if name == "slow" => checked.push((component, reply)),
                    PolicyRequest::Rollback { name, reply } if name == "slow" => {
                        checked.clear();
                        drop(reply);
                    }
                    request => engine(request),
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, handle, async move {
            let _ = stopped.await;
        }));
        Self { address, readiness, bound, events, health, stop: Some(stop), server }
    }

    /// The answer to these bytes, until the server closes.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}");
        let mut request = head.into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        Answer::of(&self.raw(&request).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"").await
    }
}

fn health() -> Arc<ProxyHealth> {
    Arc::new(ProxyHealth::new(vec!["IPv4"], SystemTime::now()))
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn says(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.body.contains(part), "{self:?}");
    }
}

/// An engine that knows the policy "mine".
fn engine(request: PolicyRequest) {
    let swapped =
        |digest: String, changed| Swapped { name: "mine".to_owned(), stage: "balancer".to_owned(), digest, previous: None, changed };
    let unknown = |name: &str| Refused {
        kind: RefusedKind::UnknownPolicy,
        error: format!("there is no policy \"{name}\""),
        remedy: Some("there are: mine".to_owned()),
    };
    match request {
        PolicyRequest::List { reply } => {
            let mine = PolicyStatus {
                name: "mine".to_owned(),
                stage: "balancer".to_owned(),
                digest: "sha256:aa".to_owned(),
                builtin: false,
                previous: None,
                breaker: Some("closed".to_owned()),
            };
            let _ = reply.send(vec![mine]);
        }
        PolicyRequest::Swap { name, component, reply } => {
            let _ = reply.send(match (name.as_str(), component.bytes.as_slice()) {
                ("random", _) => Err(Refused { kind: RefusedKind::Conflict, error: "built in".to_owned(), remedy: None }),
                (_, b"nonsense") => Err(Refused { kind: RefusedKind::Component, error: "not a component".to_owned(), remedy: None }),
                (_, component) => Ok(swapped(format!("{} bytes", component.len()), true)),
            });
        }
        PolicyRequest::Rollback { name, reply } => {
            let _ = reply.send(if name == "mine" { Ok(swapped("sha256:bb".to_owned(), true)) } else { Err(unknown(&name)) });
        }
    }
}

#[tokio::test]
async fn readiness_follows_the_engine_and_health_does_not() {
    let port = Port::open().await;
    port.get("/readyz").await.says(200, "serving");
    port.readiness.send_replace(Readiness::Starting(vec!["no table yet".to_owned()]));
    port.get("/readyz").await.says(503, "no table yet");
    port.readiness.send_replace(Readiness::Draining);
    let answer = port.get("/readyz").await;
    answer.says(503, "draining");
    assert!(answer.json()["reasons"].is_array());
    port.get("/healthz").await.says(200, r#""healthy":true"#);
}

#[tokio::test]
async fn health_is_told_as_kube_proxy_tells_it() {
    let port = Port::open().await;
    let answer = port.get("/healthz").await;
    assert_eq!((answer.status, &answer.json()["healthy"], &answer.json()["nodeEligible"]), (200, &json!(true), &json!(true)));
    assert!(answer.head.contains("x-content-type-options: nosniff") && answer.head.contains("application/json"), "{}", answer.head);
    port.health.set_node_eligible(false);
    port.get("/healthz").await.says(503, r#""healthy":false"#);
    let answer = port.get("/livez").await;
    assert_eq!((answer.status, answer.json().get("nodeEligible")), (200, None));
    assert_eq!(port.get("/proxyMode").await.body, "pointsman");
}

#[tokio::test]
async fn objects_are_listed_by_their_plural_names() {
    let port = Port::open().await;
    for (plural, kind) in [("services", "Service"), ("endpoints", "Endpoints"), ("endpointslices", "EndpointSlice"), ("pods", "Pod")] {
        assert_eq!(port.get(&format!("/objects/{plural}")).await.json(), json!({"kind": "List", "asked": kind}));
    }
    port.get("/objects/deployments").await.says(404, "/objects/KIND");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let port = Port::open().await;
    let answer = port.get("/metrics").await;
    answer.says(200, "\npointsman_table_generation 42\n");
    assert!(answer.body.ends_with("# EOF\n"), "{answer:?}");
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{answer:?}");
}

#[tokio::test]
async fn bound_and_events_have_their_documented_shape() {
    let port = Port::open().await;
    let address = |text: &str| text.parse().unwrap();
    port.bound.store(Arc::new(Bound {
        frontends: vec![BoundFrontend {
            service: "default/web:http".to_owned(),
            frontend: "cluster-ip".to_owned(),
            address: address("10.97.72.1:80"),
            protocol: "tcp".to_owned(),
            bound: address("127.97.72.1:80"),
        }],
        admin: Some(address("127.0.0.1:4312")),
        not_served: vec![NotServed { address: address("[fd00::1]:80"), service: "default/six:80".to_owned(), why: "IPv6".to_owned() }],
    }));
    let wanted = json!({
        "frontends": [{"service": "default/web:http", "frontend": "cluster-ip", "address": "10.97.72.1:80", "protocol": "tcp", "bound": "127.97.72.1:80"}],
        "admin": "127.0.0.1:4312",
        "not_served": [{"address": "[fd00::1]:80", "service": "default/six:80", "why": "IPv6"}],
    });
    assert_eq!(port.get("/bound").await.json(), wanted);

    port.events.record(Event {
        time: SystemTime::UNIX_EPOCH,
        severity: Severity::Warning,
        file: Some("web.yaml".to_owned()),
        line: Some(7),
        object: Some("Service default/web".to_owned()),
        field: Some("spec.ports[0].nodePort".to_owned()),
        message: "taken".to_owned(),
        remedy: Some("choose another".to_owned()),
    });
    let wanted = json!({"events": [{
        "time": "1970-01-01T00:00:00.000Z", "count": 1, "severity": "warning", "file": "web.yaml", "line": 7, "object": "Service default/web",
        "field": "spec.ports[0].nodePort", "message": "taken", "remedy": "choose another",
    }]});
    assert_eq!(port.get("/events").await.json(), wanted);
}

#[tokio::test]
async fn policies_are_listed_swapped_and_rolled_back() {
    let port = Port::open().await;
    assert_eq!(port.get("/policies").await.json()["policies"][0]["name"], "mine");
    assert_eq!(port.get("/policies/mine").await.json()["digest"], "sha256:aa");
    port.get("/policies/other").await.says(404, "there are: mine");
    port.ask("POST", "/policies/mine/swap", "", b"component").await.says(200, "9 bytes");
    port.ask("POST", "/policies/mine/swap", "", b"nonsense").await.says(422, "not a component");
    port.ask("POST", "/policies/random/swap", "", b"component").await.says(409, "built in");
    port.ask("POST", "/policies/mine/swap", "", b"").await.says(400, "no body");
    port.ask("POST", "/policies/mine/rollback", "", b"").await.says(200, "sha256:bb");
    let answer = port.ask("POST", "/policies/other/rollback", "", b"").await;
    assert_eq!((answer.status, answer.json()), (404, json!({"error": "there is no policy \"other\"", "remedy": "there are: mine"})));
}

#[tokio::test]
async fn a_component_may_come_in_chunks() {
    let port = Port::open().await;
    let request = b"POST /policies/mine/swap HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncomp\r\n6\r\nonents\r\n0\r\n\r\n";
    Answer::of(&port.raw(request).await).says(200, "10 bytes");
    let broken = b"POST /policies/mine/swap HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    Answer::of(&port.raw(broken).await).says(400, "framing");
}

#[tokio::test]
async fn a_component_counts_until_it_is_checked_also_when_its_sender_hangs_up() {
    let port = Port::open().await;
    let request = b"POST /policies/slow/swap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nslow";
    let mut senders = vec![];
    for _ in 0..MAX_UPLOADS {
        let mut sender = TcpStream::connect(port.address).await.unwrap();
        sender.write_all(request).await.unwrap();
        senders.push(sender);
    }
    // They may still be on their way in.
    while port.ask("POST", "/policies/mine/swap", "", b"component").await.status == 200 {}
    drop(senders);
    for _ in 0..20 {
        port.ask("POST", "/policies/mine/swap", "", b"component").await.says(503, "2 other components");
    }
    port.ask("POST", "/policies/slow/rollback", "", b"").await.says(503, "starting or ending");
    port.ask("POST", "/policies/mine/swap", "", b"component").await.says(200, "9 bytes");
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_reason() {
    let port = Port::open().await;
    let whole = vec![0_u8; MAX_COMPONENT_BYTES];
    port.ask("POST", "/policies/mine/swap", "", &whole).await.says(200, "33554432 bytes");
    let more = vec![0_u8; MAX_COMPONENT_BYTES + 1];
    port.ask("POST", "/policies/mine/swap", "", &more).await.says(413, "larger than 32 MiB");
    // A client that asks first is spared the trouble of sending.
    let head = "POST /policies/mine/swap HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n";
    Answer::of(&port.raw(head.as_bytes()).await).says(413, "larger than 32 MiB");
    port.get("/healthz").await.says(200, r#""healthy":true"#);
}

#[tokio::test]
async fn wrong_paths_and_methods_say_what_there_is() {
    let port = Port::open().await;
    for path in ["/", "/metric", "/policies/", "/policies/a/b", "/policies/a/swap/", "/policies//swap", "/policies/..%2f/swap"] {
        port.get(path).await.says(404, "/healthz /livez /readyz /metrics /proxyMode /bound /events /objects/KIND");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/bound", "/events", "/policies", "/policies/mine"] {
        let answer = port.ask("POST", path, "", b"x").await;
        answer.says(405, "does not take POST");
        assert!(answer.head.contains("\r\nallow: get, head"), "{answer:?}");
        let answer = port.ask("HEAD", path, "", b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    let answer = port.get("/policies/mine/swap").await;
    answer.says(405, "use POST");
    assert!(answer.head.contains("\r\nallow: post"), "{answer:?}");
}

#[tokio::test]
async fn changes_need_the_token_and_looking_does_not() {
    let port = Port::guarded(Some(Token::new("correct-horse-battery"))).await;
    port.get("/policies").await.says(200, "mine");
    let answer = port.ask("POST", "/policies/mine/rollback", "", b"").await;
    answer.says(401, "need a token");
    assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    port.ask("POST", "/policies/mine/rollback", "Authorization: Bearer wrong-horse-battery\r\n", b"").await.says(401, "not the token");
    port.ask("POST", "/policies/mine/rollback", "Authorization: Bearer correct-horse-battery\r\n", b"").await.says(200, "sha256:bb");
}

#[tokio::test]
async fn web_pages_neither_change_nor_look() {
    let port = Port::open().await;
    port.ask("POST", "/policies/mine/swap", "Origin: http://evil.example\r\n", b"x").await.says(403, "web page");
    let rebound = b"GET /events HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    Answer::of(&port.raw(rebound).await).says(403, "Host");
}

#[tokio::test]
async fn garbage_is_survived() {
    let port = Port::open().await;
    let long = [b"GET /".as_slice(), &[b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat();
    for garbage in [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".as_slice(), b"\r\n\r\n\0\0\0\0", b"GET\r\n\r\n", &long] {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        // The server may close before it has read everything: that is an answer, too.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    port.get("/healthz").await.says(200, r#""healthy":true"#);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_room_comes_back() {
    let port = Port::open().await;
    let mut held = vec![];
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut refused = TcpStream::connect(port.address).await.unwrap();
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
    drop(held);
    // The server learns of the closes one by one; each try that is turned away is answered at once.
    loop {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        if stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {
            break;
        }
    }
}

/// Where a server with these limits answers every request with nothing.
async fn limited(limits: server::Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, limits, |_, _| async { server::Answer::default() }, std::future::pending()));
    address
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_header_that_never_ends_is_not_waited_for() {
    let address = limited(server::Limits { connections: 1, header: SHORT, age: LONG }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_connection_that_never_ends_is_ended() {
    let address = limited(server::Limits { connections: 1, header: LONG, age: SHORT }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn it_ends_when_told_and_idle_connections_do_not_hold_it_up() {
    let mut port = Port::open().await;
    let mut idle = TcpStream::connect(port.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    port.stop.take().unwrap().send(()).unwrap();
    port.server.await.unwrap();
    assert_eq!(idle.read(&mut [0; 1024]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(port.address).await.is_err());
}

#[tokio::test]
async fn an_engine_that_is_gone_is_said_to_be() {
    let (_, readiness) = watch::channel(Readiness::Draining);
    let (metrics, _) = mpsc::channel(1);
    let (policies, _) = mpsc::channel(1);
    let (objects, _) = mpsc::channel(1);
    let (shadows, _) = mpsc::channel(1);
    let (bound, events, health) = (Arc::default(), Arc::default(), health());
    let handle = Handle { readiness, bound, events, metrics, health, objects, policies, shadows, token: None };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (keep, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, handle, async move {
        let _ = stopped.await;
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Answer::of(&answer).says(503, "starting or ending");
    drop(keep);
    server.await.unwrap();
}

/// maglev is tried on default/web.
fn tried(request: ShadowRequest) {
    let status = ShadowStatus {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        balancer: "round-robin".to_owned(),
        candidate: "maglev".to_owned(),
        digest: Some("sha256:aa".to_owned()),
        canary: None,
    };
    match request {
        ShadowRequest::List { reply } => drop(reply.send(vec![status])),
        ShadowRequest::Report { namespace, name, reply } => {
            let subject = |name: &str| report::Subject { name: name.to_owned(), digest: None };
            let report = Report {
                schema: report::SCHEMA.to_owned(),
                kind: report::Kind::Shadow,
                subjects: vec![subject("round-robin"), subject("maglev")],
                seed: None,
                verdict: report::Verdict::Holds,
                cases: vec![],
                metrics: vec![],
                plots: vec![],
                notes: vec![],
            };
            drop(reply.send((namespace == "default" && name == "web").then(|| Box::new(report))));
        }
    }
}

#[tokio::test]
async fn what_is_tried_is_shown_in_every_view() {
    let port = Port::open().await;
    let list: Value = serde_json::from_str(&port.get("/shadow").await.body).unwrap();
    assert_eq!(list["shadows"][0]["candidate"], "maglev");
    for path in ["/shadow/default/web", "/shadow/default/web?format=json", "/shadow/default/web?"] {
        let report: Report = serde_json::from_str(&port.get(path).await.body).unwrap();
        assert_eq!((report.kind, report.subjects.len()), (report::Kind::Shadow, 2), "{path}");
    }
    for (format, within) in [("text", "maglev"), ("html", "<!"), ("junit", "<?xml")] {
        let answer = port.get(&format!("/shadow/default/web?format={format}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(within), "{answer:?}");
    }
    port.get("/shadow/default/web?format=xml").await.says(400, "format=xml");
    port.get("/shadow/default/other").await.says(404, "pointsman.dev/balancer-shadow");
    for path in ["/shadow/", "/shadow/default", "/shadow/default/", "/shadow/default/web/more", "/shadow//web"] {
        assert_eq!(port.get(path).await.status, 404, "{path}");
    }
    assert_eq!(port.ask("POST", "/shadow/default/web", "", b"").await.status, 405);
}
