//! For tests: a selector by labels that fails in the way that the setting `fault` of the Service names: `trap` (`choose` panics),
//! `group` (`choose` returns group 99), `classify` (`classify` returns group 99), `plan-trap`, `plan-error`.

use pointsman_sdk::prelude::*;

/// The policy `faulty-selector`.
#[derive(Debug)]
pub struct FaultySelector;

impl Selector for FaultySelector {
    type Plan = (String, Vec<(String, String)>);

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Self::Plan), String> {
        let fault = port.setting("fault").unwrap_or("none");
        match fault {
            "plan-error" => return Err("the setting `fault` asks for an error of plan".to_owned()),
            "plan-trap" => panic!("the setting `fault` asks for a trap in plan"),
            _ => {}
        }
        let wanted = port.selector.iter().flatten().map(|label| (label.key.clone(), label.value.clone()));
        Ok((vec!["all".to_owned()], (fault.to_owned(), wanted.collect())))
    }

    fn classify(&mut self, (fault, wanted): &Self::Plan, labels: &[Label]) -> Option<u32> {
        let carried = |(key, value): &(String, String)| labels.iter().any(|label| label.key == *key && label.value == *value);
        wanted.iter().all(carried).then_some(if fault == "classify" { 99 } else { 0 })
    }

    #[expect(clippy::panic, reason = "a fault that this policy is for")]
    fn choose(&mut self, (fault, _): &mut Self::Plan, _connection: &Connection) -> Option<u32> {
        match fault.as_str() {
            "trap" => panic!("the setting `fault` asks for a trap in choose"),
            "group" => Some(99),
            _ => None,
        }
    }
}

pointsman_sdk::export_selector!(FaultySelector);
