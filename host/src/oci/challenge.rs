//! What a registry answers to a request that it wants somebody's name for: `WWW-Authenticate` (RFC 9110, 11.6.1), with the parameters of
//! Docker's token authentication.

use hyper::header::{HeaderMap, WWW_AUTHENTICATE};

/// How to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With user and password.
    Basic,
    /// With a token, which is given out there.
    Bearer {
        /// Where tokens are.
        realm: String,
        /// Who they are for.
        service: Option<String>,
        /// What they are to allow.
        scope: Option<String>,
    },
}

/// The challenge to take up: a token rather than a password.
///
/// # Errors
/// What was asked for instead.
pub(super) fn choose(headers: &HeaderMap) -> Result<Challenge, String> {
    let mut basic = false;
    let mut others = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let Ok(challenges) = http_auth::parse_challenges(&text) else {
            others.push(super::error::shown(&text));
            continue;
        };
        for challenge in challenges {
            let param = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            if challenge.scheme.eq_ignore_ascii_case("Basic") {
                basic = true;
            } else if let Some(realm) = param("realm").filter(|_| challenge.scheme.eq_ignore_ascii_case("Bearer")) {
                return Ok(Challenge::Bearer { realm, service: param("service"), scope: param("scope") });
            } else {
                others.push(super::error::shown(challenge.scheme));
            }
        }
    }
    match basic {
        true => Ok(Challenge::Basic),
        false if others.is_empty() => Err("it wants to know who we are, and does not say how".to_owned()),
        false => Err(format!("it wants to know who we are by {}, and we know Basic and Bearer with a realm", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn chosen(values: &[&str]) -> Result<Challenge, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        choose(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Challenge, String> {
        let owned = |text: &str| text.to_owned();
        Ok(Challenge::Bearer { realm: owned(realm), service: service.map(owned), scope: scope.map(owned) })
    }

    /// The first is the example of Docker's token specification.
    #[test]
    fn tokens_are_preferred_and_parameters_unquoted() {
        let docker =
            "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:samalba/my-app:pull,push\"";
        let wanted = bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:samalba/my-app:pull,push"));
        assert_eq!(chosen(&[docker]), wanted);
        assert_eq!(chosen(&["Basic realm=\"r\"", docker]), wanted);
        assert_eq!(chosen(&[&format!("Basic realm=\"r, s\", {docker}")]), wanted);
        assert_eq!(
            chosen(&["bearer REALM=\"https://r.example/\\\"t\\\"\", error=\"invalid_token\""]),
            bearer("https://r.example/\"t\"", None, None)
        );
        assert_eq!(chosen(&["Basic realm=\"basic-realm\""]), Ok(Challenge::Basic));
        assert_eq!(chosen(&["basic"]), Ok(Challenge::Basic));
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(chosen(&[]).unwrap_err().contains("does not say how"));
        assert!(chosen(&["Negotiate"]).unwrap_err().contains("by Negotiate"));
        assert!(chosen(&["Bearer service=\"r\""]).unwrap_err().contains("Bearer with a realm"));
        assert!(chosen(&["Bearer realm=\"unfinished"]).unwrap_err().contains("unfinished"));
    }
}
