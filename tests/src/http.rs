//! As much of HTTP/1.1 as the admin port and a demo backend need: one request, one answer, one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON (status {}): {}", self.status, self.body))
    }
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    request(address, "GET", path, &[])
}

/// `POST path` with a body.
pub fn post(address: SocketAddr, path: &str, body: &[u8]) -> Result<Answer> {
    request(address, "POST", path, body)
}

fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    // A server may refuse a long body by answering before it has read all of it: what it says is worth more than the error.
    let sent = stream.write_all(body);
    let mut answer = Vec::new();
    let received = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent.with_context(|| format!("sending {method} {path}"))?;
        received.with_context(|| format!("reading the answer to {method} {path}"))?;
    }
    parse(&answer).with_context(|| format!("{method} http://{address}{path}"))
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("the answer has no end of head: {text:?}") };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let Some(status) = status else { bail!("not an HTTP answer: {head:?}") };
    let chunked = lines.any(|line| line.to_ascii_lowercase().replace(' ', "") == "transfer-encoding:chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Ok(Answer { status, body })
}

fn unchunk(mut rest: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (size, tail) = rest.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        if size == 0 {
            return Ok(whole);
        }
        whole.push_str(tail.get(..size).context("a chunk is cut short")?);
        rest = tail.get(size + 2..).context("a chunk without its end")?;
    }
}

/// For each step of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_whole_or_in_chunks() -> Result<()> {
        let plain = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope")?;
        assert_eq!((plain.status, plain.body.as_str()), (404, "nope"));
        let chunked = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\ndefghijklm\r\n0\r\n\r\n")?;
        assert_eq!(chunked.body, "abcdefghijklm");
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
        Ok(())
    }
}
