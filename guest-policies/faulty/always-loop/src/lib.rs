//! For tests: a balancer whose every pick runs for ever, whatever the settings.

use pointsman_sdk::prelude::*;

/// The policy `always-loop`.
#[derive(Debug)]
pub struct AlwaysLoop;

impl Balancer for AlwaysLoop {
    type Plan = ();

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, _port: &ServicePort, _members: &[Endpoint]) -> Result<(), String> {
        Ok(())
    }

    fn pick(&mut self, _plan: &mut (), connection: &Connection, _load: &impl Load) -> Option<Slot> {
        loop {
            std::hint::black_box(connection);
        }
    }
}

pointsman_sdk::export_balancer!(AlwaysLoop);
