//! Start and end of a host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::control_loop::{self, Event, Wiring};
use super::pulls::{self, Puller};
use super::{Options, VipMode};
use crate::admin::{self, Bound, EventLog, Handle, ProxyHealth, Readiness, health_checks};
use crate::dataplane::anyip;
use crate::policy::Sandbox;
use crate::policy::compile::Compiler;
use crate::policy::directory::{DirectoryEvent, PolicyDirectory};
use crate::policy::registry::{Registry, RegistryOptions};
use crate::probe::{self, Flip, Watched};
use crate::source;

/// Runs a host until SIGTERM or SIGINT, then drains it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    admin::check_exposure(options.admin, options.token.as_ref())?;
    if options.vip_mode == VipMode::AnyIp && !anyip::permitted() {
        bail!("--vip-mode anyip needs CAP_NET_ADMIN: run as root, grant the capability, or use --vip-mode loopback");
    }
    let listener = TcpListener::bind(options.admin).await.with_context(|| format!("listening on --admin {}", options.admin))?;
    let admin_address = listener.local_addr()?;
    // The terminal's Ctrl-C and a supervisor's SIGTERM end the host in the same way.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let sandbox = Sandbox::with_cache(options.limits.clone(), Compiler::of_this_program(), options.policy_cache.as_deref())?;
    let registry_options = RegistryOptions {
        node: options.control.node.clone(),
        settings: Default::default(),
        wasi_grants: options.wasi_grants.clone(),
        large: options.large_policies.clone(),
    };
    let registry = Registry::new(sandbox, registry_options);

    let events = Arc::new(EventLog::new());
    let bound = Arc::new(ArcSwap::from_pointee(Bound { admin: Some(admin_address), ..Bound::default() }));
    let (readiness, readiness_seen) = watch::channel(Readiness::Starting(vec!["the first table is not in force yet".to_owned()]));
    let (metrics, metrics_asked) = mpsc::channel(16);
    let (policies, policies_asked) = mpsc::channel(16);
    // Components are compiled and tested, each for seconds at the worst.
    let (folder, known) = (options.policy_dir.clone(), Arc::clone(&registry));
    let opening = tokio::task::spawn_blocking(move || open_policy_dir(folder, known));
    let (directory, loaded) = tokio::select! {
        opened = opening => opened.context("reading --policy-dir")??,
        _ = terminated.recv() => return Ok(()),
        _ = interrupted.recv() => return Ok(()),
    };
    let (objects, objects_asked) = mpsc::channel(16);
    let (shadows, shadows_asked) = mpsc::channel(16);
    let (probed, targets) = watch::channel(Watched::default());
    let (flips_told, flips) = mpsc::channel(256);
    let probes = Arc::new(probe::Counters::default());
    start_probing(targets, flips_told, Arc::clone(&probes))?;
    let families = options.control.service_ranges.iter().map(|range| if range.addr().is_ipv4() { "IPv4" } else { "IPv6" });
    let health = Arc::new(ProxyHealth::new(families.collect(), SystemTime::now()));
    let (tables, tables_seen) = watch::channel(Arc::default());
    let addresses = options.control.node_port_addresses.clone();
    let health_checks = tokio::spawn(health_checks::run(tables_seen, addresses, Arc::clone(&health), Arc::clone(&events)));
    let (changes, changes_seen) = mpsc::channel(loaded.len() + 64);
    for outcome in loaded {
        changes.send(Event::Policy(outcome)).await?;
    }
    let policy_changes = changes.clone();
    let told = move |event| {
        let _ = policy_changes.blocking_send(Event::Policy(event));
    };
    let _policy_watch = directory.map(|directory| directory.watch(told)).transpose()?;
    let (wanted, wanted_seen) = watch::channel(BTreeSet::new());
    let puller =
        Puller { client: options.puller.clone(), cache: options.pulled.clone(), registry: Arc::clone(&registry), told: changes.clone() };
    let pulling = tokio::spawn(pulls::run(puller, wanted_seen));
    let files = Arc::new(Notify::new());
    let _file_watch = source::watch(&options.files, {
        let files = Arc::clone(&files);
        move || files.notify_one()
    })
    .context("watching -f")?;

    let handle = Handle {
        readiness: readiness_seen,
        bound: Arc::clone(&bound),
        events: Arc::clone(&events),
        metrics,
        health: Arc::clone(&health),
        objects,
        policies,
        shadows,
        token: options.token.clone(),
    };
    let (admin_stop, admin_stopped) = oneshot::channel::<()>();
    let admin_server = tokio::spawn(admin::serve(listener, handle, async {
        let _ = admin_stopped.await;
    }));
    tracing::info!("admin listening on http://{admin_address}");

    let wiring = Wiring {
        options,
        registry,
        events,
        bound,
        readiness,
        metrics_asked,
        policies_asked,
        objects_asked,
        shadows_asked,
        probed,
        flips,
        probes,
        health,
        tables,
        files,
        wanted,
        changes: changes.clone(),
        changes_seen,
    };
    let (ended, control_ended) = oneshot::channel();
    let control = thread::Builder::new().name("control".to_owned()).spawn(move || {
        let _ = ended.send(control_loop::run(wiring));
    })?;
    tokio::pin!(control_ended);
    let result = tokio::select! {
        result = &mut control_ended => result,
        _ = terminated.recv() => stop(&changes, control_ended).await,
        _ = interrupted.recv() => stop(&changes, control_ended).await,
    };
    health_checks.abort();
    pulling.abort();
    let _ = admin_stop.send(());
    let _ = admin_server.await;
    if control.join().is_err() {
        bail!("the control thread panicked");
    }
    result.context("the control thread ended without a word")?
}

async fn stop<T>(changes: &mpsc::Sender<Event>, ended: std::pin::Pin<&mut oneshot::Receiver<T>>) -> Result<T, oneshot::error::RecvError> {
    let _ = changes.send(Event::Stop).await;
    ended.await
}

/// On a thread of its own: planning holds up the control thread, and a probe would seem to have timed out. It ends with the control side.
fn start_probing(targets: watch::Receiver<Watched>, flips: mpsc::Sender<Flip>, counters: Arc<probe::Counters>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the prober's runtime")?;
    let options = probe::Options { max_in_flight: probe::MAX_IN_FLIGHT, seed: fastrand::u64(..) };
    thread::Builder::new().name("prober".to_owned()).spawn(move || runtime.block_on(probe::run(targets, flips, options, counters)))?;
    Ok(())
}

/// What stands in `--policy-dir`, and what became of it.
fn open_policy_dir(folder: Option<PathBuf>, registry: Arc<Registry>) -> anyhow::Result<(Option<PolicyDirectory>, Vec<DirectoryEvent>)> {
    let Some(folder) = folder else { return Ok((None, Vec::new())) };
    let opened = PolicyDirectory::open(folder.clone(), registry);
    let (directory, events) = opened.with_context(|| format!("--policy-dir {}", folder.display()))?;
    Ok((Some(directory), events))
}
