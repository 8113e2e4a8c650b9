//! WASI for a policy that was granted it: an empty world. No files, network, environment or arguments; clocks stand still and
//! randomness is a fixed cycle, so that the policy stays a function of what it is given; standard output goes to the log.
//!
//! The interfaces are wasmtime-wasi's asynchronous ones, since the synchronous ones block on the runtime and panic on a tokio worker.
//! A call is polled once: a guest that waits for anything has failed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::host::{GuestLog, HostData};
use super::wire::LogLevel;

/// The world of one instance.
pub(super) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
}

/// Defines the interfaces of `wasi:cli/imports`.
pub(super) fn link(linker: &mut Linker<HostData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// The value of a future that does not wait, and `None` of one that does.
pub(super) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let _entered = runtime().map(Runtime::enter);
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A runtime that nobody drives: wasmtime-wasi wants one around it when a guest subscribes to a clock, and would panic without.
fn runtime() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().enable_time().build().ok()).as_ref()
}

impl WasiView for HostData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let log = &self.log;
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi { ctx: world(log), table: ResourceTable::new() }));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

fn world(log: &Arc<GuestLog>) -> WasiCtx {
    empty_world()
        .stdout(Output { log: Arc::clone(log), level: LogLevel::Info })
        .stderr(Output { log: Arc::clone(log), level: LogLevel::Warn })
        .build()
}

/// The world, but for where output goes.
pub(crate) fn empty_world() -> WasiCtxBuilder {
    let mut world = WasiCtx::builder();
    world
        .secure_random(Deterministic::new(RANDOM.to_vec()))
        .insecure_random(Deterministic::new(RANDOM.to_vec()))
        .insecure_random_seed(0)
        .max_random_size(RANDOM_BYTES)
        .wall_clock(Still)
        .monotonic_clock(Still)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    world
}

/// What a granted policy reads as randomness, again and again. The contract's `connection.random` is the real source.
const RANDOM: &[u8] = &[0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15, 0xf3, 0x9c, 0xc0, 0x60, 0x5c, 0xed, 0xc8, 0x34];
/// A language runtime seeds a hash map with 16 bytes; a page is plenty.
const RANDOM_BYTES: u64 = 4096;

/// A clock that stands still. The contract's `connection.now-ms` is the real one.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

/// Standard output or error: each write is a line of the policy's log, under the same bucket as its own lines.
#[derive(Clone)]
struct Output {
    log: Arc<GuestLog>,
    level: LogLevel,
}

impl Output {
    fn line(&self, bytes: &[u8]) {
        if self.log.admit() {
            self.log.write(self.level, &String::from_utf8_lossy(&bytes[..bytes.len().min(WRITE_BYTES)]));
        }
    }
}

/// Offered to one write of a stream.
const WRITE_BYTES: usize = 4096;

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The default would hand each write to a task of its own, and every write would wait.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.line(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl Pollable for Output {
    // What `#[async_trait]` makes of an `async fn` that is always ready.
    fn ready<'life, 'fut>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'fut>>
    where
        'life: 'fut,
        Self: 'fut,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.line(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
