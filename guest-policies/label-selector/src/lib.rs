//! The selector of Kubernetes: an equality map. A pod backs the Service when it carries every label of the map, whatever else
//! it carries. A Service without a selector has endpoints that are written by hand, and no pod backs it: absent is not empty.

use pointsman_sdk::prelude::*;

/// The policy `label-selector`.
#[derive(Debug)]
pub struct LabelSelector;

impl Selector for LabelSelector {
    /// Sorted, so that a plan does not depend on the order in which the labels were written. `None`: no pod.
    type Plan = Option<Vec<(String, String)>>;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Self::Plan), String> {
        let wanted = port.selector.as_ref().map(|selector| {
            let mut wanted: Vec<_> = selector.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
            wanted.sort_unstable();
            wanted
        });
        Ok((vec!["all".to_owned()], wanted))
    }

    fn classify(&mut self, plan: &Self::Plan, labels: &[Label]) -> Option<u32> {
        let carried = |(key, value): &(String, String)| labels.iter().any(|label| label.key == *key && label.value == *value);
        plan.as_ref()?.iter().all(carried).then_some(0)
    }
}

pointsman_sdk::export_selector!(LabelSelector);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use pointsman_sdk::native::{NativeSelector, connection, port};

    fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
        pairs.iter().map(|(key, value)| Label { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
    }

    fn group(selector: Option<&[(&str, &str)]>, pod: &[(&str, &str)]) -> Option<u32> {
        let mut policy = NativeSelector::<LabelSelector>::new(&[], 0).unwrap();
        let port = ServicePort { selector: selector.map(labels), ..port(3) };
        assert_eq!(policy.plan(&port).unwrap().groups, ["all"]);
        assert_eq!(policy.choose(&connection(3, 0)), None, "any group");
        policy.classify(3, &labels(pod))
    }

    #[test]
    fn every_pair_must_be_carried() {
        let selector: &[_] = &[("app", "web"), ("tier", "front")];
        assert_eq!(group(Some(selector), &[("app", "web"), ("extra", "1"), ("tier", "front")]), Some(0));
        assert_eq!(group(Some(selector), &[("app", "web")]), None);
        assert_eq!(group(Some(selector), &[("app", "web"), ("tier", "back")]), None);
        assert_eq!(group(Some(selector), &[]), None);
    }

    #[test]
    fn without_a_selector_no_pod_backs_the_service() {
        assert_eq!(group(None, &[("app", "web")]), None);
        assert_eq!(group(Some(&[]), &[("app", "web")]), Some(0), "an empty selector matches all pods");
    }

    #[test]
    fn a_service_that_was_not_planned_has_no_pods() {
        let mut policy = NativeSelector::<LabelSelector>::new(&[], 0).unwrap();
        assert_eq!(policy.classify(9, &labels(&[("app", "web")])), None);
    }

    #[test]
    fn the_plan_does_not_depend_on_the_order_of_labels() {
        let mut policy = NativeSelector::<LabelSelector>::new(&[], 0).unwrap();
        let one = ServicePort { selector: Some(labels(&[("a", "1"), ("b", "2")])), ..port(0) };
        let other = ServicePort { selector: Some(labels(&[("b", "2"), ("a", "1")])), ..port(0) };
        assert_eq!(policy.plan(&one).unwrap().data, policy.plan(&other).unwrap().data);
    }
}
