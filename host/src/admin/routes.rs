//! From a request to its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::access::{Denied, check_change, check_host};
use super::body::{self, BodyError};
use super::metrics;
use super::policies::{PolicyList, PolicyReply, PolicyRequest, PolicyStatus, Refused, RefusedKind, Upload};
use super::proxy_health::Probe;
use super::server::Answer;
use super::shadow::{Format, ShadowList, ShadowRequest};
use super::{Handle, MAX_COMPONENT_BYTES, MAX_UPLOADS, ObjectsRequest, Readiness};
use crate::objects::Kind;

/// How long the engine may take to add up its counters.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a swap may take: compiling alone is given 30 s, and its self-test comes after it.
const SWAP_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of a policy's name: a DNS label.
const MAX_NAME_BYTES: usize = 63;

/// For whoever asks for something else.
const PATHS: &str = "there are: GET /healthz /livez /readyz /metrics /proxyMode /bound /events /objects/KIND (services, endpoints, endpointslices, pods, \
                     nodes, namespaces) /policies /policies/NAME \
                     /shadow /shadow/NAMESPACE/NAME; \
                     POST /policies/NAME/swap /policies/NAME/rollback";

/// What requests are answered from.
pub(super) struct Site {
    handle: Handle,
    loopback: bool,
    uploads: Arc<Semaphore>,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page<'a> {
    Health,
    Live,
    ProxyMode,
    Objects(Kind),
    Ready,
    Metrics,
    Bound,
    Events,
    Policies,
    Policy(&'a str),
    Swap(&'a str),
    Rollback(&'a str),
    Shadows,
    Shadow { namespace: &'a str, name: &'a str },
}

impl<'a> Page<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let page = match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/livez" => Self::Live,
            "/proxyMode" => Self::ProxyMode,
            "/metrics" => Self::Metrics,
            "/bound" => Self::Bound,
            "/events" => Self::Events,
            "/policies" => Self::Policies,
            "/shadow" => Self::Shadows,
            _ if path.starts_with(SHADOW) => {
                let (namespace, service) = path.strip_prefix(SHADOW)?.split_once('/')?;
                Self::Shadow { namespace: name(namespace)?, name: name(service)? }
            }
            _ if path.starts_with(OBJECTS) => Self::Objects(kind(path.strip_prefix(OBJECTS)?)?),
            _ => match path.strip_prefix("/policies/")?.split_once('/') {
                None => Self::Policy(name(path.strip_prefix("/policies/")?)?),
                Some((policy, "swap")) => Self::Swap(name(policy)?),
                Some((policy, "rollback")) => Self::Rollback(name(policy)?),
                Some(_) => return None,
            },
        };
        Some(page)
    }

    fn changes(self) -> bool {
        matches!(self, Self::Swap(_) | Self::Rollback(_))
    }

    fn allows(self, method: &Method) -> bool {
        if self.changes() { method == Method::POST } else { method == Method::GET || method == Method::HEAD }
    }
}

/// Kubernetes' plural names.
fn kind(plural: &str) -> Option<Kind> {
    Some(match plural {
        "namespaces" => Kind::Namespace,
        "nodes" => Kind::Node,
        "pods" => Kind::Pod,
        "services" => Kind::Service,
        "endpoints" => Kind::Endpoints,
        "endpointslices" => Kind::EndpointSlice,
        _ => return None,
    })
}

const OBJECTS: &str = "/objects/";
const SHADOW: &str = "/shadow/";

/// Something that could be a policy's name, or a Service's; whether one has it is for the engine to say.
fn name(text: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(fits)).then_some(text)
}

impl Site {
    pub(super) fn new(handle: Handle, address: Option<SocketAddr>) -> Self {
        let loopback = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
        Self { handle, loopback, uploads: Arc::new(Semaphore::new(MAX_UPLOADS)) }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let Some(page) = Page::of(&path) else {
            return failure(StatusCode::NOT_FOUND, format!("there is nothing at {path:?}"), Some(PATHS.to_owned()));
        };
        if !page.allows(request.method()) {
            return not_allowed(request.method(), page);
        }
        if let Err(denied) = self.check(request.headers(), page) {
            return turned_away(denied);
        }
        match page {
            Page::Health => self.health(Probe::Healthz),
            Page::Live => self.health(Probe::Livez),
            Page::ProxyMode => text("pointsman"),
            Page::Objects(kind) => match ask(&self.handle.objects, METRICS_TIMEOUT, |reply| ObjectsRequest { kind, reply }).await {
                Ok(list) => json(StatusCode::OK, &list),
                Err(silence) => silence.answer(),
            },
            Page::Ready => self.ready(),
            Page::Metrics => self.metrics().await,
            Page::Bound => json(StatusCode::OK, &**self.handle.bound.load()),
            Page::Events => json(StatusCode::OK, &serde_json::json!({"events": self.handle.events.report()})),
            Page::Policies => self.policies().await,
            Page::Policy(name) => self.policy(name).await,
            Page::Swap(name) => self.swap(name, request).await,
            Page::Shadows => self.shadows().await,
            Page::Shadow { namespace, name } => self.shadow(namespace, name, request.uri().query()).await,
            Page::Rollback(name) => self.change(|reply| PolicyRequest::Rollback { name: name.to_owned(), reply }).await,
        }
    }

