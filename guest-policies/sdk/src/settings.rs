//! Reading what a Service's annotations say to a policy.

use crate::types::Setting;

/// Refuses settings that the policy does not have: what is misspelt would otherwise be passed over in silence.
///
/// # Errors
/// A sentence that names the setting and those that there are.
pub fn only(settings: &[Setting], known: &[&str]) -> Result<(), String> {
    match settings.iter().find(|setting| !known.contains(&setting.key.as_str())) {
        Some(unknown) if known.is_empty() => Err(format!("there is no setting `{}`; this policy has none", unknown.key)),
        Some(unknown) => Err(format!("there is no setting `{}`; there is {}", unknown.key, known.join(", "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::setting;

    #[test]
    fn an_unknown_setting_is_named_with_those_that_exist() {
        let settings = [setting("size", "1"), setting("siez", "2")];
        assert_eq!(only(&settings, &["size", "siez"]), Ok(()));
        assert_eq!(only(&settings, &["size", "share"]), Err("there is no setting `siez`; there is size, share".to_owned()));
        assert_eq!(only(&settings, &[]), Err("there is no setting `size`; this policy has none".to_owned()));
    }
}
