//! A data plane with one Service, clients and backends.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::dataplane::{Clock, Config, DataPlane, Policies, TableUpdate, UdpLimits};
use crate::observe::fixture::{endpoint, port, table};
use crate::observe::{DecisionLog, ServiceKey, ServiceSnapshot, Snapshot};
use crate::policy::contract::{Connection, Decider, Fault, Outcome, ServiceId, Slot, Verdict};
use crate::route::HashKey;
use crate::table::{Frontend, FrontendKey, FrontendKind, Port, Protocol, Table, VersionId};

/// Nothing here takes long; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never came")
}

/// What the tests tell the policies, and what they were told.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    verdict: Option<Verdict>,
    asked: usize,
    outcomes: Vec<Outcome>,
    forgotten: Vec<ServiceId>,
    loads: Vec<u32>,
}

impl Script {
    pub(super) fn verdict(&self, verdict: Verdict) {
        self.0.lock().unwrap().verdict = Some(verdict);
    }

    /// How often the traffic policies were asked.
    pub(super) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.0.lock().unwrap().outcomes.clone()
    }

    pub(super) fn forgotten(&self) -> Vec<ServiceId> {
        self.0.lock().unwrap().forgotten.clone()
    }

    /// The live connections of all candidates together, as the balancer saw them at each pick.
    pub(super) fn loads(&self) -> Vec<u32> {
        self.0.lock().unwrap().loads.clone()
    }

    /// While this is held, a worker that decides stands still.
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.0.lock().unwrap()
    }
}

/// Round robin over a candidate set, starting with its first slot.
pub(super) struct Fake {
    script: Script,
    table: Arc<Table>,
    picks: usize,
}

impl Decider for Fake {
    fn choose_group(&mut self, _: VersionId, _: &Connection) -> Result<Option<u32>, Fault> {
        Ok(None)
    }

    fn choose_subset(&mut self, _: VersionId, _: &Connection, _: Option<u32>) -> Result<Verdict, Fault> {
        let mut lines = self.script.0.lock().unwrap();
        lines.asked += 1;
        Ok(lines.verdict.unwrap_or(Verdict::Forward(0)))
    }

    fn pick(&mut self, _: VersionId, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        let port = self.table.port(connection.service).unwrap();
        let members = &port.sets[set as usize].members;
        let load = members.iter().map(|slot| port.endpoints[*slot as usize].load.active()).sum::<u32>();
        self.script.0.lock().unwrap().loads.push(load);
        self.picks += 1;
        Ok(Some(members[(self.picks - 1) % members.len()]))
    }

    fn blame(&mut self, _: VersionId, fault: &Fault) {
        panic!("blamed: {fault}");
    }
}

impl Policies for Fake {
    type Loaded = ();
    type Counters = usize;

    fn install(&mut self, (): (), _: u64) {}
    fn retire(&mut self, _: VersionId) {}
    fn install_candidate(&mut self, (): (), _: u64) {}
    fn retire_candidate(&mut self, _: VersionId) {}
    fn adopt(&mut self, table: &Arc<Table>, _: &[ServiceId], _: u64) {
        self.table = Arc::clone(table);
    }
    fn forget(&mut self, service: ServiceId) {
        self.script.0.lock().unwrap().forgotten.push(service);
    }
    fn mend(&mut self, _: u64) {}
    fn report(&mut self, _: u64, outcomes: &[Outcome]) {
        self.script.0.lock().unwrap().outcomes.extend_from_slice(outcomes);
    }
    fn reconfigure(&mut self, _: u64) {}
    fn counters(&self) -> usize {
        self.picks
    }
}

/// A data plane that serves `default/web` on 10.97.72.1:80, which is bound on 127.0.0.1 at a port of the kernel's.
pub(super) struct Rig {
    pub(super) plane: DataPlane<Fake>,
    pub(super) script: Script,
    frontend: FrontendKey,
    generation: u64,
    log: DecisionLog,
    log_path: tempfile::TempPath,
}

pub(super) fn key() -> FrontendKey {
    FrontendKey { ip: "10.97.72.1".parse().unwrap(), port: 80, protocol: Protocol::Tcp }
}

/// The same, for other protocols and families.
pub(super) fn key_of(ip: &str, protocol: Protocol) -> FrontendKey {
    FrontendKey { ip: ip.parse().unwrap(), port: 80, protocol }
}

pub(super) fn loopback(key: &FrontendKey, _: &Frontend) -> Result<SocketAddr, String> {
    let address = match (key.ip, key.protocol) {
        (IpAddr::V6(_), _) => "[::1]:0",
        // Not where everybody else is, so that an answer's address says something.
        (_, Protocol::Udp) => "127.97.72.1:0",
        _ => "127.0.0.1:0",
    };
    Ok(address.parse().unwrap())
}