    fn check(&self, headers: &HeaderMap, page: Page<'_>) -> Result<(), Denied> {
        check_host(headers, self.loopback)?;
        if page.changes() { check_change(headers, self.handle.token.as_ref()) } else { Ok(()) }
    }

    /// As kube-proxy answers (kubernetes-semantics 3.16).
    fn health(&self, probe: Probe) -> Answer {
        let report = self.handle.health.report(probe, SystemTime::now());
        let status = if report.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut answer = json(status, &report);
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }

    fn ready(&self) -> Answer {
        match &*self.handle.readiness.borrow() {
            Readiness::Serving => json(StatusCode::OK, &serde_json::json!({"status": "serving"})),
            Readiness::Starting(reasons) => {
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"status": "starting", "reasons": reasons}))
            }
            Readiness::Draining => {
                let reasons = ["it was told to end, and established connections are given time"];
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"status": "draining", "reasons": reasons}))
            }
        }
    }

    async fn metrics(&self) -> Answer {
        let asked = ask(&self.handle.metrics, METRICS_TIMEOUT, |reply| reply).await;
        match asked.map(metrics::text) {
            Ok(Ok(text)) => {
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                answer
            }
            Ok(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), None),
            Err(silence) => silence.answer(),
        }
    }

    async fn list(&self) -> Result<Vec<PolicyStatus>, Silence> {
        ask(&self.handle.policies, METRICS_TIMEOUT, |reply| PolicyRequest::List { reply }).await
    }

    async fn policies(&self) -> Answer {
        match self.list().await {
            Ok(policies) => json(StatusCode::OK, &PolicyList { policies }),
            Err(silence) => silence.answer(),
        }
    }

    async fn policy(&self, name: &str) -> Answer {
        match self.list().await {
            Ok(policies) => match policies.iter().find(|policy| policy.name == name) {
                Some(policy) => json(StatusCode::OK, policy),
                None => {
                    let known: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
                    failure(StatusCode::NOT_FOUND, format!("there is no policy {name:?}"), Some(format!("there are: {}", known.join(", "))))
                }
            },
            Err(silence) => silence.answer(),
        }
    }

    async fn shadows(&self) -> Answer {
        match ask(&self.handle.shadows, METRICS_TIMEOUT, |reply| ShadowRequest::List { reply }).await {
            Ok(shadows) => json(StatusCode::OK, &ShadowList { shadows }),
            Err(silence) => silence.answer(),
        }
    }

    async fn shadow(&self, namespace: &str, name: &str, query: Option<&str>) -> Answer {
        let Some(format) = Format::of(query) else {
            let remedy = Some("write ?format=json, text, html or junit".to_owned());
            return failure(StatusCode::BAD_REQUEST, format!("{:?} is not known here", query.unwrap_or_default()), remedy);
        };
        let question = |reply| ShadowRequest::Report { namespace: namespace.to_owned(), name: name.to_owned(), reply };
        match ask(&self.handle.shadows, METRICS_TIMEOUT, question).await {
            Ok(Some(report)) => {
                let (text, kind) = format.render(&report);
                let mut answer = Response::new(Full::new(Bytes::from(text)));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                answer
            }
            Ok(None) => {
                let remedy = "name one in its annotations: pointsman.dev/balancer-shadow: NAME".to_owned();
                failure(StatusCode::NOT_FOUND, format!("no balancer is tried on a Service {namespace}/{name}"), Some(remedy))
            }
            Err(silence) => silence.answer(),
        }
    }

    async fn swap(&self, name: &str, request: Request<Incoming>) -> Answer {
        let Ok(counted) = Arc::clone(&self.uploads).try_acquire_owned() else {
            return failure(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAX_UPLOADS} other components are being taken in"),
                Some("try again in a moment".to_owned()),
            );
        };
        let component = match body::read(request, MAX_COMPONENT_BYTES).await {
            Ok(component) if component.is_empty() => {
                let remedy = format!("send the component as the body: curl --data-binary @FILE …/policies/{name}/swap");
                return failure(StatusCode::BAD_REQUEST, "the request has no body".to_owned(), Some(remedy));
            }
            Ok(component) => component,
            Err(error) => return unread(error),
        };
        let component = Upload { bytes: component, _counted: counted };
        self.change(|reply| PolicyRequest::Swap { name: name.to_owned(), component, reply }).await
    }

    async fn change(&self, request: impl FnOnce(oneshot::Sender<PolicyReply>) -> PolicyRequest) -> Answer {
        match ask(&self.handle.policies, SWAP_TIMEOUT, request).await {
            Ok(Ok(swapped)) => json(StatusCode::OK, &swapped),
            Ok(Err(refused)) => refusal(refused),
            Err(silence) => silence.answer(),
        }
    }
}

