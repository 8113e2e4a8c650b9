//! `httpGet`.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A server that answers each request head with what `answer` makes of it, and hangs up; `None`: it hangs on.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(bind: &str, answer: impl Fn(&str, SocketAddr) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind(bind).await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head.clone());
                match answer(&head, address) {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => open.push(stream),
                }
            }
        });
        Self { address, heads }
    }

    /// The paths that were asked for.
    fn paths(&self) -> Vec<String> {
        self.heads.lock().unwrap().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

fn get(path: &str, headers: &[(&str, &str)]) -> ProbeAction {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ProbeAction::Http { tls: false, host: None, port: None, path: path.to_owned(), headers }
}

fn redirect(to: &str) -> Option<String> {
    Some(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
}

fn fine() -> Option<String> {
    Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned())
}

#[tokio::test]
async fn the_status_decides() {
    for (status, verdict) in [
        ("200 OK", Verdict::Success),
        ("204 No Content", Verdict::Success),
        ("299 Odd", Verdict::Success),
        // A redirect that leads nowhere, and what is none.
        ("302 Found", Verdict::Success),
        ("304 Not Modified", Verdict::Success),
        ("399 Odd", Verdict::Success),
        ("400 Bad Request", Verdict::Failure),
        ("404 Not Found", Verdict::Failure),
        ("500 Internal Server Error", Verdict::Failure),
        ("503 Service Unavailable", Verdict::Failure),
    ] {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let server = Server::start(bind, move |_, _| Some(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))).await;
            let answer = asked(get("/readyz", &[]), server.address, LONG).await;
            assert_eq!(answer.verdict, verdict, "{status}: {answer:?}");
            assert!(answer.message.starts_with(&format!("GET http://{}/readyz: {}", server.address, &status[..3])), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_failure() {
    for (case, answer, timeout) in [
        ("silence", None, SHORT),
        ("nothing", Some(String::new()), LONG),
        ("another protocol", Some("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), LONG),
        ("half a head", Some("HTTP/1.1 200 OK\r\nContent-".to_owned()), LONG),
        ("a head without end", Some(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000))), LONG),
        ("a body that breaks off", Some("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok".to_owned()), LONG),
    ] {
        let server = Server::start("127.0.0.1:0", move |_, _| answer.clone()).await;
        let answer = asked(get("/", &[]), server.address, timeout).await;
        assert_eq!(answer.verdict, Verdict::Failure, "{case}: {answer:?}");
        let late = answer.message == format!("GET http://{}/: no answer within 50ms", server.address);
        assert_eq!(late, timeout == SHORT, "{case}: {answer:?}");
    }
    assert_eq!(asked(get("/", &[]), nobody().await, LONG).await.verdict, Verdict::Failure);
}

#[tokio::test]
async fn only_the_beginning_of_a_body_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(10 * 1024)).as_bytes()).await.unwrap();
        // Then we are hung up on.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(asked(get("/", &[]), address, LONG).await.verdict, Verdict::Success);
    tokio::time::timeout(LONG, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn http_1_0_and_a_body_without_length_are_answers() {
    let server = Server::start("127.0.0.1:0", |_, _| Some("HTTP/1.0 200 OK\r\n\r\nok".to_owned())).await;
    assert_eq!(asked(get("/", &[]), server.address, LONG).await.verdict, Verdict::Success);
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host() {
    let other = Server::start("127.0.0.1:0", |_, _| fine()).await;
    let port = other.address.port();
    let server = Server::start("127.0.0.1:0", move |head, own| match head.split(' ').nth(1) {
        Some("/start") => redirect("/second"),
        Some("/second") => redirect("third?x=1"),
        Some("/third?x=1") => redirect(&format!("http://{own}/fourth")),
        Some("/fourth") => redirect(&format!("http://127.0.0.1:{port}/last")),
        _ => Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()),
    })
    .await;
    let answer = asked(get("/start", &[]), server.address, LONG).await;
    assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
    assert_eq!(server.paths(), ["/start", "/second", "/third?x=1", "/fourth"]);
    assert_eq!(other.paths(), ["/last"]);
    assert_eq!(asked(get("/none", &[]), server.address, LONG).await.verdict, Verdict::Failure);
}

#[tokio::test]
async fn where_a_redirect_ends() {
    for (location, verdict, requests) in [
        // Elsewhere: success by itself, and nobody there is asked.
        ("http://127.0.0.2:1/", Verdict::Success, 1),
        ("https://shop.test/login", Verdict::Success, 1),
        // In a circle: ten requests, as Go's client.
        ("/again", Verdict::Failure, 10),
        ("ftp://127.0.0.1/", Verdict::Failure, 1),
    ] {
        let server = Server::start("127.0.0.1:0", move |_, _| redirect(location)).await;
        let answer = asked(get("/", &[]), server.address, LONG).await;
        assert_eq!((answer.verdict, server.paths().len()), (verdict, requests), "{location}: {answer:?}");
    }
}

#[tokio::test]
async fn which_headers_are_sent() {
    let agent = concat!("user-agent: pointsman-probe/", env!("CARGO_PKG_VERSION"));
    for (given, sent, not_sent) in [
        (&[][..], &["host: OWN", agent, "accept: */*", "connection: close"][..], &["accept-encoding"][..]),
        (&[("User-Agent", "me"), ("accept", "text/plain")], &["user-agent: me", "accept: text/plain"], &["pointsman", "*/*"]),
        (&[("User-Agent", ""), ("Accept", "")], &["host: OWN"], &["user-agent", "accept"]),
        (&[("Host", "shop.test")], &["host: shop.test"], &["OWN"]),
        (&[("X-Probe", "a"), ("X-Probe", "b")], &["x-probe: a", "x-probe: b"], &[]),
    ] {
        let server = Server::start("127.0.0.1:0", |_, _| fine()).await;
        let answer = asked(get("/", given), server.address, LONG).await;
        assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
        let head = server.heads.lock().unwrap()[0].replace(&server.address.to_string(), "OWN");
        let lines: Vec<&str> = head.lines().collect();
        assert_eq!(lines[0], "GET / HTTP/1.1");
        assert!(sent.iter().all(|line| lines.contains(line)), "{given:?}: {head}");
        assert!(!not_sent.iter().any(|text| head.contains(text)), "{given:?}: {head}");
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_named() {
    for (name, value) in [("X Probe", "a"), ("X-Probe", "a\nb")] {
        let answer = asked(get("/", &[(name, value)]), nobody().await, LONG).await;
        assert_eq!(answer.verdict, Verdict::Failure);
        assert!(answer.message.contains("httpHeaders") && answer.message.contains(name), "{answer:?}");
    }
}

#[tokio::test]
async fn a_host_header_lasts_until_an_answer_names_a_host() {
    let server = Server::start("127.0.0.1:0", |head, own| match head.split(' ').nth(1) {
        Some("/1") => redirect("/2"),
        Some("/2") => redirect(&format!("http://{own}/3")),
        _ => fine(),
    })
    .await;
    asked(get("/1", &[("Host", "shop.test")]), server.address, LONG).await;
    let heads = server.heads.lock().unwrap().clone();
    let host = |head: &String| head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    assert_eq!(heads.iter().map(host).collect::<Vec<_>>(), ["shop.test".to_owned(), "shop.test".to_owned(), server.address.to_string()]);
}
