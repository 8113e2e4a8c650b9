//! The sandbox of a process: one wasmtime engine, its epoch, its linkers and its compiler. Everything a policy runs in comes from
//! here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::compile::{Cache, Compiler};
use super::host::{self, HostData};
use super::limits::{Limits, Runtime};
use super::refusal::Refusal;
use super::wasi;

/// One a process; share it as an `Arc`.
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) layout: Layout,
    pub(super) linker: Linker<HostData>,
    pub(super) granted_linker: Linker<HostData>,
    pub(super) compiler: Compiler,
    pub(super) cache: Option<Cache>,
    limits: Limits,
    large: Limits,
}

/// How linear memories lie in the address space. Machine code is made for one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A pool, 4 GiB of reserved addresses a memory: no bounds checks in the code, an instance in microseconds.
    Pool,
    /// Where so much address space may not be reserved (`ulimit -v`): small memories, with bounds checks.
    Small,
}

impl Sandbox {
    /// An engine with these limits, and without a cache of machine code.
    ///
    /// # Errors
    /// `Refusal::Sandbox` when wasmtime cannot be set up on this machine.
    pub fn new(limits: Limits, compiler: Compiler) -> Result<Arc<Self>, Refusal> {
        Self::with_cache(limits, compiler, None)
    }

    /// An engine with these limits. Falls back to small memories where the pool's address space cannot be reserved.
    ///
    /// # Errors
    /// `Refusal::Sandbox` when wasmtime cannot be set up on this machine, `Refusal::File` when the cache's folder is not usable.
    pub fn with_cache(limits: Limits, compiler: Compiler, cache: Option<&Path>) -> Result<Arc<Self>, Refusal> {
        let pooled = Engine::new(config(&limits, Layout::Pool).allocation_strategy(pool(&limits)));
        let (engine, layout) = match pooled {
            Ok(engine) => (engine, Layout::Pool),
            Err(error) => {
                tracing::info!("policies get small memories, since the pool's address space cannot be reserved: {error:#}");
                (Engine::new(&config(&limits, Layout::Small)).map_err(setup)?, Layout::Small)
            }
        };
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(setup)?;
        let mut granted_linker = linker.clone();
        wasi::link(&mut granted_linker).map_err(setup)?;
        tick(&engine, limits.tick).map_err(setup)?;
        let cache = cache.map(Cache::open).transpose()?;
        Ok(Arc::new(Self { engine, layout, linker, granted_linker, compiler, cache, large: limits.large(), limits }))
    }

    /// For what runs beside policies in the same engine: the tests of their authors.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The limits that hold here, for policies that were granted nothing.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits of a policy.
    pub fn limits_of(&self, runtime: Runtime) -> &Limits {
        match runtime {
            Runtime::Normal => &self.limits,
            Runtime::Large => &self.large,
        }
    }
}

fn setup(error: impl std::fmt::Display) -> Refusal {
    Refusal::Sandbox(format!("{error:#}"))
}

/// What decides the machine code (features, fuel, epoch, memory layout) and what bounds its stack.
pub(super) fn config(limits: &Limits, layout: Layout) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(limits.wasm_stack_bytes)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        // Component values that need neither: kept off so that a future default does not widen the contract.
        .wasm_component_model_map(false)
        .wasm_component_model_fixed_length_lists(false);
    if layout == Layout::Small {
        config.memory_reservation(0).memory_guard_size(0).memory_reservation_for_growth(1 << 20);
    }
    config
}

/// A slot of the pool is as large as the largest policy may be, which costs addresses alone; the limiter of each instance keeps it to its
/// own limits.
fn pool(limits: &Limits) -> InstanceAllocationStrategy {
    let limits = &limits.large();
    let at_most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    // A Rust policy brings three core instances (`compile` adds one), one memory and two tables; the pool is sized for that, the limits for the worst.
    pool.total_component_instances(limits.pool_instances)
        .total_core_instances(limits.pool_instances.saturating_mul(4))
        .total_memories(limits.pool_instances)
        .total_tables(limits.pool_instances.saturating_mul(3))
        .total_stacks(64)
        .max_memory_size(limits.memory_bytes)
        .table_elements(limits.table_elements)
        .max_core_instances_per_component(at_most(limits.instances))
        .max_memories_per_component(at_most(limits.memories))
        .max_tables_per_component(at_most(limits.tables))
        .max_tables_per_module(at_most(limits.tables));
    InstanceAllocationStrategy::Pooling(pool)
}

/// Advances the epoch until the engine is gone.
fn tick(engine: &Engine, period: Duration) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("policy-epoch".into()).spawn(move || {
        loop {
            std::thread::sleep(period);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => break,
            }
        }
    })?;
    Ok(())
}
