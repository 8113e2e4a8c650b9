#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::admin::{Handle, PolicyRequest, ProxyHealth, Readiness, Refused, RefusedKind, Token};

const SECRET: &str = "correct-horse-battery";

/// The admin port of an engine that swaps what is not "nonsense".
async fn engine(token: Option<&str>) -> SocketAddr {
    let (_, readiness) = watch::channel(Readiness::Serving);
    let (metrics, _) = mpsc::channel(1);
    let (policies, mut asked) = mpsc::channel(1);
    let health = Arc::new(ProxyHealth::new(vec![], std::time::SystemTime::now()));
    let (objects, _) = mpsc::channel(1);
    let (shadows, _) = mpsc::channel(1);
    let handle = Handle {
        readiness,
        bound: Arc::default(),
        events: Arc::default(),
        metrics,
        health,
        objects,
        policies,
        shadows,
        token: token.map(Token::new),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin::serve(listener, handle, std::future::pending()));
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            match request {
                PolicyRequest::List { reply } => drop(reply.send(vec![status("mine"), status("other")])),
                PolicyRequest::Swap { name, component, reply } => drop(reply.send(match component.bytes.as_slice() {
                    b"nonsense" => Err(Refused {
                        kind: RefusedKind::Component,
                        error: "not a component".to_owned(),
                        remedy: Some("build one".to_owned()),
                    }),
                    _ => Ok(swapped(&name, None)),
                })),
                PolicyRequest::Rollback { name, reply } => drop(reply.send(Ok(swapped(&name, Some("sha256:bb"))))),
            }
        }
    });
    address
}

fn status(name: &str) -> PolicyStatus {
    PolicyStatus {
        name: name.to_owned(),
        stage: "balancer".to_owned(),
        digest: "sha256:0123456789abcdef".to_owned(),
        builtin: false,
        previous: None,
        breaker: Some("closed".to_owned()),
    }
}

fn swapped(name: &str, previous: Option<&str>) -> Swapped {
    Swapped {
        name: name.to_owned(),
        stage: "balancer".to_owned(),
        digest: "sha256:0123456789abcdef".to_owned(),
        previous: previous.map(str::to_owned),
        changed: true,
    }
}

fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join(text.len().to_string());
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn the_engine_is_asked_and_its_reasons_are_passed_on() {
    let engine = AdminArgs { admin: engine(None).await, token_file: None };
    let folder = tempfile::tempdir().unwrap();
    let swap_file = |file| swap(SwapArgs { name: "mine".to_owned(), file, engine: engine.clone() });
    swap_file(file(&folder, "component")).await.unwrap();
    let refused = swap_file(file(&folder, "nonsense")).await.unwrap_err().to_string();
    assert_eq!(refused, "not a component\n  help: build one");
    assert!(swap_file(file(&folder, "")).await.unwrap_err().to_string().contains("is empty"));
    assert!(swap_file(folder.path().join("none")).await.unwrap_err().to_string().contains("reading "));
    rollback(RollbackArgs { name: "mine".to_owned(), engine: engine.clone() }).await.unwrap();
    let wrong = rollback(RollbackArgs { name: "../x".to_owned(), engine: engine.clone() }).await.unwrap_err();
    assert!(wrong.to_string().contains("not a policy's name"));
    list(engine).await.unwrap();
}

#[tokio::test]
async fn a_component_that_no_engine_takes_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(MAX_COMPONENT_BYTES as u64 + 1).unwrap();
    assert!(component(&path).unwrap_err().to_string().contains("larger than 32 MiB"));
}

#[tokio::test]
async fn the_token_is_sent() {
    let address = engine(Some(SECRET)).await;
    let folder = tempfile::tempdir().unwrap();
    let ask = |token_file| rollback(RollbackArgs { name: "mine".to_owned(), engine: AdminArgs { admin: address, token_file } });
    ask(Some(file(&folder, SECRET))).await.unwrap();
    assert!(ask(None).await.unwrap_err().to_string().contains("--token-file"));
    assert!(ask(Some(file(&folder, "another-horse-battery-"))).await.unwrap_err().to_string().contains("not the token"));
}

#[tokio::test]
async fn nobody_there_and_somebody_else_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stranger = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 418 teapot\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let said = list(AdminArgs { admin: address, token_file: None }).await.unwrap_err().to_string();
    assert!(said.contains("not like an admin port"), "{said}");
    stranger.await.unwrap();
    let said = list(AdminArgs { admin: address, token_file: None }).await.unwrap_err().to_string();
    assert!(said.contains("is `pointsman run` up?"), "{said}");
}

/// Whoever refuses by the head of a request may close while the rest is on its way.
#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_read() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, vec![1; 16 << 20]).unwrap();
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hasty = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await.unwrap();
            let body = r#"{"error": "not allowed", "remedy": null}"#;
            let head = format!("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        });
        let engine = AdminArgs { admin: address, token_file: None };
        let said = swap(SwapArgs { name: "mine".to_owned(), file: large.clone(), engine }).await.unwrap_err();
        assert_eq!(format!("{said:#}"), "not allowed");
        hasty.await.unwrap();
    }
}

#[test]
fn outcomes_and_tables_are_readable() {
    let text = outcome(&swapped("mine", Some("sha256:bbbbbbbbbbbbbbbb")));
    assert_eq!(
        text,
        "balancer \"mine\": sha256:0123456789ab is in force, sha256:bbbbbbbbbbbb before; `pointsman policy rollback mine` brings that back"
    );
    assert!(outcome(&Swapped { changed: false, ..swapped("mine", None) }).ends_with("is in force already"));
    assert!(outcome(&swapped("mine", None)).ends_with("by the annotation pointsman.dev/balancer: mine"));
    let table = table(&[status("mine"), PolicyStatus { builtin: true, breaker: None, ..status("a-longer-name") }]);
    let wanted = "\
STAGE     NAME           DIGEST               PREVIOUS  BREAKER  FROM
balancer  mine           sha256:0123456789ab  -         closed   component
balancer  a-longer-name  sha256:0123456789ab  -         -        built-in";
    assert_eq!(table, wanted);
}
