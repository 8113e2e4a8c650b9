//! What most tests begin with: one Service without selector, its Endpoints, and an engine that serves it.

use std::net::SocketAddr;

use anyhow::Result;
use pointsman_tests::engine::Launch;
use pointsman_tests::manifest::{Service, endpoints};
use pointsman_tests::{Backend, Engine, Manifests, Range};

/// Service `default/web`, port 8080, with some backends. The engine goes first when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) manifests: Manifests,
    pub(crate) backends: Vec<Backend>,
    pub(crate) range: Range,
}

/// Its one Service port.
pub(crate) const WEB: &str = "default/web:8080";

impl Site {
    /// Backends that say these names.
    pub(crate) fn named(test: &str, names: &[&str]) -> Result<Self> {
        Self::named_as(test, names, |service| service, |launch| launch)
    }

    /// The same, with changes to the Service and to the command line.
    pub(crate) fn named_as(
        test: &str,
        names: &[&str],
        service: impl FnOnce(Service) -> Service,
        launch: impl FnOnce(Launch<'static>) -> Launch<'static>,
    ) -> Result<Self> {
        let range = Range::claim(test)?;
        let backends = names.iter().zip(0..).map(|(name, n)| Backend::named(range.backend_ip(n), name));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        Self::of(range, backends, &[], service, launch)
    }

    /// Backends of the caller's own, and further endpoints that are none.
    pub(crate) fn of(
        range: Range,
        backends: Vec<Backend>,
        others: &[SocketAddr],
        service: impl FnOnce(Service) -> Service,
        launch: impl FnOnce(Launch<'static>) -> Launch<'static>,
    ) -> Result<Self> {
        let manifests = Manifests::new()?;
        let addresses: Vec<SocketAddr> = backends.iter().map(Backend::address).chain(others.iter().copied()).collect();
        manifests.write("service.yaml", &service(web(&range)).yaml())?;
        manifests.write("endpoints.yaml", &endpoints("web", &addresses))?;
        let engine = launch(Launch::new(&range, manifests.path())?).start()?;
        Ok(Self { engine, manifests, backends, range })
    }

    /// Where its clients connect to.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.engine.frontend(WEB, "cluster-ip")
    }

    /// Writes the Service anew.
    pub(crate) fn service(&self, change: impl FnOnce(Service) -> Service) -> Result<()> {
        self.manifests.write("service.yaml", &change(web(&self.range)).yaml()).map(drop)
    }

    /// Writes the Endpoints anew.
    pub(crate) fn endpoints(&self, addresses: &[SocketAddr]) -> Result<()> {
        self.manifests.write("endpoints.yaml", &endpoints("web", addresses)).map(drop)
    }

    /// Where its backends are.
    pub(crate) fn backend_addresses(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(Backend::address).collect()
    }
}

fn web(range: &Range) -> Service {
    Service::new("web").cluster_ip(range.cluster_ip(10)).port("{port: 8080}")
}
