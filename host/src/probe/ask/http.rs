//! `httpGet`, as the kubelet asks (pkg/probe/http): a status from 200 to 399 is success; redirects are followed on the same host, at most
//! ten requests in all, and one that leads elsewhere is success by itself; certificates are not checked. HTTP/1.1, one connection each.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use super::location::absolute_path;
use super::location::{Url, bare};
use super::{connect, tls};
use crate::probe::schedule::Answer;

/// What is read of a body: as much as the kubelet reads (maxRespBodyLength).
const MAX_BODY: usize = 10 * 1024;

/// What a head may take. Go allows 10 MB; nobody who is asked whether it is ready has that much to say.
const MAX_HEAD: usize = 64 * 1024;

/// Requests until redirects are too many: Go's limit, which is the kubelet's.
const MAX_REQUESTS: usize = 10;

/// What `httpGet` says, but for the port.
pub(super) struct Request<'a> {
    pub(super) tls: bool,
    pub(super) host: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(String, String)],
}

/// What matters of an answer.
struct Reply {
    status: StatusCode,
    location: Option<String>,
}

pub(super) async fn ask(own: SocketAddr, request: &Request<'_>) -> Answer {
    let host = request.host.map_or_else(|| own.ip().to_string(), bare);
    let first = Url { tls: request.tls, host, port: own.port(), path: absolute_path(request.path) };
    let (headers, mut named) = match headers(request.headers) {
        Ok(headers) => headers,
        Err(message) => return Answer::failure(format!("GET {first}: {message}")),
    };
    let mut url = first.clone();
    for _ in 0..MAX_REQUESTS {
        let what = format!("GET {url}");
        let reply = match get(&what, &url, own, headers.clone(), named.as_ref()).await {
            Ok(reply) => reply,
            Err(answer) => return answer,
        };
        let Some(location) = reply.location.as_deref().filter(|_| FOLLOWED.contains(&reply.status)) else {
            return judged(&what, reply.status);
        };
        match url.join(location) {
            Ok((next, _)) if !next.same_host(&first) => {
                return Answer::success(format!("{what}: {}, a redirect to another host, {next}, which is not followed", reply.status));
            }
            Ok((next, names_host)) => {
                // A Host header is for the host that was asked, unless the answer names one itself.
                named = named.filter(|_| !names_host);
                url = next;
            }
            Err(message) => return Answer::failure(format!("{what}: {message}")),
        }
    }
    Answer::failure(format!("GET {first}: stopped after {MAX_REQUESTS} requests: it redirects in circles"))
}

/// The statuses that a client follows; other ones from 300 to 399 are success.
const FOLLOWED: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];

fn judged(what: &str, status: StatusCode) -> Answer {
    let message = format!("{what}: {status}");
    if status.is_success() || status.is_redirection() { Answer::success(message) } else { Answer::failure(message) }
}

/// The headers to send, and the Host among them. One of ours is left out where the probe gives it an empty value.
fn headers(given: &[(String, String)]) -> Result<(HeaderMap, Option<HeaderValue>), String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("httpHeaders: {name:?} is not a header's name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("httpHeaders: the value of {name} cannot be sent"))?;
        headers.append(key, value);
    }
    for (name, ours) in [(USER_AGENT, HeaderValue::from_static(super::USER_AGENT)), (ACCEPT, HeaderValue::from_static("*/*"))] {
        match headers.get(&name) {
            None => drop(headers.insert(name, ours)),
            Some(value) if value.is_empty() => drop(headers.remove(name)),
            Some(_) => {}
        }
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let host = headers.remove(HOST).filter(|host| !host.is_empty());
    Ok((headers, host))
}

/// One request on a connection of its own.
async fn get(what: &str, url: &Url, own: SocketAddr, mut headers: HeaderMap, host: Option<&HeaderValue>) -> Result<Reply, Answer> {
    let host = match host {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&url.authority()).map_err(|error| Answer::failure(format!("{what}: {error}")))?,
    };
    headers.insert(HOST, host);
    let mut request = hyper::Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.headers_mut() = headers;
    *request.uri_mut() = url.path.parse::<Uri>().map_err(|error| Answer::failure(format!("{what}: {error}")))?;
    let stream = connect(Some(&url.host), SocketAddr::new(own.ip(), url.port)).await.map_err(|error| Answer::error(what, &error))?;
    if url.tls {
        let stream = tls::connect(stream, &url.host).await.map_err(|error| Answer::error(&format!("{what}: TLS"), &error))?;
        exchange(what, stream, request).await
    } else {
        exchange(what, stream, request).await
    }
}

async fn exchange<S>(what: &str, stream: S, request: hyper::Request<Empty<Bytes>>) -> Result<Reply, Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Answer::failure(format!("{what}: {}", told(&error)));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        let location = response.headers().get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let reply = Reply { status: response.status(), location };
        read(response.into_body()).await.map(|()| reply)
    });
    // The connection is driven from here, and not by a task of its own, so that breaking the probe off closes it.
    let reply = tokio::select! {
        biased;
        reply = &mut exchange => reply,
        _ = connection => exchange.await,
    };
    reply.map_err(failed)
}

/// Takes the beginning of a body, so that the server sees its answer taken. A body that breaks off is not an answer.
async fn read(mut body: Incoming) -> Result<(), hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
        if bytes >= MAX_BODY {
            break;
        }
    }
    Ok(())
}

/// An error with what is behind it: hyper's own words say only where it happened.
fn told(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
