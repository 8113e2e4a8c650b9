//! UDP: datagrams of a client go to the endpoint that was decided for its flow, and answers go back.
//!
//! Every frontend has one socket for each worker (or one in all), and every flow one that is connected to its endpoint: the kernel then
//! tells whose answer a datagram is, and reports an endpoint that refuses. All sockets of a worker hang on one epoll instance, which hangs
//! on the runtime: so neither a flow nor a frontend needs a task, and answers of many flows leave with one system call.
//!
//! An answer comes from the address that the client asked, because it leaves from the socket that was asked, and that is bound to just this
//! address (`listeners` takes no wildcard for UDP). So `IP_PKTINFO`, which sockets on every address need, would tell nothing new.
//!
//! On the way of a datagram of a known flow there is no lock, no allocation and no reference count: one lookup for each run of datagrams of
//! one client, and system calls for up to [`BATCH`] of them.

mod answers;
mod changes;
mod flow;
mod flows;
mod icmp;
mod refusals;
mod requests;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use self::answers::Answers;
pub(super) use self::changes::{close, drain, end, table_changed, tick};
use self::flow::Flow;
use self::flows::{FlowId, Flows, Limits};
use self::refusals::Refusals;
use super::command::ListenerId;
use super::policies::Policies;
use super::worker::Worker;
use crate::observe::Outcome;
use crate::sys::datagrams::Batch;
use crate::sys::watch;
use crate::table::FrontendKey;

/// What the host allows UDP flows; a Service's `pointsman.dev/udp-idle-timeout` goes before both timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpLimits {
    /// A flow that is no stream yet ends after so long without a datagram. 30 s, as Linux has it (`nf_conntrack_udp_timeout`), and so
    /// kube-proxy.
    pub idle_timeout: Duration,
    /// One that is: answered, and still used after two seconds. 120 s (`nf_conntrack_udp_timeout_stream`).
    pub stream_idle_timeout: Duration,
    /// Flows of one client address on one worker; its one that was idle longest makes room for the next. 1,024: each takes a descriptor,
    /// and a resolver that asks from a fresh port each time has 30 s worth of questions open.
    pub max_flows_per_client: usize,
}

/// Datagrams that one system call takes or gives. From 32 on, the calls themselves are a few percent of the cost.
const BATCH: usize = 32;

/// Sockets that one look at the epoll instance finds.
const EVENTS: usize = 64;

/// Set for frontends: a flow's id stays below.
const FRONTEND_BIT: u64 = 1 << 63;

/// One worker's UDP.
pub(super) struct Udp {
    epoll: Epoll,
    /// As many as there are flows, for those who may not look into `state`.
    live: Cell<usize>,
    state: RefCell<State>,
}

struct State {
    limits: UdpLimits,
    flows: Flows<Flow>,
    frontends: Vec<Option<Rc<Frontend>>>,
    numbers: HashMap<ListenerId, u32>,
    /// Numbers that no frontend has.
    vacant: Vec<u32>,
    requests: Batch,
    answers: Answers,
    events: Vec<EpollEvent>,
    /// Datagrams that no endpoint could be found for until the plan comes that knows one.
    waiting: VecDeque<requests::Waiting>,
    waiting_bytes: usize,
    /// Flows whose first datagram is held, and until when.
    held: VecDeque<(FlowId, u64)>,
    held_bytes: usize,
    refusals: Refusals,
    /// No new flows.
    draining: bool,
}

/// One socket that clients reach.
struct Frontend {
    number: u32,
    key: FrontendKey,
    /// Where it is really bound: what clients see.
    address: SocketAddr,
    socket: UdpSocket,
    /// Flows that began here.
    flows: Cell<usize>,
}

/// What the functions of one turn need; nothing in it outlives an await.
struct Turn<'a, P> {
    worker: &'a Worker<P>,
    state: &'a mut State,
    now_ms: u64,
}

impl Default for UdpLimits {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(30), stream_idle_timeout: Duration::from_secs(120), max_flows_per_client: 1_024 }
    }
}

