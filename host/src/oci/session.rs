//! Requests to one repository of one registry: asked again with a name or a token where the registry wants one (Docker Registry v2
//! authentication, "token" and Basic), and answers that are no good turned into what they mean.

use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::client::Options;
use super::error::{Error, shown};
use super::http::{self, Answer, Request};
use super::logins::{Found, Login};
use super::url::{Url, parameter};
use crate::objects::reference::Reference;

/// What the requests are to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// To read.
    Pull,
    /// To read and write.
    Push,
}

/// A registry, as one reference's repository sees it.
pub(super) struct Session<'a> {
    reference: &'a Reference,
    rights: Rights,
    base: Url,
    plain_http: bool,
    found: Found,
    authorization: Option<HeaderValue>,
}

/// For everything but blobs.
pub(super) const SMALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a token with what stands around it.
const MAX_TOKEN: u64 = 256 << 10;
/// Redirects of one download; registries send to a store in one or two.
const MAX_REDIRECTS: usize = 5;

impl<'a> Session<'a> {
    /// Finds out how the registry is spoken to. TLS, but for two exceptions: where the caller says so, and on this machine, if whoever
    /// listens there does not know TLS.
    pub(super) async fn open(options: &Options, reference: &'a Reference, rights: Rights) -> Result<Self, Error> {
        let registry = reference.registry();
        let base = |tls| Url::of_registry(registry, tls).map_err(|why| Error::Unreachable { registry: registry.to_owned(), why });
        let mut url = base(!options.plain_http)?;
        if url.tls && url.is_loopback() && !http::speaks_tls(&url).await? {
            url = base(false)?;
        }
        let found = options.logins.find(reference)?;
        Ok(Self { reference, rights, base: url, plain_http: options.plain_http, found, authorization: None })
    }

    /// `/v2/REPOSITORY/…`
    pub(super) fn url(&self, rest: &str) -> Url {
        self.base.at(&format!("/v2/{}/{rest}", self.reference.repository()))
    }

