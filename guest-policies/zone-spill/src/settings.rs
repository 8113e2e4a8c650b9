//! What may be set, of the host and of a Service.

use pointsman_sdk::prelude::*;

/// What is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    /// A percentage.
    pub(crate) overprovisioning: u32,
    /// Draw by the client's address, not by connection.
    pub(crate) by_client: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { overprovisioning: DEFAULT_OVERPROVISIONING, by_client: false }
    }
}

impl Settings {
    /// These, as far as `settings` do not say otherwise.
    pub(crate) fn with(self, settings: &[Setting]) -> Result<Self, String> {
        let mut new = self;
        for setting in settings {
            match setting.key.as_str() {
                OVERPROVISIONING => new.overprovisioning = percentage(&setting.value)?,
                SPILL_BY => new.by_client = by_client(&setting.value)?,
                _ => {}
            }
        }
        Ok(new)
    }
}

fn percentage(value: &str) -> Result<u32, String> {
    let number = value.strip_suffix('%').unwrap_or(value).trim_end().parse().ok();
    let number = number.filter(|number| (LEAST_OVERPROVISIONING..=MOST_OVERPROVISIONING).contains(number));
    number.ok_or_else(|| {
        format!(
            "{OVERPROVISIONING} is `{value}`; it must be a whole percentage from {LEAST_OVERPROVISIONING} to {MOST_OVERPROVISIONING}, \
             such as 140"
        )
    })
}

fn by_client(value: &str) -> Result<bool, String> {
    match value {
        "connection" => Ok(false),
        "client" => Ok(true),
        _ => Err(format!("{SPILL_BY} is `{value}`; it must be `connection` or `client`")),
    }
}

pub(crate) const OVERPROVISIONING: &str = "overprovisioning";
pub(crate) const SPILL_BY: &str = "spill-by";

/// Envoy's `overprovisioning_factor`.
const DEFAULT_OVERPROVISIONING: u32 = 140;
/// With less, a zone that is wholly ready would not keep its own.
const LEAST_OVERPROVISIONING: u32 = 100;
/// A tenth of the zone is then enough.
const MOST_OVERPROVISIONING: u32 = 1000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use pointsman_sdk::native::setting;

    #[test]
    fn a_service_overrides_the_host_key_by_key() {
        let host = Settings::default().with(&[setting("overprovisioning", "200"), setting("spill-by", "client")]).unwrap();
        assert_eq!(host, Settings { overprovisioning: 200, by_client: true });
        assert_eq!(host.with(&[setting("spill-by", "connection")]).unwrap(), Settings { overprovisioning: 200, by_client: false });
        assert_eq!(host.with(&[setting("overprovisioning", "100 %")]).unwrap(), Settings { overprovisioning: 100, by_client: true });
        assert_eq!(Settings::default().with(&[]).unwrap(), Settings { overprovisioning: 140, by_client: false });
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for value in ["", "99", "1001", "1.4", "-140", "many", "140 percent"] {
            let error = Settings::default().with(&[setting("overprovisioning", value)]).unwrap_err();
            assert_eq!(error, format!("overprovisioning is `{value}`; it must be a whole percentage from 100 to 1000, such as 140"));
        }
        let error = Settings::default().with(&[setting("spill-by", "Client")]).unwrap_err();
        assert_eq!(error, "spill-by is `Client`; it must be `connection` or `client`");
    }
}