impl Udp {
    pub(super) fn new(limits: UdpLimits) -> io::Result<Self> {
        let state = State {
            limits,
            flows: Flows::new(Limits { flows: 0, per_client: limits.max_flows_per_client.max(1) }),
            frontends: Vec::new(),
            numbers: HashMap::new(),
            vacant: Vec::new(),
            requests: Batch::new(BATCH),
            answers: Answers::new(BATCH),
            events: vec![EpollEvent::empty(); EVENTS],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            refusals: Refusals::default(),
            draining: false,
        };
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, live: Cell::new(0), state: RefCell::new(state) })
    }

    /// How many flows there are.
    pub(super) fn flows(&self) -> u64 {
        self.live.get() as u64
    }
}

/// Serves every frontend and flow of a worker until the runtime ends.
pub(super) async fn serve<P: Policies>(worker: Rc<Worker<P>>) {
    let watched = match watch::readable(worker.udp.epoll.0.as_fd()) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!("worker {} cannot serve UDP: {error}", worker.index);
            return;
        }
    };
    while let Ok(mut ready) = watched.readable().await {
        if turn(&worker) {
            drop(ready);
            tokio::task::yield_now().await;
        } else {
            // What comes from now on raises it again, also on a socket that the epoll instance still lists as ready.
            ready.clear_ready();
        }
    }
}

/// Serves what is ready. Returns whether there may be more.
fn turn<P: Policies>(worker: &Worker<P>) -> bool {
    with(worker, |turn| {
        let mut events = std::mem::take(&mut turn.state.events);
        // An interrupted call is made again at the next event; nothing else can go wrong with an instance of our own.
        let ready = worker.udp.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let mut more = ready == events.len();
        // All answers first: so they leave together.
        for event in events[..ready].iter().filter(|event| event.data() & FRONTEND_BIT == 0) {
            more |= turn.answers(FlowId::from_bits(event.data()));
        }
        turn.flush();
        for event in events[..ready].iter().filter(|event| event.data() & FRONTEND_BIT != 0) {
            more |= turn.requests(event.data() as u32);
        }
        turn.state.events = events;
        more
    })
}

/// Begins to serve a frontend.
pub(super) fn open<P: Policies>(worker: &Worker<P>, id: ListenerId, key: FrontendKey, socket: UdpSocket) -> io::Result<()> {
    let mut state = worker.udp.state.borrow_mut();
    let number = state.vacant.pop().unwrap_or_else(|| {
        state.frontends.push(None);
        state.frontends.len() as u32 - 1
    });
    let watched = worker.udp.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, FRONTEND_BIT | u64::from(number)));
    let address = match watched.map_err(io::Error::from).and_then(|()| socket.local_addr()) {
        Ok(address) => address,
        Err(error) => {
            state.vacant.push(number);
            return Err(error);
        }
    };
    state.frontends[number as usize] = Some(Rc::new(Frontend { number, key, address, socket, flows: Cell::new(0) }));
    state.numbers.insert(id, number);
    Ok(())
}

fn with<P: Policies, T>(worker: &Worker<P>, act: impl FnOnce(&mut Turn<'_, P>) -> T) -> T {
    let mut state = worker.udp.state.borrow_mut();
    act(&mut Turn { worker, now_ms: worker.clock.now_ms(), state: &mut state })
}

impl<P: Policies> Turn<'_, P> {
    fn frontend(&self, number: u32) -> Option<Rc<Frontend>> {
        self.state.frontends.get(number as usize)?.clone()
    }

    /// Ends a flow and accounts for it.
    fn end(&mut self, id: FlowId, outcome: Outcome) {
        let Some(number) = self.state.flows.key(id).map(|key| key.frontend) else { return };
        self.release(id);
        let Some(flow) = self.state.flows.end(id) else { return };
        if let Some(Some(frontend)) = self.state.frontends.get(number as usize) {
            frontend.flows.set(frontend.flows.get() - 1);
        }
        self.worker.udp.live.set(self.state.flows.len());
        flow.finish(self.worker, outcome);
    }

    /// Tells a client that nobody is there.
    fn refuse(&mut self, frontend: &Frontend, client: SocketAddr, datagram: &[u8]) {
        let result = self.state.refusals.refuse(frontend.address, client, datagram, self.now_ms);
        self.worker.counters.refusal(result);
    }

    /// Lets go of the first datagram that was held for a flow.
    fn release(&mut self, id: FlowId) -> Option<Box<[u8]>> {
        let first = self.state.flows.value_mut(id)?.first.take()?;
        self.state.held_bytes -= first.len();
        Some(first)
    }
}
