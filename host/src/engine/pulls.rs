//! Pulls the policies that Services name by reference: off the control thread, each in its own time, again and again until it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::control_loop::Event;
use crate::objects::reference::Reference;
use crate::oci::{Cache, Client, Error, Pulled};
use crate::policy::Refusal;
use crate::policy::registry::{Registry, Swapped};

/// After a pull that failed; then twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// At last. A registry that was down is found again within a minute.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Pulls at one time.
const MAX_PULLS: usize = 4;

/// What became of a reference.
pub(super) enum Outcome {
    /// It is in force; a tag stands for this digest as long as a Service names it.
    InForce { swapped: Swapped, pinned: Reference },
    /// It came, and is not fit to serve. It is not asked for again.
    Refused(Refusal),
    /// It did not come. It is asked for again.
    Failed(Error),
}

/// What pulling needs.
pub(super) struct Puller {
    pub(super) client: Client,
    pub(super) cache: Option<Cache>,
    pub(super) registry: Arc<Registry>,
    pub(super) told: mpsc::Sender<Event>,
}

/// Pulls what is wanted, until nobody says any more what that is.
pub(super) async fn run(puller: Puller, mut wanted: watch::Receiver<BTreeSet<Reference>>) {
    let (puller, turns) = (Arc::new(puller), Arc::new(Semaphore::new(MAX_PULLS)));
    let mut pulls: BTreeMap<Reference, Pull> = BTreeMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        pulls.retain(|reference, _| now.contains(reference));
        for reference in now {
            let start = |reference: &Reference| Pull(tokio::spawn(pull(Arc::clone(&puller), Arc::clone(&turns), reference.clone())));
            pulls.entry(reference.clone()).or_insert_with(|| start(&reference));
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends when nobody wants it any more.
struct Pull(JoinHandle<()>);

impl Drop for Pull {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pull(puller: Arc<Puller>, turns: Arc<Semaphore>, reference: Reference) {
    let mut wait = FIRST_RETRY;
    loop {
        // Never closed.
        let turn = turns.acquire().await;
        match puller.client.pull(&reference, puller.cache.as_ref()).await {
            Ok(pulled) => return put_in_force(puller, reference, pulled).await,
            Err(error) => {
                let event = Event::Pulled { name: reference.to_string(), outcome: Outcome::Failed(error) };
                let _ = puller.told.send(event).await;
            }
        }
        drop(turn);
        // Not all hosts at the same time, when a registry comes back.
        tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

/// Compiles and tests for up to seconds. Told from there, so that what is in force is known to be, even if nobody waits for it any more.
async fn put_in_force(puller: Arc<Puller>, reference: Reference, pulled: Pulled) {
    let work = move || {
        let name = reference.to_string();
        let outcome = match puller.registry.swap_pulled(&name, &pulled.component) {
            Ok(swapped) => Outcome::InForce { swapped, pinned: pulled.reference },
            Err(refusal) => Outcome::Refused(refusal),
        };
        let _ = puller.told.blocking_send(Event::Pulled { name, outcome });
    };
    let _ = tokio::task::spawn_blocking(work).await;
}