pub(super) fn config() -> Config {
    Config {
        workers: 1,
        max_connections: 1000,
        udp: UdpLimits::default(),
        connect_timeout: Duration::from_secs(5),
        hash_key: HashKey::PUBLIC,
        transparent: Arc::default(),
        seed: 1,
        clock: Clock::start(),
    }
}

/// `default/web` with these endpoints, in this order.
pub(super) fn web(endpoints: &[SocketAddr]) -> Port {
    port(0, "web", endpoints.iter().map(|address| endpoint(&address.to_string())).collect())
}

impl Rig {
    pub(super) fn new(port: Port) -> Self {
        Self::with(&config(), port)
    }

    pub(super) fn with(config: &Config, port: Port) -> Self {
        Self::on(key(), config, port)
    }

    /// The Service answers on this frontend.
    pub(super) fn on(frontend: FrontendKey, config: &Config, port: Port) -> Self {
        let script = Script::default();
        let fakes = (0..config.workers).map(|_| Fake { script: script.clone(), table: Arc::default(), picks: 0 }).collect();
        let log_path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let log = DecisionLog::open(&log_path).unwrap();
        let plane = DataPlane::start(config, fakes, Some(&log.sender())).unwrap();
        let mut rig = Self { plane, script, frontend, generation: 0, log, log_path };
        rig.publish(Some(port));
        rig
    }

    /// Puts a table with this port in force, or an empty one.
    pub(super) fn publish(&mut self, port: Option<Port>) {
        self.generation += 1;
        let ports: Vec<Arc<Port>> = port.into_iter().map(Arc::new).collect();
        let mut table = table(&ports);
        table.generation = self.generation;
        if !ports.is_empty() {
            table.frontends.insert(self.frontend, Frontend { kind: FrontendKind::ClusterIp, service: 0 });
        }
        let (changed, removed) = if ports.is_empty() { (vec![], vec![0]) } else { (vec![0], vec![]) };
        let table = Arc::new(table);
        let (retire, candidates, retired_candidates) = (vec![], vec![], vec![]);
        let update = TableUpdate { table, changed, removed, install: vec![()], retire, candidates, retired_candidates };
        self.plane.publish(update, &loopback);
    }

    /// Where the Service is really bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.plane.bound()[0].address
    }

    pub(super) async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address())).await.unwrap()
    }

    /// All that comes on a new connection; a reset may be faster than the news that it is there.
    pub(super) async fn attempt(&self) -> std::io::Result<Vec<u8>> {
        rest(&mut within(TcpStream::connect(self.address())).await?).await
    }

    pub(super) async fn snapshot(&self) -> Snapshot {
        within(self.plane.snapshot()).await.0
    }

    pub(super) async fn service(&self) -> ServiceSnapshot {
        let key = ServiceKey { namespace: "default".into(), service: "web".into(), port: "80".into() };
        self.snapshot().await.services.remove(&key).unwrap_or_default()
    }

    /// Waits until the counts are so.
    pub(super) async fn until(&self, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        within(async {
            loop {
                let snapshot = self.snapshot().await;
                assert!(snapshot.totals.balances(), "{:?}", snapshot.totals);
                if holds(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    /// Drains, and gives back the last counts and the decision log.
    pub(super) async fn end(self, timeout: Duration) -> (Snapshot, Vec<serde_json::Value>) {
        let snapshot = within(self.plane.drain(timeout)).await;
        self.log.close();
        let log = std::fs::read_to_string(&self.log_path).unwrap();
        (snapshot, log.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

pub(super) async fn backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A backend that answers every connection with its name and what it gets, until the client has no more.
pub(super) async fn echo(name: &'static str) -> SocketAddr {
    let (listener, address) = backend().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                to.write_all(name.as_bytes()).await?;
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            });
        }
    });
    address
}

pub(super) async fn accept(backend: &TcpListener) -> TcpStream {
    within(backend.accept()).await.unwrap().0
}

/// An address that refuses; it does as long as the socket lives.
pub(super) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// An address that answers no SYN: its queue is full and stays so.
pub(super) async fn silent() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let (socket, address) = refusing();
    socket.listen(0).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream);
    }
    (socket, queued, address)
}

pub(super) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// All that comes until the end of the stream.
pub(super) async fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}

pub(super) fn was_reset<T: std::fmt::Debug>(result: std::io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// Sends, ends, and gives back all that comes.
pub(super) async fn ask(mut stream: TcpStream, question: &[u8]) -> std::io::Result<Vec<u8>> {
    within(stream.write_all(question)).await?;
    stream.shutdown().await?;
    rest(&mut stream).await
}

pub(super) fn ip(stream: &TcpStream) -> IpAddr {
    stream.local_addr().unwrap().ip()
}
