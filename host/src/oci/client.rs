//! Push and pull (OCI distribution specification 1.1, "Push" and "Pull"). Whatever is received is hashed before it is used.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, StatusCode};

use super::artifact::{ACCEPTED, Artifact, MANIFEST_TYPE, component_of};
use super::cache::Cache;
use super::digest;
use super::error::Error;
use super::http::{Answer, MAX_WORDS, Request};
use super::logins::Logins;
use super::session::{Rights, SMALL_TIMEOUT, Session};
use crate::objects::reference::{Digest, Reference};

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Without TLS.
    pub plain_http: bool,
    /// Who we are.
    pub logins: Logins,
    /// The largest component that is taken, in bytes.
    pub max_component_bytes: u64,
    /// The same for those that bring a language runtime along.
    pub max_large_bytes: u64,
    /// References, as they were written, of such.
    pub large: BTreeSet<String>,
}

/// Pushes and pulls policies.
#[derive(Clone, Debug)]
pub struct Client {
    options: Options,
}

/// A policy that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The reference with the digest that was found under it.
    pub reference: Reference,
    /// The component.
    pub component: Bytes,
}

/// What a manifest may have: what the specification says that registries should take at least.
const MAX_MANIFEST: u64 = 4 << 20;
/// For one blob: 32 MiB at 1 Mbit/s.
const BLOB_TIMEOUT: Duration = Duration::from_secs(270);

impl Client {
    /// A client.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// What the cache has under a digest; nothing under a tag, which may have moved. Whoever puts it in force refuses what is too large for
    /// this name, with more words than that it is not there.
    pub fn cached(&self, reference: &Reference, cache: &Cache) -> Option<Pulled> {
        self.kept(reference, cache, self.options.max_large_bytes)
    }

    fn kept(&self, reference: &Reference, cache: &Cache, limit: u64) -> Option<Pulled> {
        let manifest = cache.read(reference.digest()?, MAX_MANIFEST)?;
        let layer = component_of(&manifest).ok()?;
        let component = cache.read(layer.digest, limit)?;
        Some(Pulled { reference: reference.clone(), component })
    }

    fn limit(&self, reference: &Reference) -> u64 {
        let Options { max_component_bytes, max_large_bytes, large, .. } = &self.options;
        if large.contains(&reference.to_string()) { *max_large_bytes } else { *max_component_bytes }
    }

    /// The policy of this name: from the cache where that has it, else from the registry. A tag is looked up there in any case.
    ///
    /// # Errors
    /// It is not to be had, or not what it should be.
    pub async fn pull(&self, reference: &Reference, cache: Option<&Cache>) -> Result<Pulled, Error> {
        let (asked, limit) = (reference, self.limit(reference));
        let from_cache = |reference: &Reference| self.kept(reference, cache?, limit);
        if let Some(pulled) = from_cache(reference) {
            return Ok(pulled);
        }
        let mut session = Session::open(&self.options, reference, Rights::Pull).await?;
        let mut reference = reference.clone();
        if let (None, Some(tag)) = (reference.digest(), reference.tag())
            && let Some(found) = look_up(&mut session, &reference, tag).await?
        {
            reference = reference.pinned(found);
            if let Some(pulled) = from_cache(&reference) {
                return Ok(pulled);
            }
        }
        let manifest = manifest(&mut session, &reference).await?;
        let reference = reference.pinned(digest(&manifest));
        let wrong = |why| Error::WrongArtifact { what: reference.to_string(), why };
        let layer = component_of(&manifest).map_err(wrong)?;
        let what = format!("component of {reference}");
        if layer.bytes > limit {
            let help = match layer.bytes <= self.options.max_large_bytes {
                true => format!("; if it brings a language runtime along, start the host with --large-policy {asked}"),
                false => String::new(),
            };
            return Err(Error::TooLarge { what: format!("the {what}"), bytes: layer.bytes, limit, help });
        }
        let url = session.url(&format!("blobs/{}", layer.digest));
        let answer = session.fetch(Request::new(Method::GET, url.clone(), layer.bytes, BLOB_TIMEOUT)).await?;
        if answer.status != StatusCode::OK {
            return Err(session.failed(&url, &what, &answer));
        }
        let component = intact(format!("the {what}"), layer.digest, answer.body)?;
        if let Some(cache) = cache {
            cache.write(&manifest);
            cache.write(&component);
        }
        Ok(Pulled { reference, component })
    }

