//! `pointsman backend`: a small HTTP server that says who it is and who asked; what demos and tests put behind a Service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::args::BackendArgs;
use super::out;
use crate::admin::server::{self, Answer, Limits};

/// Connections at one time, for each address.
const MAX_CONNECTIONS: usize = 10_000;

/// A connection ends after this, used or not; long enough for any demo.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Bytes of a POST: `readyz=FAIL` has 11.
const MAX_BODY_BYTES: usize = 1024;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An address cannot be listened on, or a name is missing.
pub async fn run(args: BackendArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.names.len() <= args.listen.len(), "more --name than --listen: each name belongs to the address of the same place");
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let (ending, _) = watch::channel(());
    let mut servers = JoinSet::new();
    let mut names = args.names.into_iter();
    for address in args.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let backend = Arc::new(Backend::new(names.next(), address));
        let mut ended = ending.subscribe();
        servers.spawn(serve(listener, backend, async move {
            let _ = ended.changed().await;
        }));
        out::print(&format!("listening on http://{address}\n"))?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(ending);
    servers.join_all().await;
    Ok(())
}

async fn serve(listener: TcpListener, backend: Arc<Backend>, shutdown: impl Future<Output = ()>) {
    let limits = Limits { connections: MAX_CONNECTIONS, header: MAX_AGE, age: MAX_AGE };
    let service = move |client, request| {
        let backend = Arc::clone(&backend);
        async move { backend.answer(client, request).await }
    };
    server::serve(listener, limits, service, shutdown).await;
}

struct Backend {
    name: String,
    address: SocketAddr,
    requests: AtomicU64,
    ready: AtomicBool,
}

impl Backend {
    fn new(name: Option<String>, address: SocketAddr) -> Self {
        let name = name.unwrap_or_else(|| address.to_string());
        Self { name, address, requests: AtomicU64::new(0), ready: AtomicBool::new(true) }
    }

    async fn answer(&self, client: SocketAddr, request: Request<Incoming>) -> Answer {
        match (request.uri().path(), request.method()) {
            ("/", &Method::GET | &Method::HEAD) => self.hello(client),
            ("/readyz", &Method::GET | &Method::HEAD) => self.readiness(),
            ("/readyz", &Method::POST) => self.turn(request).await,
            ("/" | "/readyz", method) => text(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} is not for this path")),
            _ => text(StatusCode::NOT_FOUND, "there are: GET /, GET /readyz, POST /readyz with readyz=FAIL or readyz=OK"),
        }
    }

    fn hello(&self, client: SocketAddr) -> Answer {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let hello = serde_json::json!({"name": self.name, "address": self.address, "client": client, "requests": requests});
        let mut answer = text(StatusCode::OK, &hello.to_string());
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    fn readiness(&self) -> Answer {
        if self.ready.load(Ordering::Relaxed) { text(StatusCode::OK, "OK") } else { text(StatusCode::INTERNAL_SERVER_ERROR, "FAIL") }
    }

    async fn turn(&self, request: Request<Incoming>) -> Answer {
        let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return text(StatusCode::BAD_REQUEST, "the body is too long, or ended early"),
        };
        let word = body.trim_ascii();
        let ready = match word.strip_prefix(b"readyz=").unwrap_or(word) {
            b"OK" => true,
            b"FAIL" => false,
            _ => return text(StatusCode::BAD_REQUEST, "expected readyz=FAIL or readyz=OK"),
        };
        self.ready.store(ready, Ordering::Relaxed);
        text(StatusCode::OK, if ready { "ready from now on" } else { "failing from now on" })
    }
}

fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests;
