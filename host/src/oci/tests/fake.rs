//! A registry of a test: answers by a function, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::oci::{Artifact, digest};

/// What it was asked.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) type Reply = Response<Full<Bytes>>;

/// A registry that runs as long as the test's runtime.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Seen {
    pub(super) fn authorization(&self) -> Option<&str> {
        self.headers.get(AUTHORIZATION)?.to_str().ok()
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// `GET /v2/…`
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Fake {
    /// Answers every request by the function, which is told the registry's own address.
    pub(super) async fn new(reply: impl Fn(SocketAddr, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&seen), Arc::new(reply));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                let answer = service_fn(move |request: hyper::Request<Incoming>| {
                    let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let seen = Seen { method: head.method, path: head.uri.to_string(), headers: head.headers, body };
                        log.lock().unwrap().push(seen.clone());
                        Ok::<_, hyper::Error>(reply(address, &seen))
                    }
                });
                // A client that tries TLS first is not understood, and told so.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { address, seen }
    }

    /// What it was asked so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The same in short.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

/// An answer without headers.
pub(super) fn plain(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply
}

pub(super) fn with(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.headers_mut().append(name, value.parse().unwrap());
    reply
}

/// A registry's usual answer to a question about `team/p:1`, which is this artifact.
pub(super) fn store(artifact: &Artifact, seen: &Seen) -> Reply {
    let manifest = artifact.digest().to_string();
    let found = match seen.path.strip_prefix("/v2/team/p/") {
        Some(path) if path == "manifests/1" || path == format!("manifests/{manifest}") => Some(&artifact.manifest),
        Some(path) if path == format!("blobs/{}", digest(&artifact.component)) => Some(&artifact.component),
        Some(path) if path == format!("blobs/{}", digest(&artifact.config)) => Some(&artifact.config),
        _ => None,
    };
    match found {
        // The server keeps the body of an answer to HEAD to itself.
        Some(bytes) => with(plain(200, bytes.clone()), "docker-content-digest", &digest(bytes).to_string()),
        None => plain(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
    }
}
