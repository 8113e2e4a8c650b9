//! Every limit that a policy meets, in one place: what reports show beside the measured value. The defaults are the table
//! "Limits" of the sandbox's design; where a measurement gave the number, it is named here.

use std::time::Duration;

/// The limits of one host. A policy that reaches one is refused (before it runs) or faults (while it runs); both are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Period of the epoch: the grain of the two deadlines.
    pub tick: Duration,
    /// One call on a worker, safety net. A thread that had to wait for a busy core is given more: it is processor time that counts
    /// (50 ms of wall clock tripped on innocent policies, at six runnable threads a core).
    pub worker_deadline: Duration,
    /// One call in the planner, safety net, in the same way.
    pub planner_deadline: Duration,
    /// Fuel of one decision; the built-in policies use tens to a few thousand.
    pub hot_fuel: u64,
    /// Fuel of one `adopt`, `forget` or `report` on a worker: 3 ms. The costliest plan of a built-in policy, round robin over 10,000
    /// endpoints of different weights, takes 2.9 M to adopt (measured).
    pub adopt_fuel: u64,
    /// Fuel of one planner call: 0.1 s. The costliest of a built-in policy, Maglev over 10,000 endpoints of different weights, takes 173 M,
    /// which is some 30 ms (measured); handing 10,000 endpoints over takes 16 M by itself.
    pub planner_fuel: u64,
    /// Share of a core, in percent, that one policy may take on one worker before its breaker opens. Fuel is not time: a
    /// microsecond is some 4,000 units in a planner, and 300 in a decision, where most of the time is the way in and out.
    pub core_share_percent: u32,
    /// Linear memory of one instance, all of its memories together, in bytes.
    pub memory_bytes: usize,
    /// Linear memories of one instance.
    pub memories: usize,
    /// Tables of one instance.
    pub tables: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Core instances of one instance, with the one that the host adds (`compile/reexport.rs`).
    pub instances: usize,
    /// Wasm stack in bytes; the native stacks below it are at least 2 MiB.
    pub wasm_stack_bytes: usize,
    /// Bytes that one call on a worker may hand to the host.
    pub hot_hostcall_bytes: usize,
    /// Bytes that one planner call may hand to the host.
    pub planner_hostcall_bytes: usize,
    /// Size of a component in bytes.
    pub component_bytes: usize,
    /// Core modules in a component.
    pub modules: usize,
    /// Functions in a component, all modules together.
    pub functions: usize,
    /// Size of one function body in bytes.
    pub body_bytes: usize,
    /// Compiling one component: wall clock and processor time.
    pub compile_time: Duration,
    /// Address space of the compiling process in bytes.
    pub compile_memory_bytes: u64,
    /// Log lines a second, for one policy on all workers together.
    pub log_lines_per_second: u32,
    /// Bytes of one log line; the rest is cut off.
    pub log_line_bytes: usize,
    /// Keys and values of the settings that one call carries, in bytes.
    pub settings_bytes: usize,
    /// Instances that the pool holds: two versions of 32 policies on 15 workers and in the planner.
    pub pool_instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(10),
            worker_deadline: Duration::from_millis(50),
            planner_deadline: Duration::from_secs(2),
            hot_fuel: 50_000,
            adopt_fuel: 10_000_000,
            planner_fuel: 500_000_000,
            core_share_percent: 20,
            memory_bytes: 16 << 20,
            memories: 4,
            tables: 16,
            table_elements: 20_000,
            instances: 32,
            wasm_stack_bytes: 256 << 10,
            hot_hostcall_bytes: 1 << 20,
            planner_hostcall_bytes: 16 << 20,
            component_bytes: 2 << 20,
            modules: 8,
            functions: 20_000,
            body_bytes: 1 << 20,
            compile_time: Duration::from_secs(30),
            compile_memory_bytes: 1 << 30,
            log_lines_per_second: 10,
            log_line_bytes: 256,
            settings_bytes: 64 << 10,
            pool_instances: 1024,
        }
    }
}

/// What a policy needs of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// What every policy may have.
    #[default]
    Normal,
    /// More, for components that bring a language runtime along: an operator grants it by the policy's name.
    Large,
}

impl Runtime {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Large => "large",
        }
    }
}

/// What an operator grants one policy beyond what every policy may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// It may import WASI.
    pub wasi: bool,
    /// Its limits.
    pub runtime: Runtime,
}

/// What one entry into a guest may spend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Units of fuel.
    pub(super) fuel: u64,
    /// Epochs in half of the deadline.
    pub(super) ticks: u64,
    /// Half of the deadline.
    pub(super) half: Duration,
}

impl Limits {
    /// The limits of a policy that was granted `Runtime::Large`: these, each raised to what components of componentize-js and
    /// componentize-py need, if it is less.
    #[must_use]
    pub fn large(&self) -> Self {
        Self {
            // Measured: 12 and 18 MB, 38 modules, 13 MiB of memory at first.
            component_bytes: self.component_bytes.max(32 << 20),
            modules: self.modules.max(64),
            instances: self.instances.max(128),
            memory_bytes: self.memory_bytes.max(256 << 20),
            // A pick in JavaScript takes 113,000, and 7.5 M when its collector runs (measured).
            hot_fuel: self.hot_fuel.max(20_000_000),
            adopt_fuel: self.adopt_fuel.max(200_000_000),
            // A plan in JavaScript takes 250,000 an endpoint (measured): 10,000 of them need 2,500 M.
            planner_fuel: self.planner_fuel.max(5_000_000_000),
            // 16 s of a core that others use too (measured); less than the admin port waits for a swap.
            compile_time: self.compile_time.max(Duration::from_secs(110)),
            ..self.clone()
        }
    }

    pub(super) fn decision(&self) -> Budget {
        self.budget(self.hot_fuel, self.worker_deadline)
    }

    pub(super) fn adoption(&self) -> Budget {
        self.budget(self.adopt_fuel, self.worker_deadline)
    }

    pub(super) fn planning(&self) -> Budget {
        self.budget(self.planner_fuel, self.planner_deadline)
    }

    fn budget(&self, fuel: u64, deadline: Duration) -> Budget {
        let half = deadline / 2;
        let tick = self.tick.as_millis().max(1);
        // The first epoch may end at once.
        let ticks = u64::try_from(half.as_millis().div_ceil(tick)).unwrap_or(u64::MAX - 1) + 1;
        Budget { fuel, ticks, half }
    }
}