    /// Puts an artifact under this name, and says by which digest it is there. A reference with a digest must have the artifact's.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn push(&self, reference: &Reference, artifact: &Artifact) -> Result<Digest, Error> {
        let made = artifact.digest();
        if reference.digest().is_some_and(|wanted| wanted != made) {
            return Err(Error::NamesAnother { reference: reference.to_string(), found: made });
        }
        let mut session = Session::open(&self.options, reference, Rights::Push).await?;
        for blob in [&artifact.component, &artifact.config] {
            upload(&mut session, reference, blob).await?;
        }
        let version = reference.tag().map_or_else(|| made.to_string(), str::to_owned);
        let url = session.url(&format!("manifests/{version}"));
        let mut put = Request::new(Method::PUT, url.clone(), MAX_WORDS, SMALL_TIMEOUT).header(CONTENT_TYPE, MANIFEST_TYPE)?;
        put.body = artifact.manifest.clone();
        let answer = session.ask(&put).await?;
        if answer.status != StatusCode::CREATED {
            return Err(session.failed(&url, reference.repository(), &answer));
        }
        match content_digest(&answer).filter(|found| *found != made) {
            Some(found) => Err(Error::Protocol { url, said: format!("that it has the digest {found} there, and {made} was pushed") }),
            None => Ok(made),
        }
    }
}

/// The digest that a tag stands for, if the registry says it without handing out the manifest; that is not counted as a pull.
async fn look_up(session: &mut Session<'_>, reference: &Reference, tag: &str) -> Result<Option<Digest>, Error> {
    let url = session.url(&format!("manifests/{tag}"));
    let answer = session.fetch(Request::new(Method::HEAD, url.clone(), 0, SMALL_TIMEOUT).header(ACCEPT, ACCEPTED)?).await?;
    match answer.status {
        StatusCode::OK => Ok(content_digest(&answer)),
        // Not every proxy in front of a registry knows HEAD.
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
        _ => Err(session.failed(&url, &shown(reference), &answer)),
    }
}

async fn manifest(session: &mut Session<'_>, reference: &Reference) -> Result<Bytes, Error> {
    let version = reference.digest().map(|digest| digest.to_string()).or_else(|| reference.tag().map(str::to_owned));
    let url = session.url(&format!("manifests/{}", version.unwrap_or_default()));
    let answer = session.fetch(Request::new(Method::GET, url.clone(), MAX_MANIFEST, SMALL_TIMEOUT).header(ACCEPT, ACCEPTED)?).await?;
    if answer.status != StatusCode::OK {
        return Err(session.failed(&url, &shown(reference), &answer));
    }
    match reference.digest().or_else(|| content_digest(&answer)) {
        Some(wanted) => intact(format!("the manifest of {reference}"), wanted, answer.body),
        None => Ok(answer.body),
    }
}

/// Uploads in one piece, unless it is there already.
async fn upload(session: &mut Session<'_>, reference: &Reference, blob: &Bytes) -> Result<(), Error> {
    let wanted = digest(blob).to_string();
    let there = session.ask(&Request::new(Method::HEAD, session.url(&format!("blobs/{wanted}")), 0, SMALL_TIMEOUT)).await?;
    if there.status == StatusCode::OK {
        return Ok(());
    }
    let url = session.url("blobs/uploads/");
    let begun = session.ask(&Request::new(Method::POST, url.clone(), MAX_WORDS, SMALL_TIMEOUT)).await?;
    if begun.status != StatusCode::ACCEPTED {
        return Err(session.failed(&url, reference.repository(), &begun));
    }
    let said = || Error::Protocol { url: url.clone(), said: "an upload without its Location".to_owned() };
    let url = session.follow(&url, begun.header("location").ok_or_else(said)?)?;
    let mut put = Request::new(Method::PUT, url.clone().with("digest", &wanted), MAX_WORDS, BLOB_TIMEOUT);
    put = put.header(CONTENT_TYPE, "application/octet-stream")?;
    put.body = blob.clone();
    let done = session.ask(&put).await?;
    if done.status == StatusCode::CREATED { Ok(()) } else { Err(session.failed(&url, reference.repository(), &done)) }
}

/// Without the registry, which the message names anyway.
fn shown(reference: &Reference) -> String {
    reference.to_string().trim_start_matches(reference.registry()).trim_start_matches('/').to_owned()
}

fn content_digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

fn intact(what: String, wanted: Digest, bytes: Bytes) -> Result<Bytes, Error> {
    let found = digest(&bytes);
    if found == wanted { Ok(bytes) } else { Err(Error::Altered { what, wanted, found }) }
}