    /// Asks the registry; once more if it wants to know who asks.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        let answer = self.send(request).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !self.base.same_origin(&request.url) {
            return Ok(answer);
        }
        let before = self.authorization.take();
        let challenge = challenge::choose(&answer.headers).map_err(|why| self.denied(why))?;
        if let Found::Helper(helper) = &self.found {
            self.found = helper.ask().await.map_or_else(Found::Unknown, Found::Login);
        }
        let authorization = match challenge {
            Challenge::Basic => self.basic(&answer)?,
            Challenge::Bearer { realm, service, scope } => format!("Bearer {}", self.token(&realm, service, scope).await?),
        };
        let mut authorization = HeaderValue::try_from(authorization).map_err(|_| self.denied("its token cannot be sent".to_owned()))?;
        authorization.set_sensitive(true);
        if before.is_some_and(|before| before == authorization) {
            return Err(self.not_accepted(&answer));
        }
        self.authorization = Some(authorization);
        let answer = self.send(request).await?;
        if answer.status == StatusCode::UNAUTHORIZED { Err(self.not_accepted(&answer)) } else { Ok(answer) }
    }

    /// Asks, and goes where the registry sends: blobs are often kept elsewhere. Who we are is told to the registry alone.
    pub(super) async fn fetch(&mut self, mut request: Request) -> Result<Answer, Error> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.ask(&request).await?;
            let Some(location) = answer.header("location").filter(|_| FOLLOWED.contains(&answer.status)) else { return Ok(answer) };
            request.url = self.follow(&request.url, location)?;
        }
        Err(Error::Protocol { url: request.url, said: format!("with more than {MAX_REDIRECTS} redirects") })
    }

    /// Where a `Location` leads from there.
    pub(super) fn follow(&self, from: &Url, location: &str) -> Result<Url, Error> {
        from.join(location, self.plain_http).map_err(|said| Error::Protocol { url: from.clone(), said })
    }

    async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let mut request = request.clone();
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.base.same_origin(&request.url)) {
            request.headers.push((AUTHORIZATION, authorization.clone()));
        }
        http::send(request).await
    }

    fn login(&self) -> Option<&Login> {
        if let Found::Login(login) = &self.found { Some(login) } else { None }
    }

    fn basic(&self, answer: &Answer) -> Result<String, Error> {
        let login = self.login().ok_or_else(|| self.not_accepted(answer))?;
        let password = "it wants a password, and the login is an identity token: give --username and --password-file";
        login.basic().ok_or_else(|| self.denied(password.to_owned()))
    }

    /// A token from where the registry says that there are some.
    async fn token(&self, realm: &str, service: Option<String>, scope: Option<String>) -> Result<String, Error> {
        let realm = Url::parse(realm).map_err(|why| self.denied(format!("of the place where tokens are, {why}")))?;
        // The password goes there.
        if !self.base.may_lead_to(&realm, self.plain_http) {
            return Err(self.denied(format!("it gives out tokens at {realm}, without TLS")));
        }
        let scope = match (self.rights, scope) {
            (Rights::Pull, Some(scope)) => scope,
            // The first question is whether a blob is there, and asks for less than the next.
            (Rights::Pull, None) => format!("repository:{}:pull", self.reference.repository()),
            (Rights::Push, _) => format!("repository:{}:pull,push", self.reference.repository()),
        };
        let identity_token = self.login().and_then(Login::identity_token);
        let request = match identity_token {
            Some(token) => refresh(&realm, service.as_deref(), &scope, token)?,
            None => {
                let url = service.iter().fold(realm.clone(), |url, service| url.with("service", service)).with("scope", &scope);
                let request = Request::new(Method::GET, url, MAX_TOKEN, SMALL_TIMEOUT);
                match self.login().and_then(Login::basic) {
                    Some(basic) => request.header(AUTHORIZATION, &basic)?,
                    None => request,
                }
            }
        };
        let answer = http::send(request.header(ACCEPT, "application/json")?).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.not_accepted(&answer)),
            // As RFC 6749, section 5.2, has it.
            StatusCode::BAD_REQUEST if identity_token.is_some() => return Err(self.not_accepted(&answer)),
            _ => return Err(Error::Protocol { url: realm, said: words(&answer) }),
        }
        let token: Option<Token> = serde_json::from_slice(&answer.body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token)).filter(|token| !token.is_empty());
        token.ok_or_else(|| Error::Protocol { url: realm, said: "without a token".to_owned() })
    }

    /// What an answer means that is none of those that the protocol knows as success.
    pub(super) fn failed(&self, url: &Url, what: &str, answer: &Answer) -> Error {
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.not_accepted(answer),
            StatusCode::NOT_FOUND => Error::Absent { registry: self.base.authority(), what: what.to_owned() },
            _ => Error::Protocol { url: url.clone(), said: words(answer) },
        }
    }

    fn not_accepted(&self, answer: &Answer) -> Error {
        let said = words(answer);
        let registry = self.reference.registry();
        let log_in = format!("log in by `docker login {registry}`, or give --username and --password-file");
        self.denied(match &self.found {
            Found::Login(login) => match login.username() {
                Some(username) => format!("{said}; we are {username:?} there: has that user the right, and is the password good?"),
                None => format!("{said}; we have an identity token from a login: has that user the right, and has it run out? {log_in}"),
            },
            Found::Unknown(why) => format!("{said}; {why}; {log_in}"),
            Found::Nobody | Found::Helper(_) => format!("{said}; {log_in}"),
        })
    }

    fn denied(&self, why: String) -> Error {
        let what = if self.rights == Rights::Push { "push to" } else { "pull" };
        Error::Denied { registry: self.base.authority(), what: format!("{what} {}", self.reference.repository()), why }
    }
}

/// Asks for a token by an identity token, as OAuth 2 does by a refresh token (distribution's "OAuth2 Token Authentication").
fn refresh(realm: &Url, service: Option<&str>, scope: &str, token: &str) -> Result<Request, Error> {
    let service = service.unwrap_or(&realm.host);
    let fields =
        [("grant_type", "refresh_token"), ("service", service), ("client_id", "pointsman"), ("scope", scope), ("refresh_token", token)];
    let mut request = Request::new(Method::POST, realm.clone(), MAX_TOKEN, SMALL_TIMEOUT);
    request.body = fields.map(|(name, value)| parameter(name, value)).join("&").into();
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
}

/// The redirects that keep a GET a GET.
const FOLLOWED: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Errors as the specification has them ("Error Codes").
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

/// The status, and the registry's words for it.
fn words(answer: &Answer) -> String {
    let errors = serde_json::from_slice::<Errors>(&answer.body).map(|errors| errors.errors).unwrap_or_default();
    let said: Vec<String> = errors.iter().map(|said| format!("{} {}", said.code, said.message).trim().to_owned()).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {}", shown(&said.join("; "))) };
    format!("{}{said}", answer.status)
}
