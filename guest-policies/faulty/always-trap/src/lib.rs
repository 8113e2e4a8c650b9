//! For tests: a balancer whose every pick traps, whatever the settings.

use pointsman_sdk::prelude::*;

/// The policy `always-trap`.
#[derive(Debug)]
pub struct AlwaysTrap;

impl Balancer for AlwaysTrap {
    type Plan = ();

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, _members: &[Endpoint]) -> Result<(), String> {
        Ok(())
    }

    #[expect(clippy::panic, reason = "the fault that this policy is for")]
    fn pick(&mut self, _plan: &mut (), _connection: &Connection, _load: &impl Load) -> Option<Slot> {
        panic!("always-trap traps")
    }
}

pointsman_sdk::export_balancer!(AlwaysTrap);
