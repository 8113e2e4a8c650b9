//! `pointsman policy swap|rollback|list`: what an operator tells a running engine, through its admin port.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::args::{AdminArgs, RollbackArgs, SwapArgs};
use super::early::Early;
use super::out;
use crate::admin::{self, MAX_COMPONENT_BYTES, PolicyList, PolicyStatus, Swapped};
use crate::workbench::bounded;

/// For a connection to an engine on this machine or near it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For an answer: longer than the engine takes to give up on a swap.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// Bytes of an answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Puts a component in force under a name.
///
/// # Errors
/// The file cannot be read, the engine cannot be reached, or it refuses.
pub(super) async fn swap(args: SwapArgs) -> anyhow::Result<()> {
    let component = component(&args.file)?;
    let swapped: Swapped = ask(&args.engine, Method::POST, &path(&args.name, "swap")?, component).await?;
    say(&outcome(&swapped))
}

/// Puts the version before in force again.
///
/// # Errors
/// The engine cannot be reached, or it refuses.
pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let swapped: Swapped = ask(&args.engine, Method::POST, &path(&args.name, "rollback")?, vec![]).await?;
    say(&outcome(&swapped))
}

/// Lists the engine's policies.
///
/// # Errors
/// The engine cannot be reached.
pub(super) async fn list(args: AdminArgs) -> anyhow::Result<()> {
    let list: PolicyList = ask(&args, Method::GET, "/policies", vec![]).await?;
    say(&table(&list.policies))
}

/// A component's bytes, as far as any host takes them.
pub(super) fn component(file: &Path) -> anyhow::Result<Vec<u8>> {
    let component = bounded::bytes(file, MAX_COMPONENT_BYTES, "no host takes that; strip it with `wasm-tools strip`")?;
    if component.is_empty() {
        bail!("{} is empty", file.display());
    }
    Ok(component)
}

fn path(name: &str, verb: &str) -> anyhow::Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(fits) {
        bail!("{name:?} is not a policy's name: letters, digits and '-'");
    }
    Ok(format!("/policies/{name}/{verb}"))
}

/// An error as the admin port writes it.
#[derive(Deserialize)]
struct Failure {
    error: String,
    remedy: Option<String>,
}

pub(super) async fn ask<T: DeserializeOwned>(engine: &AdminArgs, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<T> {
    let address = engine.admin;
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    if let Some(file) = &engine.token_file {
        let mut credentials = HeaderValue::try_from(format!("Bearer {}", admin::read_token(file)?))?;
        credentials.set_sensitive(true);
        request = request.header(AUTHORIZATION, credentials);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let exchange = tokio::time::timeout(ANSWER_TIMEOUT, exchange(address, request));
    let (status, answer) = exchange.await.map_err(|_| anyhow!("{address} has not answered within {} s", ANSWER_TIMEOUT.as_secs()))??;
    if status == StatusCode::OK {
        return serde_json::from_slice(&answer).with_context(|| format!("{address} answers, but not like an admin port of this version"));
    }
    Err(match serde_json::from_slice(&answer) {
        Ok(Failure { error, remedy: Some(remedy) }) => anyhow!("{error}\n  help: {remedy}"),
        Ok(Failure { error, remedy: None }) => anyhow!("{error}"),
        Err(_) => anyhow!("{address} answers {status}, but not like an admin port: is that `pointsman run`?"),
    })
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            bail!("nobody listens on {address}: is `pointsman run` up? Its log says where its admin port is; give it with --admin")
        }
        Ok(Err(error)) => return Err(error).with_context(|| format!("connecting to {address}")),
        Err(_) => bail!("{address} has not answered within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let spoken = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(Early(stream))).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| anyhow!(error))?;
        connection.abort();
        anyhow::Ok((status, body.to_bytes()))
    };
    spoken.await.with_context(|| format!("talking to {address}: is that the admin port of `pointsman run`?"))
}

/// A line, or lines, for people and scripts.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    out::print(&format!("{text}\n"))
}

fn outcome(swapped: &Swapped) -> String {
    let Swapped { name, stage, digest, previous, changed } = swapped;
    let digest = short(digest);
    match previous {
        _ if !changed => format!("{stage} \"{name}\": {digest} is in force already"),
        Some(previous) => format!(
            "{stage} \"{name}\": {digest} is in force, {} before; `pointsman policy rollback {name}` brings that back",
            short(previous)
        ),
        None => format!("{stage} \"{name}\": {digest} is in force; Services use it by the annotation pointsman.dev/{stage}: {name}"),
    }
}

/// Enough of a digest to tell versions apart.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..DIGEST_SHOWN).unwrap_or(digest)
}

/// `sha256:` and 12 characters.
const DIGEST_SHOWN: usize = 19;

fn table(policies: &[PolicyStatus]) -> String {
    let header = ["STAGE", "NAME", "DIGEST", "PREVIOUS", "BREAKER", "FROM"].map(str::to_owned);
    let rows = policies.iter().map(|policy| {
        [
            policy.stage.clone(),
            policy.name.clone(),
            short(&policy.digest).to_owned(),
            policy.previous.as_deref().map_or("-", short).to_owned(),
            policy.breaker.clone().unwrap_or_else(|| "-".to_owned()),
            if policy.builtin { "built-in" } else { "component" }.to_owned(),
        ]
    });
    columns(std::iter::once(header).chain(rows).collect())
}

/// Rows of cells, as lines of columns.
pub(super) fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
