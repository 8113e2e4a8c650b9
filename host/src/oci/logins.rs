//! Who we are at a registry: what the command line says, else the `auths` of Docker's configuration file, which `docker login` writes, else
//! the program that is named there.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::error::Error;
use super::helper::Helper;
use crate::objects::reference::Reference;

/// Somebody, and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(Proof);

#[derive(Clone, PartialEq, Eq)]
enum Proof {
    Password { username: String, password: String },
    IdentityToken(String),
}

/// Where logins come from.
#[derive(Clone, Debug, Default)]
pub enum Logins {
    /// Nowhere: public artifacts alone.
    #[default]
    Nobody,
    /// This one, whatever the registry.
    Given(Login),
    /// Docker's configuration file, read for each push or pull, so that a new login counts.
    Docker(PathBuf),
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    #[default]
    Nobody,
    Login(Login),
    /// A program that may know it, to be asked where the registry wants to know who asks.
    Helper(Helper),
    /// It was asked, and this came of it.
    Unknown(String),
}

/// By which Docker's registry is asked.
pub(super) const DOCKER_HUB: &str = "registry-1.docker.io";
/// Bytes of a configuration file.
const MAX_FILE: u64 = 1 << 20;

impl Login {
    /// A user and a password, or a token in its place.
    ///
    /// # Errors
    /// A colon in the name, which Basic authentication (RFC 7617) cannot carry.
    pub fn new(username: &str, password: &str) -> Result<Self, String> {
        if username.is_empty() || username.contains(':') || username.chars().chain(password.chars()).any(char::is_control) {
            return Err("a user's name is not empty and has no colon, and neither it nor the password has control characters".to_owned());
        }
        Ok(Self(Proof::Password { username: username.to_owned(), password: password.to_owned() }))
    }

    /// What some registries leave with who has logged in, to have tokens for.
    pub(super) fn of_identity_token(token: &str) -> Self {
        Self(Proof::IdentityToken(token.to_owned()))
    }

    /// Where it is a user with a password.
    pub(super) fn username(&self) -> Option<&str> {
        match &self.0 {
            Proof::Password { username, .. } => Some(username),
            Proof::IdentityToken(_) => None,
        }
    }

    /// Where it is none.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.0 {
            Proof::Password { .. } => None,
            Proof::IdentityToken(token) => Some(token),
        }
    }

    /// As the header `Authorization` has it, of a user with a password.
    pub(super) fn basic(&self) -> Option<String> {
        match &self.0 {
            Proof::Password { username, password } => Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))),
            Proof::IdentityToken(_) => None,
        }
    }
}

/// Without what proves it.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.username().unwrap_or("an identity token"))
    }
}

impl Logins {
    /// Docker's file where Docker looks for it: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn of_environment() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(".docker")));
        folder.map_or(Self::Nobody, |folder| Self::Docker(folder.join("config.json")))
    }

    /// Who we are where this reference is.
    pub(super) fn find(&self, reference: &Reference) -> Result<Found, Error> {
        match self {
            Self::Nobody => Ok(Found::Nobody),
            Self::Given(login) => Ok(Found::Login(login.clone())),
            Self::Docker(path) => in_file(path, reference),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

fn in_file(path: &Path, reference: &Reference) -> Result<Found, Error> {
    let failed = |why: String| Error::File { path: path.display().to_string(), why };
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nobody),
        Err(error) => return Err(failed(error.to_string())),
    }
    // The text of a parser's error would not show what stands there, but where: there are passwords in this file.
    let config: DockerConfig = serde_json::from_str(&text).map_err(|error| {
        failed(format!("not a Docker configuration (line {}, column {}): mend it, or log in anew", error.line(), error.column()))
    })?;
    let registry = reference.registry();
    let helper =
        config.cred_helpers.iter().find(|(key, _)| place(key) == registry).map(|(_, helper)| helper).or(config.creds_store.as_ref());
    let helper = helper.filter(|helper| !helper.is_empty()).map(|name| Helper::new(name, registry));
    let name = format!("{}/{}", reference.registry(), reference.repository());
    // A key may name a path in the registry, as podman writes it: the longest that fits is meant.
    let fitting = config.auths.iter().filter(|(key, auth)| auth.says_something() && covers(place(key), &name));
    let Some((key, auth)) = fitting.max_by_key(|(key, _)| place(key).len()) else {
        return Ok(helper.map_or(Found::Nobody, Found::Helper));
    };
    let login = login(auth).ok_or_else(|| failed(format!("the entry {key:?} of auths is not base64 of USER:PASSWORD: log in anew")))?;
    Ok(Found::Login(login))
}

impl Auth {
    /// Docker leaves an empty entry where a program has the login.
    fn says_something(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken].into_iter().any(Option::is_some)
    }
}

