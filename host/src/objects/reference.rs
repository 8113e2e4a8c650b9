//! A policy in a registry, by name: `HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]`. Repository, tag and digest are as the OCI distribution
//! specification 1.1 and the image specification 1.1 write them. The host must be named, and a version too: a default for either
//! (`docker.io`, `latest`) would fetch what nobody meant.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The name of one artifact in a registry. Prints as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A SHA-256 digest, `sha256:` and 64 hexadecimal digits: the one algorithm that every registry has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Repositories of a registry: all of them, or those below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories {
    registry: String,
    path: Option<String>,
}

/// What is wrong with a reference, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct ReferenceError {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Host, port and repository, in characters: what the specification says that registries and clients put up with.
const MAX_NAME: usize = 255;
/// The specification's limit for a tag.
const MAX_TAG: usize = 128;
/// Of a host's name (RFC 1035).
const MAX_LABEL: usize = 63;
const ALGORITHM: &str = "sha256:";

impl Reference {
    /// Whether a text means a reference rather than a policy's plain name, which cannot have a slash.
    pub fn is_meant(text: &str) -> bool {
        text.contains('/')
    }

    /// `HOST[:PORT]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest. Where there is one, it decides, and a tag beside it is a note for people.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same artifact, fixed to a digest.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") {
            return wrong(format!("{text:?} has a scheme"), format!("leave it out: {EXAMPLE}"));
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse()?)),
            None => (text, None),
        };
        let Some((registry, rest)) = named.split_once('/') else {
            return wrong(format!("{text:?} names no repository in a registry"), format!("write {EXAMPLE}"));
        };
        let (repository, tag) = rest.split_once(':').map_or((rest, None), |(repository, tag)| (repository, Some(tag)));
        let (registry, repository) = (check_registry(registry)?, check_repository(repository)?);
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return wrong(format!("{text:?} is too long"), format!("host and repository have at most {MAX_NAME} characters"));
        }
        let tag = tag.map(check_tag).transpose()?;
        if tag.is_none() && digest.is_none() {
            let remedy = format!("add a tag, {text}:1.0, or a digest, {text}@sha256:…");
            return wrong(format!("{text:?} names no version"), remedy);
        }
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl Digest {
    /// From the 32 bytes of a hash.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let Some(hex) = text.strip_prefix(ALGORITHM) else {
            return wrong(format!("{text:?} is not a digest that is known here"), format!("write {ALGORITHM} and 64 hexadecimal digits"));
        };
        let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if hex.len() != 64 || !hex.as_bytes().iter().all(lower) {
            return wrong(format!("{text:?} is not a whole digest"), format!("{ALGORITHM} is followed by 64 digits out of 0-9a-f"));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Repositories {
    /// Whether the reference's repository is among these.
    pub fn contain(&self, reference: &Reference) -> bool {
        let below = |path: &str| {
            // By whole parts: `team` is not the beginning of `teams/p`.
            reference.repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.registry == reference.registry && self.path.as_deref().is_none_or(below)
    }
}

impl FromStr for Repositories {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") || text.contains('@') {
            return wrong(format!("{text:?} is not a registry or a path in one"), REPOSITORIES.to_owned());
        }
        let (registry, path) = text.split_once('/').map_or((text, ""), |(registry, path)| (registry, path.trim_end_matches('/')));
        let registry = check_registry(registry)?;
        let path = if path.is_empty() { None } else { Some(check_repository(path)?) };
        Ok(Self { registry, path })
    }
}

impl fmt::Display for Repositories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}/{path}", self.registry),
            None => f.write_str(&self.registry),
        }
    }
}

/// A host name with a dot or a port, `localhost`, or an address; that of IPv6 in brackets. So `team/p:1.0` is not taken for a host `team`.
fn check_registry(text: &str) -> Result<String, ReferenceError> {
    let bracketed = text.strip_prefix('[').map(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) => (host, Some(port.strip_prefix(':').unwrap_or_default())),
        Some(None) => (text, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if bracketed.is_some() && host.parse::<Ipv6Addr>().is_err() || host.is_empty() || text.matches(':').count() > 1 && bracketed.is_none() {
        return wrong(format!("{text:?} is not a registry"), format!("begin with its host, {EXAMPLE}; an IPv6 address stands in brackets"));
    }
    if !port.is_none_or(is_port) {
        return wrong(format!("{text:?} is not a registry"), "the port is a number from 1 to 65535".to_owned());
    }
    if bracketed.is_some() {
        return Ok(text.to_owned());
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong(format!("{text:?} has capital letters"), format!("write {}", text.to_lowercase()));
    }
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !host.split('.').all(is_label) {
        return wrong(format!("{text:?} is not a registry"), format!("a reference begins with a host: {EXAMPLE}"));
    }
    if port.is_none() && host != "localhost" && !host.contains('.') {
        let remedy = format!("begin with its host: {EXAMPLE}; one without a dot needs its port");
        return wrong(format!("{text:?} does not look like a registry"), remedy);
    }
    Ok(text.to_owned())
}

/// Parts of lower-case letters and digits, divided within by `.`, `_`, `__` or dashes.
fn check_repository(text: &str) -> Result<String, ReferenceError> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong(format!("the repository {text:?} has capital letters"), format!("write {}", text.to_lowercase()));
    }
    if !text.split('/').all(is_part) {
        let remedy = "between slashes stand lower-case letters and digits, divided by one '.', one or two '_', or dashes".to_owned();
        return wrong(format!("{text:?} is not a repository's name"), remedy);
    }
    Ok(text.to_owned())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let divider = |divider: &str| matches!(divider, "." | "_" | "__") || (!divider.is_empty() && divider.bytes().all(|byte| byte == b'-'));
    let ends = |at: Option<u8>| at.is_some_and(word);
    let known = part.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'));
    let mut dividers = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|divider| !divider.is_empty());
    known && ends(part.bytes().next()) && ends(part.bytes().next_back()) && dividers.all(divider)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn check_tag(text: &str) -> Result<String, ReferenceError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.is_empty() || text.len() > MAX_TAG || !text.bytes().all(fits) || text.starts_with(['.', '-']) {
        let remedy = format!("1 to {MAX_TAG} letters, digits, '_', '.' and '-', and neither '.' nor '-' first");
        return wrong(format!("{text:?} is not a tag"), remedy);
    }
    Ok(text.to_owned())
}

