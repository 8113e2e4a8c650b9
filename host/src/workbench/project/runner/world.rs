//! The world around a test: the empty one of a policy that was granted WASI, with arguments, and output that is kept.

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::policy::{Limits, empty_world};

/// Bytes of output that are kept; a test that writes more fails.
const MAX_OUTPUT: usize = 1 << 20;

/// The data of one test's store.
pub(super) struct World {
    ctx: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
    /// Lines of the policy's log.
    pub(super) log: String,
}

/// What a test writes.
pub(super) struct Output {
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
}

impl World {
    /// A store with a planner's fuel and memory. Fuel alone ends a test that goes on for ever: time is for servers.
    pub(super) fn store(engine: &Engine, limits: &Limits, arguments: &[&str]) -> wasmtime::Result<(Store<Self>, Output)> {
        let output = Output { stdout: MemoryOutputPipe::new(MAX_OUTPUT), stderr: MemoryOutputPipe::new(MAX_OUTPUT) };
        let ctx = empty_world().args(arguments).stdout(output.stdout.clone()).stderr(output.stderr.clone()).build();
        let memory = StoreLimitsBuilder::new()
            .memory_size(limits.memory_bytes)
            .memories(limits.memories)
            .tables(limits.tables)
            .table_elements(limits.table_elements)
            .instances(limits.instances);
        let mut store = Store::new(engine, Self { ctx, table: ResourceTable::new(), limits: memory.build(), log: String::new() });
        store.limiter(|world| &mut world.limits);
        store.set_fuel(limits.planner_fuel)?;
        store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Continue(1)));
        store.set_epoch_deadline(1);
        Ok((store, output))
    }

    /// Keeps a line of the policy's log, while there is room.
    pub(super) fn log(&mut self, level: &str, line: &str) {
        if self.log.len() + line.len() < MAX_OUTPUT {
            self.log.push_str(&format!("{level}: {line}\n"));
        }
    }
}

impl WasiView for World {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

impl Output {
    pub(super) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.contents()).into_owned()
    }

    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }
}
