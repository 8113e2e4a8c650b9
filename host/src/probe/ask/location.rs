//! Where a redirect leads: RFC 3986 section 5.2, as far as http needs it.

use std::fmt;

use hyper::Uri;

/// An http URL, without what a server never sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// https.
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, as they are sent.
    pub(super) path: String,
}

impl Url {
    /// The URL that a `Location` means here, and whether it names a host.
    pub(super) fn join(&self, location: &str) -> Result<(Self, bool), String> {
        let location = without_fragment(location.trim());
        let wrong = || format!("redirected to what is no http URL: {location:?}");
        let absolute = if location.starts_with("//") { format!("{}:{location}", self.scheme()) } else { location.to_owned() };
        if absolute.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            let uri: Uri = encoded(&absolute).parse().map_err(|_| wrong())?;
            let tls = match uri.scheme_str() {
                Some("http") => false,
                Some("https") => true,
                _ => return Err(wrong()),
            };
            let host = uri.host().map(bare).filter(|host| !host.is_empty()).ok_or_else(wrong)?;
            let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return Ok((Self { tls, host, port, path: absolute_path(path) }, true));
        }
        let before = self.path.split('?').next().unwrap_or_default();
        let path = match location.chars().next() {
            None => self.path.clone(),
            Some('/') => location.to_owned(),
            Some('?') => format!("{before}{location}"),
            Some(_) => format!("{}/{location}", before.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Ok((Self { path: absolute_path(&without_dots(&path)), ..self.clone() }, false))
    }

    /// `HOST:PORT`; the port is always there, as in what the kubelet sends.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether both name the same machine; ports and schemes may differ.
    pub(super) fn same_host(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// `http://10.244.1.2:8080/readyz`.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

/// A path as it is sent: it begins with a slash, has no fragment, and what may not stand in a URL is encoded.
pub(super) fn absolute_path(path: &str) -> String {
    let path = encoded(without_fragment(path));
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> String {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !NOT_IN_URLS.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// RFC 3986 section 5.2.4: `.` and `..` are taken out of a path.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if matches!(path.rsplit('/').next(), Some("." | "..")) {
        kept.push("");
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", kept.join("/"))
}

/// Visible, and yet not allowed (RFC 3986 section 2).
const NOT_IN_URLS: &[u8] = b"\"<>\\^`{|}";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a wrong fixture must fail the test")]

    use super::*;

    #[test]
    fn a_location_is_resolved_as_rfc_3986_says() {
        let base = Url { tls: false, host: "10.0.0.5".to_owned(), port: 8080, path: "/b/c/d;p?q".to_owned() };
        // The relative ones are the examples of RFC 3986 section 5.4.
        for (location, expected, names_host) in [
            ("g", "http://10.0.0.5:8080/b/c/g", false),
            ("./g", "http://10.0.0.5:8080/b/c/g", false),
            ("g/", "http://10.0.0.5:8080/b/c/g/", false),
            ("/g", "http://10.0.0.5:8080/g", false),
            ("?y", "http://10.0.0.5:8080/b/c/d;p?y", false),
            ("g?y", "http://10.0.0.5:8080/b/c/g?y", false),
            ("g#s", "http://10.0.0.5:8080/b/c/g", false),
            ("", "http://10.0.0.5:8080/b/c/d;p?q", false),
            (".", "http://10.0.0.5:8080/b/c/", false),
            ("..", "http://10.0.0.5:8080/b/", false),
            ("../g", "http://10.0.0.5:8080/b/g", false),
            ("../../../g", "http://10.0.0.5:8080/g", false),
            ("g?y/../x", "http://10.0.0.5:8080/b/c/g?y/../x", false),
            ("/login?back=http://x/", "http://10.0.0.5:8080/login?back=http://x/", false),
            ("//g", "http://g:80/", true),
            ("https://10.0.0.5/x", "https://10.0.0.5:443/x", true),
            ("https://10.0.0.5:8443", "https://10.0.0.5:8443/", true),
            ("http://[::1]:9/x y", "http://[::1]:9/x%20y", true),
        ] {
            let (url, named) = base.join(location).unwrap();
            assert_eq!((url.to_string().as_str(), named), (expected, names_host), "{location}");
        }
        for wrong in ["ftp://10.0.0.5/x", "http://", "http://:80/"] {
            assert!(base.join(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_sent_so_that_it_can_be_read() {
        for (path, expected) in [
            ("", "/"),
            ("/readyz", "/readyz"),
            ("readyz", "/readyz"),
            ("/a b", "/a%20b"),
            ("/a?b=c#d", "/a?b=c"),
            ("/ü", "/%C3%BC"),
            ("/%20", "/%20"),
        ] {
            assert_eq!(absolute_path(path), expected, "{path}");
        }
    }
}
