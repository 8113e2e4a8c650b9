//! One instance of a policy: a store, the functions of its stage, and the one way in.

use std::sync::Arc;

use wasmtime::component::{ComponentNamedList, Instance as WasmInstance, InstancePre, Lift, Lower, TypedFunc};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};

use super::contract::{
    Connection, Description, Endpoint, Fault, Grouping, Label, Node, Outcome, Partition, Place, ServiceId, ServicePort, Setting, Slot,
    StageKind, Verdict,
};
use super::host::{GuestLog, HostData, Loads, deadline};
use super::limits::{Budget, Limits};
use super::wasi;
use super::wire;
use crate::table::Table;

/// A guest that has been configured. After a fault it must be dropped: `is_dead` says so.
pub(super) struct Instance {
    guest: Guest,
    describe: TypedFunc<(), (wire::Description,)>,
    configure: TypedFunc<Configure<'static>, (Result<(), String>,)>,
    stage: Stage,
    report: Option<ReportFunction>,
    decision: Budget,
    adoption: Budget,
    planning: Budget,
    settings_limit: usize,
}

type Configure<'a> = (wire::Place, wire::Node<'a>, Vec<wire::Pair<'a>>);
type Report<'a> = (u64, &'a [wire::Outcome]);
type ReportFunction = TypedFunc<Report<'static>, ()>;
type Forget = TypedFunc<(u32,), ()>;
type Adopt = TypedFunc<(u32, &'static [u8]), ()>;

/// The functions of the stage, looked up once.
enum Stage {
    Selector {
        plan: TypedFunc<(wire::ServicePort<'static>,), (Result<wire::Grouping, String>,)>,
        classify: TypedFunc<(u32, Vec<wire::Pair<'static>>), (Option<u32>,)>,
        adopt: Adopt,
        choose: TypedFunc<(wire::Connection,), (Option<u32>,)>,
        forget: Forget,
    },
    TrafficPolicy {
        plan: TypedFunc<PlanEndpoints<'static>, (Result<wire::Partition, String>,)>,
        adopt: Adopt,
        choose: TypedFunc<(wire::Connection, Option<u32>), (wire::Verdict,)>,
        forget: Forget,
    },
    Balancer {
        plan: TypedFunc<PlanEndpoints<'static>, (Result<Vec<u8>, String>,)>,
        adopt: TypedFunc<(u32, u32, &'static [u8]), ()>,
        pick: TypedFunc<(wire::Connection, u32), (Option<u32>,)>,
        forget: Forget,
    },
}

type PlanEndpoints<'a> = (wire::ServicePort<'a>, &'a [wire::Endpoint<'a>]);

/// What an instance is made from.
pub(super) struct Mould<'a> {
    pub(super) engine: &'a Engine,
    pub(super) limits: &'a Limits,
    pub(super) pre: &'a InstancePre<HostData>,
    pub(super) stage: StageKind,
    /// Exports `feedback`.
    pub(super) learns: bool,
    /// Was granted WASI and imports it.
    pub(super) wasi: bool,
    pub(super) log: &'a Arc<GuestLog>,
}

impl Instance {
    /// A fresh instance, not yet configured.
    ///
    /// # Errors
    /// A fault of its start function, or a pool that is full; or `Fault::Refused` where its functions are not the contract's.
    pub(super) fn new(mould: &Mould<'_>, place: Place) -> Result<Self, Fault> {
        let limits = mould.limits;
        let mut store = Store::new(mould.engine, HostData::new(limits, Arc::clone(mould.log)));
        store.limiter(|data| &mut data.limiter);
        store.epoch_deadline_callback(|mut store| Ok(deadline(store.data_mut())));
        store.set_hostcall_fuel(match place {
            Place::Planner => limits.planner_hostcall_bytes,
            Place::Worker(_) => limits.hot_hostcall_bytes,
        });
        let mut guest = Guest { store, wasi: mould.wasi, dead: false, fuel: 0 };
        // On a worker, a start holds up its connections: it may take what an adoption may.
        let start = match place {
            Place::Planner => limits.planning(),
            Place::Worker(_) => limits.adoption(),
        };
        let instance = guest.instantiate(mould.pre, start)?;
        let refused = |error: wasmtime::Error| Fault::Refused(format!("{error:#}"));
        let exports = Exports { instance, store: &mut guest.store };
        let (lifecycle, stage, report) = exports.resolve(mould).map_err(refused)?;
        Ok(Self {
            guest,
            describe: lifecycle.0,
            configure: lifecycle.1,
            stage,
            report,
            decision: limits.decision(),
            adoption: limits.adoption(),
            planning: limits.planning(),
            settings_limit: limits.settings_bytes,
        })
    }

    pub(super) fn describe(&mut self) -> Result<Description, Fault> {
        let (description,) = self.guest.enter(&self.describe, (), self.planning)?;
        Ok(description.into())
    }

    pub(super) fn configure(&mut self, place: Place, node: &Node, settings: &[Setting]) -> Result<(), Fault> {
        self.check_settings(settings)?;
        let params = (place.into(), node.into(), wire::settings(settings));
        let budget = match place {
            Place::Planner => self.planning,
            Place::Worker(_) => self.adoption,
        };
        let (answer,) = self.guest.enter(&self.configure, params, budget)?;
        answer.map_err(Fault::Refused)
    }

    pub(super) fn plan_selector(&mut self, port: &ServicePort) -> Result<Grouping, Fault> {
        self.check_settings(&port.settings)?;
        let Stage::Selector { plan, .. } = &self.stage else { return Err(other_stage()) };
        let (answer,) = self.guest.enter(plan, (port.into(),), self.planning)?;
        answer.map(Into::into).map_err(Fault::Refused)
    }

    pub(super) fn classify(&mut self, service: ServiceId, labels: &[Label]) -> Result<Option<u32>, Fault> {
        let Stage::Selector { classify, .. } = &self.stage else { return Err(other_stage()) };
        Ok(self.guest.enter(classify, (service, wire::labels(labels)), self.planning)?.0)
    }

    pub(super) fn plan_traffic_policy(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> Result<Partition, Fault> {
        self.check_settings(&port.settings)?;
        let Stage::TrafficPolicy { plan, .. } = &self.stage else { return Err(other_stage()) };
        let endpoints: Vec<wire::Endpoint<'_>> = endpoints.iter().map(Into::into).collect();
        let (answer,) = self.guest.enter(plan, (port.into(), endpoints.as_slice()), self.planning)?;
        answer.map(Into::into).map_err(Fault::Refused)
    }

    pub(super) fn plan_balancer(&mut self, port: &ServicePort, members: &[Endpoint]) -> Result<Vec<u8>, Fault> {
        self.check_settings(&port.settings)?;
        let Stage::Balancer { plan, .. } = &self.stage else { return Err(other_stage()) };
        let members: Vec<wire::Endpoint<'_>> = members.iter().map(Into::into).collect();
        let (answer,) = self.guest.enter(plan, (port.into(), members.as_slice()), self.planning)?;
        answer.map_err(Fault::Refused)
    }

    /// Hands over a plan of the first two stages.
    pub(super) fn adopt(&mut self, service: ServiceId, plan: &[u8]) -> Result<(), Fault> {
        let (Stage::Selector { adopt, .. } | Stage::TrafficPolicy { adopt, .. }) = &self.stage else { return Err(other_stage()) };
        self.guest.enter(adopt, (service, plan), self.adoption)
    }

    /// Hands over a balancer's plan for one candidate set.
    pub(super) fn adopt_set(&mut self, service: ServiceId, set: u32, plan: &[u8]) -> Result<(), Fault> {
        let Stage::Balancer { adopt, .. } = &self.stage else { return Err(other_stage()) };
        self.guest.enter(adopt, (service, set, plan), self.adoption)
    }

    pub(super) fn choose_group(&mut self, connection: &Connection) -> Result<Option<u32>, Fault> {
        let Stage::Selector { choose, .. } = &self.stage else { return Err(other_stage()) };
        Ok(self.guest.enter(choose, (connection.into(),), self.decision)?.0)
    }

    pub(super) fn choose_subset(&mut self, connection: &Connection, group: Option<u32>) -> Result<Verdict, Fault> {
        let Stage::TrafficPolicy { choose, .. } = &self.stage else { return Err(other_stage()) };
        Ok(self.guest.enter(choose, (connection.into(), group), self.decision)?.0.into())
    }

    pub(super) fn pick(&mut self, connection: &Connection, set: u32) -> Result<Option<Slot>, Fault> {
        let Stage::Balancer { pick, .. } = &self.stage else { return Err(other_stage()) };
        Ok(self.guest.enter(pick, (connection.into(), set), self.decision)?.0)
    }

    pub(super) fn forget(&mut self, service: ServiceId) -> Result<(), Fault> {
        let (Stage::Selector { forget, .. } | Stage::TrafficPolicy { forget, .. } | Stage::Balancer { forget, .. }) = &self.stage;
        self.guest.enter(forget, (service,), self.adoption)
    }

    /// Tells a balancer that learns what became of its picks; nothing, for one that does not.
    pub(super) fn report(&mut self, now_ms: u64, outcomes: &[Outcome]) -> Result<(), Fault> {
        let Some(report) = &self.report else { return Ok(()) };
        let outcomes: Vec<wire::Outcome> = outcomes.iter().map(Into::into).collect();
        self.guest.enter(report, (now_ms, outcomes.as_slice()), self.adoption)
    }

    /// The table that `load.active` reads from now on.
    pub(super) fn set_table(&mut self, table: &Arc<Table>) {
        self.guest.store.data_mut().table = Arc::clone(table);
    }

    /// From now on notes what `load` answers, or does so no more: nobody takes it then, and it would grow.
    pub(super) fn note_loads(&mut self, note: bool) {
        self.guest.store.data_mut().loads = if note { Loads::Noted(Vec::new()) } else { Loads::Live };
    }

    /// What `load` answered since the last time; nothing, if it was not to be noted.
    pub(super) fn take_loads(&mut self) -> Vec<u32> {
        match &mut self.guest.store.data_mut().loads {
            Loads::Noted(noted) => std::mem::take(noted),
            Loads::Live | Loads::Given { .. } => Vec::new(),
        }
    }

    /// What `load` answers in the next call, whatever it is asked.
    pub(super) fn give_loads(&mut self, answers: Vec<u32>) {
        self.guest.store.data_mut().loads = Loads::Given { answers: answers.into_iter(), short: false };
    }

    /// Whether exactly as much was asked of `load` as there were answers given.
    pub(super) fn loads_fit(&self) -> bool {
        match &self.guest.store.data().loads {
            Loads::Given { answers, short } => answers.len() == 0 && !short,
            Loads::Live | Loads::Noted(_) => true,
        }
    }

    /// Fuel that the last call used.
    pub(super) fn last_fuel(&self) -> u64 {
        self.guest.fuel
    }

    /// The most linear memory that it ever held.
    pub(super) fn memory_peak(&self) -> u64 {
        self.guest.store.data().limiter.memory_peak as u64
    }

    /// It faulted, and its memory may be in any state.
    pub(super) fn is_dead(&self) -> bool {
        self.guest.dead
    }

    fn check_settings(&self, settings: &[Setting]) -> Result<(), Fault> {
        let bytes: usize = settings.iter().map(|s| s.key.len() + s.value.len()).sum();
        if bytes > self.settings_limit {
            return Err(Fault::Refused(format!("its settings are {bytes} bytes, and the limit is {}", self.settings_limit)));
        }
        Ok(())
    }
}

/// The caller keeps versions and stages together; were they ever mixed up, it is this connection's stage that fails, not the host.
fn other_stage() -> Fault {
    Fault::NotAsked("this policy fills another stage")
}

/// A store, and whether it is still good.
struct Guest {
    store: Store<HostData>,
    wasi: bool,
    dead: bool,
    fuel: u64,
}

impl Guest {
    /// The only way into a guest: arms epoch and fuel, calls, measures, and says how it failed if it did.
    #[inline]
    fn enter<P, R>(&mut self, function: &TypedFunc<P, R>, params: P, budget: Budget) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        self.arm(budget)?;
        let answer = if self.wasi {
            wasi::poll_once(function.call_async(&mut self.store, params)).unwrap_or_else(waits)
        } else {
            function.call(&mut self.store, params)
        };
        self.settle(answer, budget)
    }

    /// The same, for the component's start.
    fn instantiate(&mut self, pre: &InstancePre<HostData>, budget: Budget) -> Result<WasmInstance, Fault> {
        self.arm(budget)?;
        let answer = if self.wasi {
            wasi::poll_once(pre.instantiate_async(&mut self.store)).unwrap_or_else(waits)
        } else {
            pre.instantiate(&mut self.store)
        };
        self.settle(answer, budget)
    }

    #[inline]
    fn arm(&mut self, budget: Budget) -> Result<(), Fault> {
        if self.dead {
            return Err(Fault::NotAsked("being rebuilt"));
        }
        self.store.set_epoch_deadline(budget.ticks);
        let data = self.store.data_mut();
        data.limiter.denied = None;
        data.overdue = None;
        data.half_deadline = (budget.ticks, budget.half);
        self.store.set_fuel(budget.fuel).map_err(|error| Fault::HostLimit(error.to_string()))
    }

    #[inline]
    fn settle<R>(&mut self, answer: wasmtime::Result<R>, budget: Budget) -> Result<R, Fault> {
        self.fuel = budget.fuel - self.store.get_fuel().unwrap_or(0).min(budget.fuel);
        answer.map_err(|error| {
            self.dead = true;
            self.classify(&error)
        })
    }

    #[cold]
    fn classify(&self, error: &wasmtime::Error) -> Fault {
        if error.is::<PoolConcurrencyLimitError>() {
            return Fault::HostLimit("the instances of the pool".into());
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => return Fault::OutOfFuel,
            Some(Trap::Interrupt) => return Fault::Deadline,
            _ => {}
        }
        if let Some(denied) = self.store.data().limiter.denied {
            return Fault::HostLimit(denied.to_string());
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => {
                let text = trap.to_string();
                Fault::Trap(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned())
            }
            None => {
                let text = error.root_cause().to_string();
                // Wasmtime's types for these are private; their texts are matched by tests.
                if text.contains("fuel allocated for hostcalls") {
                    Fault::HostLimit("bytes handed to the host in one call".into())
                } else if let Some(what) = text.strip_prefix("resource limit exceeded: ") {
                    Fault::HostLimit(what.to_owned())
                } else {
                    Fault::Trap(text)
                }
            }
        }
    }
}

fn waits<R>() -> wasmtime::Result<R> {
    Err(wasmtime::Error::msg("waits for an event, which the empty WASI world does not have"))
}

/// Looks the functions up, and checks their types.
struct Exports<'a> {
    instance: WasmInstance,
    store: &'a mut Store<HostData>,
}

