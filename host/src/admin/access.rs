//! Who may do what on the admin port: everyone may look, changes need the token if there is one, and a browser may neither change anything
//! nor be talked into looking.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Characters that a token has at least: 64 random bits in base64 have 11, 96 in hexadecimal have 24.
const MIN_TOKEN_CHARACTERS: usize = 16;

/// A token's file is not read further than this.
const MAX_TOKEN_FILE_BYTES: u64 = 4 << 10;

/// The secret that changes need. Kept as a digest, so that comparing takes the same time whatever a stranger sends, its length included.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A file that holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What is in it is no token.
    #[error(
        "{} holds no token: it must be one line of at least {MIN_TOKEN_CHARACTERS} printable characters without spaces; \
         `head -c 32 /dev/urandom | base64` makes one",
        path.display()
    )]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// The token in a file: one line.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        Ok(Self::new(&read_token(path)?))
    }

    /// A token.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    fn admits(&self, secret: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(secret).into();
        self.0.ct_eq(&offered).into()
    }
}

/// The text of a token file, for a client that sends it.
pub(crate) fn read_token(path: &Path) -> Result<String, TokenError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| TokenError::Unreadable { path: path.to_owned(), error })?;
    let token = text.trim();
    if token.len() < MIN_TOKEN_CHARACTERS || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NoToken { path: path.to_owned() });
    }
    Ok(token.to_owned())
}

/// The admin port would let strangers change policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--admin {0} can be reached from other machines, and whoever reaches it could swap policies: give --admin-token-file FILE, or listen on 127.0.0.1"
)]
pub struct ExposureError(pub SocketAddr);

/// Before binding: an address that other machines can reach needs a token.
pub fn check_exposure(address: SocketAddr, token: Option<&Token>) -> Result<(), ExposureError> {
    if address.ip().to_canonical().is_loopback() || token.is_some() { Ok(()) } else { Err(ExposureError(address)) }
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// A web page made it.
    Browser,
    /// It came to a loopback address under a name that is not the machine's own.
    ForeignHost,
    /// The token is missing.
    NoToken,
    /// The token is another one.
    WrongToken,
}

/// A web page that lets its own name resolve to 127.0.0.1 ("DNS rebinding") could read what it likes; its name gives it away.
pub(super) fn check_host(headers: &HeaderMap, loopback: bool) -> Result<(), Denied> {
    let Some(host) = headers.get(HOST).filter(|_| loopback) else { return Ok(()) };
    let own = host.to_str().is_ok_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    });
    if own { Ok(()) } else { Err(Denied::ForeignHost) }
}

/// Whether a request may change something.
pub(super) fn check_change(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Denied> {
    // Browsers send one of these with every POST of a page; programs don't.
    if headers.contains_key(ORIGIN) || headers.contains_key(HeaderName::from_static("sec-fetch-site")) {
        return Err(Denied::Browser);
    }
    let Some(token) = token else { return Ok(()) };
    let secret = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).ok_or(Denied::NoToken)?;
    if token.admits(secret) { Ok(()) } else { Err(Denied::WrongToken) }
}

/// The credentials of `Bearer …`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| secret.trim_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::header::HeaderValue;

    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_loopback_goes_without_a_token() {
        let token = Token::new("0123456789abcdef");
        for (address, alone) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(check_exposure(address, None).is_ok(), alone, "{address}");
            assert!(check_exposure(address, Some(&token)).is_ok());
        }
    }

    #[test]
    fn a_name_on_loopback_is_a_web_page_in_disguise() {
        for (host, own) in [
            ("127.0.0.1:8797", true),
            ("127.0.0.1", true),
            ("[::1]:8797", true),
            ("[::1]", true),
            ("::1", true),
            ("localhost", true),
            ("LocalHost:8797", true),
            ("evil.example:8797", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(check_host(&headers, true).is_ok(), own, "{host}");
            assert!(check_host(&headers, false).is_ok());
        }
        assert!(check_host(&HeaderMap::new(), true).is_ok(), "HTTP/1.0 has no Host, and no browser speaks it");
    }

    #[test]
    fn changes_need_the_token_and_no_browser() {
        let token = Token::new("correct-horse-battery");
        let check = |of: &[(&'static str, &str)]| check_change(&headers(of), Some(&token));
        assert_eq!(check(&[]), Err(Denied::NoToken));
        assert_eq!(check(&[("authorization", "Basic abc")]), Err(Denied::NoToken));
        assert_eq!(check(&[("authorization", "Bearer correct-horse-batterx")]), Err(Denied::WrongToken));
        assert_eq!(check(&[("authorization", "Bearer ")]), Err(Denied::WrongToken));
        assert_eq!(check(&[("authorization", "bearer correct-horse-battery")]), Ok(()));
        assert_eq!(check(&[("authorization", "Bearer correct-horse-battery"), ("origin", "null")]), Err(Denied::Browser));
        assert_eq!(check_change(&headers(&[("sec-fetch-site", "cross-site")]), None), Err(Denied::Browser));
        assert_eq!(check_change(&HeaderMap::new(), None), Ok(()));
    }

    #[test]
    fn a_token_file_is_one_long_enough_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, good) in [("0123456789abcdef\n", true), ("short\n", false), ("0123456789 abcdef", false), ("", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Token::from_file(&path).is_ok(), good, "{text:?}");
        }
        assert!(matches!(Token::from_file(&folder.path().join("none")), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new("0123456789abcdef")), "Token(…)");
    }
}
