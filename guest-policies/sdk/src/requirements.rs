//! Label selectors as Kubernetes writes them: `tier in (a, b), env notin (x), gpu, !legacy, app=web` (apimachinery's
//! `labels.Parse`, without `<` and `>`).

use serde::{Deserialize, Serialize};

use crate::types::Label;

mod parse;

/// What a pod's labels must meet: all of it. Nothing is met by every pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements(Vec<Requirement>);

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Requirement {
    key: String,
    /// `None`: whatever its value.
    values: Option<Vec<String>>,
    /// Or must not: then a pod without the label will do.
    negated: bool,
}

impl Requirements {
    /// Each of these labels with its value: a Service's `spec.selector`.
    pub fn equal(labels: &[Label]) -> Self {
        let equal = |label: &Label| Requirement { key: label.key.clone(), values: Some(vec![label.value.clone()]), negated: false };
        Self(labels.iter().map(equal).collect()).sorted()
    }

    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong, and where: `at character 9: found `a`, expected `(``.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::requirements(text).map(|requirements| Self(requirements).sorted())
    }

    /// These and the others.
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self.sorted()
    }

    /// Whether labels meet them all.
    pub fn met_by(&self, labels: &[Label]) -> bool {
        self.0.iter().all(|requirement| requirement.met_by(labels))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A plan must not depend on the order in which they were written.
    fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        self.0.dedup();
        self
    }
}

impl Requirement {
    fn met_by(&self, labels: &[Label]) -> bool {
        let carried = labels.iter().find(|label| label.key == self.key);
        let among = |label: &Label| self.values.as_ref().is_none_or(|values| values.contains(&label.value));
        carried.is_some_and(among) != self.negated
    }
}

#[cfg(test)]
mod tests;
