//! Names and labels of what is made (kubernetes-semantics 2.5).

use std::collections::BTreeSet;

use xxhash_rust::xxh64::xxh64;

use crate::objects::model::{ClusterIp, Endpoints, IpFamily, Labels, Service};
use crate::objects::{MANAGED_BY, MIRRORING_CONTROLLER, SERVICE_NAME, SLICE_CONTROLLER};

/// On slices and Endpoints of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Random suffixes of Kubernetes have no vowels and nothing that looks like one (apimachinery `rand.String`).
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// apiserver `names.randomLength`.
const SUFFIX_LENGTH: u32 = 5;

/// The labels of a slice made of pods: the Service's, but for those that say what the slice is.
pub(super) fn slice_labels(service: &Service) -> Labels {
    let mut labels = service.meta.labels.clone();
    set_headless(&mut labels, service);
    labels.insert(SERVICE_NAME.to_owned(), service.meta.name.clone());
    labels.insert(MANAGED_BY.to_owned(), SLICE_CONTROLLER.to_owned());
    labels
}

/// The labels of the Endpoints made of pods.
pub(super) fn endpoints_labels(service: &Service) -> Labels {
    let mut labels = service.meta.labels.clone();
    set_headless(&mut labels, service);
    // Since 1.33 (KEP-4974): tells what Kubernetes made from what others did.
    labels.insert("endpoints.kubernetes.io/managed-by".to_owned(), "endpoint-controller".to_owned());
    labels
}

/// The labels of a slice that mirrors Endpoints.
pub(super) fn mirrored_labels(endpoints: &Endpoints) -> Labels {
    let mut labels = endpoints.meta.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.meta.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MIRRORING_CONTROLLER.to_owned());
    labels
}

fn set_headless(labels: &mut Labels, service: &Service) {
    if service.cluster_ip == ClusterIp::Headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
}

/// Names for a Service's new slices: as Kubernetes' own look, but the same in every run.
pub(super) struct Names<'a> {
    namespace: &'a str,
    service: &'a str,
    used: BTreeSet<String>,
    /// Names that others have.
    taken: &'a dyn Fn(&str) -> bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(namespace: &'a str, service: &'a str, used: BTreeSet<String>, taken: &'a dyn Fn(&str) -> bool) -> Self {
        Self { namespace, service, used, taken }
    }

    pub(super) fn draw(&mut self, family: Option<IpFamily>) -> String {
        let seed = format!("{}/{}/{family:?}", self.namespace, self.service);
        let mut attempt = self.used.len() as u64;
        loop {
            let name = format!("{}-{}", self.service, suffix(xxh64(seed.as_bytes(), attempt)));
            if !(self.taken)(&name) && self.used.insert(name.clone()) {
                return name;
            }
            attempt += 1;
        }
    }
}

fn suffix(mut hash: u64) -> String {
    let base = SUFFIX_LETTERS.len() as u64;
    let mut letter = || {
        let at = (hash % base) as usize;
        hash /= base;
        char::from(SUFFIX_LETTERS[at])
    };
    (0..SUFFIX_LENGTH).map(|_| letter()).collect()
}
