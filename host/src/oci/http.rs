//! One request, one answer, one connection, HTTP/1.1: a push is some eight of them. Every answer is bounded in bytes and in time.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::Error;
use super::tls;
use super::url::Url;

/// For a TCP connection, or for TLS on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the head of an answer may take.
const MAX_HEAD: usize = 64 << 10;

/// What the body of an answer may take that only explains a failure, or is not looked at.
pub(super) const MAX_WORDS: u64 = 256 << 10;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// What the body of an answer may take that is a success, in bytes.
    pub(super) limit: u64,
    /// For all of it.
    pub(super) timeout: Duration,
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(method: Method, url: Url, limit: u64, timeout: Duration) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new(), limit, timeout }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(value).map_err(|error| Error::Protocol { url: self.url.clone(), said: error.to_string() })?;
        self.headers.push((name, value));
        Ok(self)
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Whether whoever listens there speaks TLS.
pub(super) async fn speaks_tls(url: &Url) -> Result<bool, Error> {
    let stream = connect(url).await?;
    match timeout(CONNECT_TIMEOUT, tls::connect(stream, &url.host)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) if tls::is_not_spoken(&error) => Ok(false),
        Ok(Err(error)) => Err(unreachable(url, format!("TLS: {error}"))),
        // A server that waits for the end of a line of HTTP.
        Err(_) => Ok(false),
    }
}

pub(super) async fn send(request: Request) -> Result<Answer, Error> {
    let (url, limit) = (request.url.clone(), request.timeout);
    match timeout(limit, exchange(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(&url, format!("no whole answer from {url} within {} s", limit.as_secs()))),
    }
}

async fn exchange(request: Request) -> Result<Answer, Error> {
    let stream = connect(&request.url).await?;
    if !request.url.tls {
        return spoken(stream, request).await;
    }
    match timeout(CONNECT_TIMEOUT, tls::connect(stream, &request.url.host)).await {
        Ok(Ok(stream)) => spoken(stream, request).await,
        Ok(Err(error)) if tls::is_not_spoken(&error) => {
            let why = format!("it does not speak TLS ({error}); for a registry without TLS, say --plain-http");
            Err(unreachable(&request.url, why))
        }
        Ok(Err(error)) => Err(unreachable(&request.url, format!("TLS: {error}"))),
        Err(_) => Err(unreachable(&request.url, format!("no TLS within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

async fn connect(url: &Url) -> Result<TcpStream, Error> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((url.host.as_str(), url.port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(unreachable(url, error.to_string())),
        Err(_) => Err(unreachable(url, format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

async fn spoken<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, asked: Request) -> Result<Answer, Error> {
    let Request { method, url, headers, body, limit, timeout: _ } = asked;
    let failed =
        |error: hyper::Error| unreachable(&url, error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")));
    let unwritable = |error: &dyn std::fmt::Display| Error::Protocol { url: url.clone(), said: format!("what cannot be asked: {error}") };
    let mut request = hyper::Request::builder().method(&method).uri(&url.path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.header(HOST, url.authority()).header(USER_AGENT, AGENT).header(CONNECTION, "close");
    let request = request.body(Full::new(body)).map_err(|error| unwritable(&error))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_BUFFER).max_header_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut exchange = pin!(async {
        let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = if head.status.is_success() { limit } else { MAX_WORDS };
        let too_large = |bytes| Error::TooLarge { what: url.to_string(), bytes, limit, help: String::new() };
        if let Some(bytes) = declared.filter(|bytes| method != Method::HEAD && *bytes > limit) {
            return Err(too_large(bytes));
        }
        let body = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)).collect().await.map_err(|error| match error
            .downcast::<hyper::Error>()
        {
            Ok(error) => failed(*error),
            Err(error) if error.is::<LengthLimitError>() => too_large(limit + 1),
            Err(error) => unreachable(&url, error.to_string()),
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    });
    // The connection is driven from here, so that giving up closes it.
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

fn unreachable(url: &Url, why: String) -> Error {
    Error::Unreachable { registry: url.authority(), why }
}

/// Read and written in pieces of at most so many bytes.
const MAX_BUFFER: usize = 256 << 10;
const AGENT: &str = concat!("pointsman/", env!("CARGO_PKG_VERSION"));
