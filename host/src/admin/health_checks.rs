//! Health-check node ports (kubernetes-semantics 3.15): load balancers ask there which nodes have endpoints of a Service with
//! `externalTrafficPolicy: Local`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::events::{Event, EventLog, Severity};
use super::proxy_health::ProxyHealth;
use super::server::{self, Answer};
use crate::table::{HealthCheck, Table};

/// Load balancers keep few connections; a port that anyone can reach gives no more.
const MAX_CONNECTIONS: usize = 64;

/// A connection is asked to end after this.
const MAX_AGE: Duration = Duration::from_secs(60);

/// How often a port that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(1);

const BACKLOG: i32 = 128;

/// Answers on the health-check node ports of the table in force, at these addresses, until the tables end.
pub async fn run(mut tables: watch::Receiver<Arc<Table>>, addresses: Vec<IpAddr>, health: Arc<ProxyHealth>, events: Arc<EventLog>) {
    let mut ports = Ports { addresses, health, events, open: BTreeMap::new(), failed: BTreeMap::new() };
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        ports.settle(&table, &tables);
        let changed = async {
            if ports.failed.is_empty() {
                return tables.changed().await;
            }
            // Whoever has the port may give it up.
            tokio::time::timeout(RETRY, tables.changed()).await.unwrap_or(Ok(()))
        };
        if changed.await.is_err() {
            return;
        }
    }
}

struct Ports {
    addresses: Vec<IpAddr>,
    health: Arc<ProxyHealth>,
    events: Arc<EventLog>,
    open: BTreeMap<SocketAddr, Open>,
    /// Why a port is not listened on, as told.
    failed: BTreeMap<SocketAddr, String>,
}

/// A port that is listened on, while this is held.
struct Open(JoinHandle<()>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ports {
    fn settle(&mut self, table: &Table, tables: &watch::Receiver<Arc<Table>>) {
        let addresses = &self.addresses;
        let wanted: BTreeSet<SocketAddr> =
            table.health_checks.keys().flat_map(|port| addresses.iter().map(|ip| SocketAddr::new(*ip, *port))).collect();
        self.open.retain(|address, _| wanted.contains(address));
        self.failed.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if self.open.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    self.failed.remove(&address);
                    self.open.insert(address, self.serve(listener, address.port(), tables.clone()));
                }
                Err(error) => self.tell(table, address, error.to_string()),
            }
        }
    }

    fn serve(&self, listener: TcpListener, port: u16, tables: watch::Receiver<Arc<Table>>) -> Open {
        let limits = server::Limits { connections: MAX_CONNECTIONS, header: server::HEADER_READ_TIMEOUT, age: MAX_AGE };
        let health = Arc::clone(&self.health);
        let respond = move |_client, _request| {
            let answer = match tables.borrow().health_checks.get(&port) {
                Some(check) => answer(check, health.healthy(SystemTime::now())),
                None => gone(),
            };
            async { answer }
        };
        Open(tokio::spawn(server::serve(listener, limits, respond, std::future::pending())))
    }

    fn tell(&mut self, table: &Table, address: SocketAddr, why: String) {
        if self.failed.get(&address) == Some(&why) {
            return;
        }
        let object = table.health_checks.get(&address.port()).map(|check| format!("Service {}/{}", check.namespace, check.name));
        let message = format!("FailedToStartServiceHealthcheck: cannot listen on health-check port {address}: {why}");
        tracing::warn!("{}: {message}", object.as_deref().unwrap_or_default());
        self.events.record(Event {
            time: SystemTime::now(),
            severity: Severity::Warning,
            file: None,
            line: None,
            object,
            field: Some("spec.healthCheckNodePort".to_owned()),
            message,
            remedy: Some("end what listens there, or give the Service another healthCheckNodePort".to_owned()),
        });
        self.failed.insert(address, why);
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// As kube-proxy answers, on any path.
fn answer(check: &HealthCheck, proxy_healthy: bool) -> Answer {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {},\n\t\"serviceProxyHealthy\": {}\n}}",
        text(&check.namespace),
        text(&check.name),
        check.local_endpoints,
        proxy_healthy,
    );
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(check.local_endpoints));
    if check.local_endpoints == 0 || !proxy_healthy {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

/// The Service gave its port up while a connection was open.
fn gone() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