fn wrong<T>(what: String, remedy: String) -> Result<T, ReferenceError> {
    Err(ReferenceError { what, remedy })
}

const EXAMPLE: &str = "registry.example/team/policy:1.0";
const REPOSITORIES: &str = "write registry.example or registry.example/team";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_print_as_they_were_written() {
        let digest = format!("registry.example/team/p@sha256:{HEX}");
        let both = format!("registry.example/team/p:1.0@sha256:{HEX}");
        let longest = format!("r.example/p:{}", "t".repeat(128));
        for text in [
            "registry.example/p:1",
            "registry.example:5000/team/sub/p:v1.2_rc-3",
            "localhost/p:_x",
            "localhost:5000/p:latest",
            "node1:5000/p:1",
            "127.0.0.1:5000/p:1",
            "[::1]:5000/p:1",
            "[fd00::1]/p:1",
            "r.example/a.b/c_d/e__f/g---h/0:1",
            &digest,
            &both,
            &longest,
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let parts = both.parse::<Reference>().unwrap();
        assert_eq!((parts.registry(), parts.repository(), parts.tag()), ("registry.example", "team/p", Some("1.0")));
        assert_eq!(parts.digest().unwrap().hex(), HEX);
    }

    #[test]
    fn what_is_wrong_with_a_reference_is_said_with_a_remedy() {
        let long = format!("r.example/{}:1", "p".repeat(250));
        let long_tag = format!("r.example/p:{}", "t".repeat(129));
        let upper = format!("r.example/p@sha256:{}", HEX.to_uppercase());
        let cases = [
            ("https://registry.example/p:1", "leave it out"),
            ("p:1", "names no repository"),
            ("team/p:1", "does not look like a registry"),
            ("registry.example/p", "names no version: add a tag, registry.example/p:1.0"),
            ("registry.example/Team/p:1", "capital letters: write team/p"),
            ("Registry.example/p:1", "capital letters: write registry.example"),
            ("registry.example/:1", "not a repository"),
            ("registry.example//p:1", "not a repository"),
            ("registry.example/p/:1", "not a repository"),
            ("registry.example/a..b:1", "not a repository"),
            ("registry.example/a___b:1", "not a repository"),
            ("registry.example/-a:1", "not a repository"),
            ("registry.example/a_:1", "not a repository"),
            ("registry.example/ä:1", "not a repository"),
            ("registry.example/a b:1", "not a repository"),
            ("registry.example/../p:1", "not a repository"),
            ("registry.example/p:", "not a tag"),
            ("registry.example/p:.1", "not a tag"),
            ("registry.example/p:a/b", "not a tag"),
            ("registry.example/p:1:2", "not a tag"),
            ("registry.example:0/p:1", "number from 1 to 65535"),
            ("registry.example:70000/p:1", "number from 1 to 65535"),
            ("registry.example:/p:1", "number from 1 to 65535"),
            ("registry.example:+80/p:1", "number from 1 to 65535"),
            ("registry..example/p:1", "not a registry"),
            ("-registry.example/p:1", "not a registry"),
            ("user@registry.example/p:1", "not a digest"),
            ("fd00::1/p:1", "in brackets"),
            ("[fd00::g]:5000/p:1", "in brackets"),
            ("[fd00::1]x/p:1", "number from 1 to 65535"),
            ("registry.example/p@sha512:00", "not a digest that is known"),
            ("registry.example/p@sha256:00", "not a whole digest"),
            (&upper, "not a whole digest"),
            (&long, "too long"),
            (&long_tag, "not a tag"),
        ];
        for (text, words) in cases {
            let said = text.parse::<Reference>().map(|reference| reference.to_string()).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn repositories_are_told_apart_by_whole_parts() {
        let cases = [
            ("r.example", "r.example/p:1", true),
            ("r.example/", "r.example/team/p:1", true),
            ("r.example/team", "r.example/team/p:1", true),
            ("r.example/team", "r.example/team:1", true),
            ("r.example/team", "r.example/teams/p:1", false),
            ("r.example/team/p", "r.example/team:1", false),
            ("r.example", "r.example:5000/p:1", false),
            ("r.example:5000", "r.example:5000/p:1", true),
            ("example", "r.example/p:1", false),
        ];
        for (repositories, reference, among) in cases {
            let Ok(repositories) = repositories.parse::<Repositories>() else {
                assert_eq!(repositories, "example", "a host without a dot needs a port");
                continue;
            };
            assert_eq!(repositories.contain(&reference.parse().unwrap()), among, "{repositories} {reference}");
        }
        for wrong in ["", "https://r.example", "r.example/Team", "r.example/p@sha256:00", "*"] {
            assert!(wrong.parse::<Repositories>().is_err(), "{wrong}");
        }
        assert_eq!("r.example/team/".parse::<Repositories>().unwrap().to_string(), "r.example/team");
    }
}