type Lifecycle = (TypedFunc<(), (wire::Description,)>, TypedFunc<Configure<'static>, (Result<(), String>,)>);

impl Exports<'_> {
    fn resolve(mut self, mould: &Mould<'_>) -> wasmtime::Result<(Lifecycle, Stage, Option<ReportFunction>)> {
        let lifecycle = (self.function("lifecycle", "describe")?, self.function("lifecycle", "configure")?);
        let stage = self.stage(mould.stage)?;
        let report = mould.learns.then(|| self.function("feedback", "report")).transpose()?;
        Ok((lifecycle, stage, report))
    }

    fn stage(&mut self, kind: StageKind) -> wasmtime::Result<Stage> {
        let interface = kind.name();
        Ok(match kind {
            StageKind::Selector => Stage::Selector {
                plan: self.function(interface, "plan")?,
                classify: self.function(interface, "classify")?,
                adopt: self.function(interface, "adopt")?,
                choose: self.function(interface, "choose")?,
                forget: self.function(interface, "forget")?,
            },
            StageKind::TrafficPolicy => Stage::TrafficPolicy {
                plan: self.function(interface, "plan")?,
                adopt: self.function(interface, "adopt")?,
                choose: self.function(interface, "choose")?,
                forget: self.function(interface, "forget")?,
            },
            StageKind::Balancer => Stage::Balancer {
                plan: self.function(interface, "plan")?,
                adopt: self.function(interface, "adopt")?,
                pick: self.function(interface, "pick")?,
                forget: self.function(interface, "forget")?,
            },
        })
    }

    fn function<P, R>(&mut self, interface: &str, name: &str) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let missing = || wasmtime::Error::msg(format!("it exports no {interface}.{name}"));
        let at = self
            .instance
            .get_export_index(&mut *self.store, None, format!("pointsman:policy/{interface}@0.1.0").as_str())
            .ok_or_else(missing)?;
        let function = self.instance.get_export_index(&mut *self.store, Some(&at), name).ok_or_else(missing)?;
        self.instance
            .get_typed_func(&mut *self.store, function)
            .map_err(|error| wasmtime::Error::msg(format!("{interface}.{name}: {error:#}")))
    }
}
