//! The selector of Kubernetes: an equality map. A pod backs the Service when it carries every label of the map, whatever else
//! it carries. A Service without a selector has endpoints that are written by hand, and no pod backs it: absent is not empty.
//!
//! The setting `expression` asks more of a pod, in the words of Kubernetes' set-based selectors, which a Service's `spec.selector`
//! does not have: `tier in (a, b), env notin (x), gpu, !legacy`.

use pointsman_sdk::prelude::*;
use pointsman_sdk::requirements::Requirements;
use pointsman_sdk::settings::only;

/// The policy `label-selector`.
#[derive(Debug)]
pub struct LabelSelector;

impl Selector for LabelSelector {
    /// `None`: no pod.
    type Plan = Option<Requirements>;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Self::Plan), String> {
        only(&port.settings, &[EXPRESSION])?;
        let groups = vec!["all".to_owned()];
        let Some(text) = port.setting(EXPRESSION) else {
            return Ok((groups, port.selector.as_deref().map(Requirements::equal)));
        };
        let Some(selector) = &port.selector else {
            return Err(format!("{EXPRESSION} is asked of pods, and the Service has no selector; an empty one, `{{}}`, selects all pods"));
        };
        let expression = Requirements::parse(text).map_err(|why| format!("{EXPRESSION} is `{text}`; {why}"))?;
        Ok((groups, Some(Requirements::equal(selector).and(expression))))
    }

    fn classify(&mut self, plan: &Self::Plan, labels: &[Label]) -> Option<u32> {
        plan.as_ref()?.met_by(labels).then_some(0)
    }
}

const EXPRESSION: &str = "expression";

pointsman_sdk::export_selector!(LabelSelector);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use pointsman_sdk::native::{NativeSelector, connection, port, setting};

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

    fn with_expression(text: &str) -> ServicePort {
        ServicePort { settings: vec![setting("expression", text)], ..port(0) }
    }

    #[test]
    fn an_expression_is_asked_besides_the_selector() {
        let mut policy = NativeSelector::<LabelSelector>::new(&[], 0).unwrap();
        policy.plan(&with_expression("tier in (front, back), env notin (test), !legacy")).unwrap();
        for (pod, backs) in [
            (&[("app", "web"), ("tier", "front")][..], true),
            (&[("app", "web"), ("tier", "back"), ("env", "prod")], true),
            (&[("app", "db"), ("tier", "front")], false),
            (&[("app", "web"), ("tier", "middle")], false),
            (&[("app", "web")], false),
            (&[("app", "web"), ("tier", "front"), ("env", "test")], false),
            (&[("app", "web"), ("tier", "front"), ("legacy", "")], false),
        ] {
            assert_eq!(policy.classify(0, &labels(pod)), backs.then_some(0), "{pod:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut policy = NativeSelector::<LabelSelector>::new(&[], 0).unwrap();
        let refused = policy.plan(&with_expression("tier in a")).unwrap_err();
        assert_eq!(refused, "expression is `tier in a`; at character 9: found `a`, expected `(`");
        let by_hand = ServicePort { selector: None, ..with_expression("tier") };
        let refused = policy.plan(&by_hand).unwrap_err();
        assert_eq!(refused, "expression is asked of pods, and the Service has no selector; an empty one, `{}`, selects all pods");
        let misspelt = ServicePort { settings: vec![setting("expresion", "a")], ..port(0) };
        assert_eq!(policy.plan(&misspelt).unwrap_err(), "there is no setting `expresion`; there is expression");
    }
}
