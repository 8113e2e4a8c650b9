//! Pods labelled `audience=internal` serve clients inside the cluster alone; all others serve everybody.
//!
//! A pod backs the Service when it carries every label of the Service's selector, as in Kubernetes.

use pointsman_sdk::prelude::*;

/// The policy.
#[derive(Debug)]
pub struct Audience;

/// The groups that pods fall into.
const GROUPS: [&str; 2] = ["public", "internal"];
const PUBLIC: u32 = 0;
const INTERNAL: u32 = 1;

impl Selector for Audience {
    /// The labels that a pod must carry; `None`: the Service has no selector, and no pod backs it.
    type Plan = Option<Vec<(String, String)>>;

    fn configure(_place: Place, _node: &Node, _settings: &[Setting]) -> Result<Self, String> {
        Ok(Self)
    }

    fn plan(&mut self, port: &ServicePort) -> Result<(Vec<String>, Self::Plan), String> {
        let wanted = port.selector.as_ref().map(|labels| {
            let mut wanted: Vec<_> = labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
            wanted.sort_unstable();
            wanted
        });
        Ok((GROUPS.map(str::to_owned).to_vec(), wanted))
    }

    fn classify(&mut self, plan: &Self::Plan, labels: &[Label]) -> Option<u32> {
        let carries = |key: &str, value: &str| labels.iter().any(|label| label.key == key && label.value == value);
        if !plan.as_ref()?.iter().all(|(key, value)| carries(key, value)) {
            return None;
        }
        Some(if carries("audience", "internal") { INTERNAL } else { PUBLIC })
    }

    fn choose(&mut self, _plan: &mut Self::Plan, connection: &Connection) -> Option<u32> {
        // Any group, for clients inside.
        (connection.origin == Origin::Outside).then_some(PUBLIC)
    }
}

pointsman_sdk::export_selector!(Audience);

#[cfg(test)]
mod tests {
    use pointsman_sdk::native::{self, NativeSelector};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
        pairs.iter().map(|(key, value)| Label { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
    }

    #[test]
    fn pods_fall_into_their_group() {
        let mut policy = NativeSelector::<Audience>::new(&[], 7).unwrap();
        // Its selector is `app=web`.
        let port = native::port(0);
        assert_eq!(policy.plan(&port).unwrap().groups, GROUPS);
        assert_eq!(policy.classify(0, &labels(&[("app", "web")])), Some(PUBLIC));
        assert_eq!(policy.classify(0, &labels(&[("audience", "internal"), ("app", "web")])), Some(INTERNAL));
        assert_eq!(policy.classify(0, &labels(&[("audience", "internal")])), None);
    }

    #[test]
    fn clients_outside_see_public_pods_alone() {
        let mut policy = NativeSelector::<Audience>::new(&[], 7).unwrap();
        policy.plan(&native::port(0)).unwrap();
        for (origin, group) in [(Origin::Outside, Some(PUBLIC)), (Origin::Pod, None), (Origin::Node, None)] {
            assert_eq!(policy.choose(&Connection { origin, ..native::connection(0, 0) }), group);
        }
    }
}