/// Why the engine did not answer.
enum Silence {
    /// It is ending, or has not started.
    Gone,
    /// It took too long.
    Late(Duration),
}

impl Silence {
    fn answer(self) -> Answer {
        match self {
            Self::Gone => {
                failure(StatusCode::SERVICE_UNAVAILABLE, "the engine is starting or ending".to_owned(), Some("see /readyz".to_owned()))
            }
            Self::Late(after) => failure(
                StatusCode::GATEWAY_TIMEOUT,
                format!("the engine has not answered within {} s; it may still do what was asked", after.as_secs()),
                Some("see /policies and /events".to_owned()),
            ),
        }
    }
}

async fn ask<Q, A>(to: &mpsc::Sender<Q>, within: Duration, question: impl FnOnce(oneshot::Sender<A>) -> Q) -> Result<A, Silence> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        to.send(question(reply)).await.map_err(|_| Silence::Gone)?;
        answer.await.map_err(|_| Silence::Gone)
    };
    tokio::time::timeout(within, asked).await.unwrap_or(Err(Silence::Late(within)))
}

fn not_allowed(method: &Method, page: Page<'_>) -> Answer {
    let allowed = if page.changes() { "POST" } else { "GET, HEAD" };
    let error = format!("this path does not take {method}");
    let mut answer = failure(StatusCode::METHOD_NOT_ALLOWED, error, Some(format!("use {allowed}")));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn turned_away(denied: Denied) -> Answer {
    let (status, error, remedy) = match denied {
        Denied::Browser => (StatusCode::FORBIDDEN, "a web page cannot change policies", "use `pointsman policy swap`, or curl"),
        Denied::ForeignHost => (
            StatusCode::FORBIDDEN,
            "the Host header names another machine",
            "ask by address or as localhost: on a loopback address names are refused, since web pages can make theirs resolve to it",
        ),
        Denied::NoToken => (
            StatusCode::UNAUTHORIZED,
            "changes need a token",
            "send `Authorization: Bearer TOKEN`, or use `pointsman policy … --token-file FILE`",
        ),
        Denied::WrongToken => (
            StatusCode::UNAUTHORIZED,
            "this is not the token",
            "it is the line in the file that `pointsman run --admin-token-file` was given",
        ),
    };
    let mut answer = failure(status, error.to_owned(), Some(remedy.to_owned()));
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn unread(error: BodyError) -> Answer {
    match error {
        BodyError::TooLarge => failure(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the component is larger than {} MiB", MAX_COMPONENT_BYTES >> 20),
            Some("strip it: `wasm-tools strip`, or build it with opt-level \"s\" and without debug information".to_owned()),
        ),
        BodyError::TimedOut => {
            failure(StatusCode::REQUEST_TIMEOUT, format!("the component did not arrive within {} s", body::READ_TIMEOUT.as_secs()), None)
        }
        BodyError::Broken => failure(StatusCode::BAD_REQUEST, "the body ended early, or its framing is broken".to_owned(), None),
    }
}

fn refusal(refused: Refused) -> Answer {
    let status = match refused.kind {
        RefusedKind::UnknownPolicy => StatusCode::NOT_FOUND,
        RefusedKind::Conflict => StatusCode::CONFLICT,
        RefusedKind::Component => StatusCode::UNPROCESSABLE_ENTITY,
        RefusedKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failure(status, refused.error, refused.remedy)
}

fn failure(status: StatusCode, error: String, remedy: Option<String>) -> Answer {
    json(status, &serde_json::json!({"error": error, "remedy": remedy}))
}

fn text(text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let (status, mut text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, br#"{"error":"the answer cannot be written as JSON","remedy":null}"#.to_vec()),
    };
    text.push(b'\n');
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