/// Docker once wrote whole URLs: `https://registry.example/v1/`. It still does for its own registry, and by a name that nobody pulls from.
/// Podman's keys are paths, of which `/v2` may be a part as any other.
fn place(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let place = rest.trim_end_matches('/');
    let host = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2"));
    match host.filter(|host| place.len() < key.len() && !host.contains('/')).unwrap_or(place) {
        "index.docker.io" | "docker.io" => DOCKER_HUB,
        place => place,
    }
}

fn covers(place: &str, name: &str) -> bool {
    name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
}

fn login(auth: &Auth) -> Option<Login> {
    if let Some(token) = auth.identitytoken.as_deref().filter(|token| !token.is_empty()) {
        return Some(Login::of_identity_token(token));
    }
    match (&auth.username, &auth.password, &auth.auth) {
        (Some(username), Some(password), _) => Login::new(username, password).ok(),
        (.., Some(encoded)) => {
            let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (username, password) = text.split_once(':')?;
            // Docker pads passwords with zero bytes.
            Login::new(username, password.trim_end_matches('\0')).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn found(config: &str, reference: &str) -> Result<Found, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        Logins::Docker(file.path().to_owned()).find(&reference.parse().unwrap())
    }

    /// `dGVhbTpzM2NyZXQ=` is `team:s3cret`, `dToxOjI=` is `u:1:2`, `bm9jb2xvbg==` is `nocolon`.
    #[test]
    fn the_entry_that_fits_best_is_taken() {
        let config = r#"{"auths": {
            "registry.example": {"auth": "dGVhbTpzM2NyZXQ="},
            "https://old.example/v1/": {"auth": "dToxOjI="},
            "registry.example/special": {"username": "special", "password": "p"},
            "https://index.docker.io/v1/": {"auth": "dGVhbTpzM2NyZXQ="},
            "registry.example/team/v2": {"username": "podman", "password": "p"},
            "https://token.example": {"auth": "MDAwMDo=", "identitytoken": "refresh"},
            "empty.example": {},
            "localhost:5000": {"auth": "dToxOjI="}
        }}"#;
        let cases = [
            ("registry.example/team/p:1", Some(("team", "s3cret"))),
            ("registry.example/team/v2/p:1", Some(("podman", "p"))),
            ("registry.example/team/v2:1", Some(("podman", "p"))),
            ("registry.example/special/p:1", Some(("special", "p"))),
            ("registry.example/specials/p:1", Some(("team", "s3cret"))),
            ("old.example/p:1", Some(("u", "1:2"))),
            ("registry-1.docker.io/team/p:1", Some(("team", "s3cret"))),
            ("localhost:5000/p:1", Some(("u", "1:2"))),
            ("localhost:5001/p:1", None),
            ("registry.example.evil/p:1", None),
            ("empty.example/p:1", None),
        ];
        for (reference, wanted) in cases {
            let wanted = wanted.map(|(user, password)| Login::new(user, password).unwrap());
            assert_eq!(found(config, reference).unwrap(), wanted.map_or(Found::Nobody, Found::Login), "{reference}");
        }
        assert_eq!(found(config, "token.example/p:1").unwrap(), Found::Login(Login::of_identity_token("refresh")));
    }

    #[test]
    fn helpers_are_named_where_nothing_else_knows() {
        let config = r#"{"auths": {"a.example": {}, "c.example": {"auth": "dToxOjI="}}, "credsStore": "desktop",
            "credHelpers": {"b.example": "ecr-login", "https://index.docker.io/v1/": "hub"}}"#;
        let helper = |name: &str, registry: &str| Found::Helper(Helper::new(name, registry));
        assert_eq!(found(config, "a.example/p:1").unwrap(), helper("desktop", "a.example"));
        assert_eq!(found(config, "b.example/p:1").unwrap(), helper("ecr-login", "b.example"));
        assert_eq!(found(config, "registry-1.docker.io/team/p:1").unwrap(), helper("hub", DOCKER_HUB));
        assert_eq!(found(config, "c.example/p:1").unwrap(), Found::Login(Login::new("u", "1:2").unwrap()));
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let broken = found("{\"auths\": {\"a.example\": {\"auth\": 5secret}}}", "a.example/p:1").unwrap_err().to_string();
        assert!(broken.contains("line 1") && !broken.contains("secret"), "{broken}");
        let no_colon = found(r#"{"auths": {"a.example": {"auth": "bm9jb2xvbg=="}}}"#, "a.example/p:1").unwrap_err().to_string();
        assert!(no_colon.contains("a.example") && no_colon.contains("USER:PASSWORD"), "{no_colon}");
        let missing = Logins::Docker("/nonexistent/config.json".into()).find(&"a.example/p:1".parse().unwrap()).unwrap();
        assert_eq!(missing, Found::Nobody);
    }

    /// The example of RFC 7617, section 2.
    #[test]
    fn a_login_is_sent_as_the_rfc_says_and_never_shown() {
        let login = Login::new("Aladdin", "open sesame").unwrap();
        assert_eq!(login.basic().as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        let token = Login::of_identity_token("sesame");
        assert!(!format!("{login:?} {token:?}").contains("sesame"));
        assert!(Login::new("a:b", "").is_err());
    }
}
