//! As much of URLs as registries use: `http` or `https`, a host, a port, a path with its query.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With the query; begins with a slash.
    pub(super) path: String,
}

impl Url {
    /// The root of a registry, `HOST[:PORT]`.
    pub(super) fn of_registry(registry: &str, tls: bool) -> Result<Self, String> {
        let scheme = if tls { "https" } else { "http" };
        Self::parse(&format!("{scheme}://{registry}/"))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Without what may be secret, as it is shown otherwise.
        let wrong = || format!("{:?} is not a URL", super::error::shown(text.split(['?', '#']).next().unwrap_or_default()));
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        // Whoever writes a user's name into a URL wants to be mistaken for another host.
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, path })
    }

    /// The same place, another path.
    pub(super) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// Where a `Location` leads from here, as far as [`Self::may_lead_to`] allows.
    pub(super) fn join(&self, location: &str, plain_http: bool) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(self.at(location));
        }
        let next = Self::parse(location)?;
        match self.may_lead_to(&next, plain_http) {
            true => Ok(next),
            false => Err(format!("that it goes on at {next}, without TLS, which is not followed")),
        }
    }

    /// Whether what is told here may be told there: TLS is never given up on the way, and a registry of this machine that has none does not
    /// lead out of this machine without it, unless `plain_http` was asked for.
    pub(super) fn may_lead_to(&self, next: &Self, plain_http: bool) -> bool {
        next.tls || !self.tls && (plain_http || next.is_loopback())
    }

    /// With one more parameter in the query.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(&parameter(name, value));
        self
    }

    /// Whether what is secret for one may be told to the other.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// As the Host header has it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether it can only be this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// As it stands in a query, and in a form.
pub(super) fn parameter(name: &str, value: &str) -> String {
    let mut text = format!("{name}=");
    for byte in value.bytes() {
        // RFC 3986, "unreserved", and what it allows in a query and registries write plainly.
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Without the query, which may carry signatures and tokens.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn locations_are_followed_but_never_out_of_tls() {
        let secure = Url::parse("https://r.example/v2/p/blobs/uploads/").unwrap();
        let plain = Url::parse("http://[::1]:5000/v2/").unwrap();
        let cases = [
            (&secure, "/v2/p/1?_state=x", Ok("https://r.example/v2/p/1?_state=x")),
            (&secure, "https://store.example:8443/x", Ok("https://store.example:8443/x")),
            (&plain, "/v2/p", Ok("http://[::1]:5000/v2/p")),
            (&plain, "http://[::1]:5000/v2/q", Ok("http://[::1]:5000/v2/q")),
            (&plain, "https://r.example/", Ok("https://r.example/")),
            (&plain, "http://r.example/x?secret", Err("at http://r.example/x, without TLS, which is not followed")),
            (&plain, "http://[::ffff:127.0.0.1]/x", Err("not followed")),
            (&secure, "http://r.example/x", Err("not followed")),
            (&secure, "http://[::1]:5000/x", Err("not followed")),
            (&secure, "ftp://r.example/x?secret", Err("\"ftp://r.example/x\" is not a URL")),
            (&secure, "//evil.example/x", Err("not a URL")),
            (&secure, "ftp://r.example/x", Err("not a URL")),
            (&secure, "uploads/x", Err("not a URL")),
            (&secure, "https://r.example@evil.example/", Err("not a URL")),
        ];
        for (from, location, to) in cases {
            match (from.join(location, false), to) {
                (Ok(url), Ok(wanted)) => {
                    let scheme = if url.tls { "https" } else { "http" };
                    assert_eq!(format!("{scheme}://{}{}", url.authority(), url.path), wanted);
                }
                (Err(said), Err(words)) => assert!(said.contains(words), "{location}: {said}"),
                (got, wanted) => panic!("{location}: {got:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn what_is_asked_for_without_tls_may_lead_anywhere() {
        let plain = Url::parse("http://r.example/v2/").unwrap();
        assert_eq!(plain.join("http://store.example/x", true), Url::parse("http://store.example/x"));
        assert!(Url::parse("https://r.example/").unwrap().join("http://store.example/x", true).is_err());
    }

    #[test]
    fn parameters_are_added_and_not_shown() {
        let url =
            Url::parse("https://auth.example/token?a=b").unwrap().with("scope", "repository:team/p:pull,push").with("service", "r & s");
        assert_eq!(url.path, "/token?a=b&scope=repository:team/p:pull,push&service=r%20%26%20s");
        assert_eq!(url.to_string(), "https://auth.example/token");
    }

    #[test]
    fn this_machine_is_known_by_name_and_by_address() {
        for (host, own) in
            [("localhost:5000", true), ("127.9.9.9", true), ("[::1]:1", true), ("localhost.example", false), ("10.0.0.1", false)]
        {
            assert_eq!(Url::of_registry(host, false).unwrap().is_loopback(), own, "{host}");
        }
    }

    #[test]
    fn origins_are_equal_with_and_without_their_usual_port() {
        let origin = |text: &str| Url::parse(text).unwrap();
        assert!(origin("https://r.example/a").same_origin(&origin("https://R.example:443/b")));
        assert!(!origin("https://r.example/a").same_origin(&origin("http://r.example:443/a")));
        assert!(!origin("https://r.example/a").same_origin(&origin("https://r.example:8443/a")));
    }
}
