//! `grpc`: the gRPC health checking protocol (grpc/health/v1/health.proto) over HTTP/2 without TLS, as the kubelet asks. Its two messages
//! have a field each; they are written and read by hand.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::probe::schedule::Answer;

/// The answer has two bytes; anything near this is something else.
const MAX_BODY: usize = 4 * 1024;

/// What a head may take.
const MAX_HEAD: u32 = 16 * 1024;

/// `grpc-status` of a call that worked.
const OK: i32 = 0;
/// The server knows no service of that name.
const NOT_FOUND: i32 = 5;
/// The server knows no such method.
const UNIMPLEMENTED: i32 = 12;

/// What `grpc-status` or a message said.
type Said<T> = Result<T, String>;

pub(super) async fn ask(address: SocketAddr, service: &str, timeout: Duration) -> Answer {
    let asked = if service.is_empty() { String::new() } else { format!(" for service {service:?}") };
    let what = format!("grpc health check of {address}{asked}");
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::error(&what, &error),
    };
    match check(stream, address, service, timeout).await {
        Ok(SERVING) => Answer::success(format!("{what}: SERVING")),
        Ok(status) => Answer::failure(format!("{what}: {}", status_name(status))),
        Err(message) => Answer::failure(format!("{what}: {message}")),
    }
}

/// Calls `grpc.health.v1.Health/Check`.
async fn check(stream: TcpStream, address: SocketAddr, service: &str, timeout: Duration) -> Said<u64> {
    let request = request(address, service, timeout)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.max_header_list_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        answer(response).await
    });
    tokio::select! {
        biased;
        status = &mut exchange => status,
        _ = connection => exchange.await,
    }
}

fn request(address: SocketAddr, service: &str, timeout: Duration) -> Said<Request<Full<Bytes>>> {
    // At most eight digits (grpc.io, PROTOCOL-HTTP2): milliseconds reach for a day.
    let timeout = format!("{}m", timeout.as_millis().min(99_999_999));
    let request = Request::builder().method(Method::POST).uri(format!("http://{address}/grpc.health.v1.Health/Check"));
    let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let request = request.header(TE, HeaderValue::from_static("trailers")).header(USER_AGENT, super::USER_AGENT);
    request.header("grpc-timeout", timeout).body(Full::new(framed(&asking(service)))).map_err(|error| error.to_string())
}

async fn answer(response: Response<Incoming>) -> Said<u64> {
    let (head, mut body) = response.into_parts();
    if head.status != hyper::StatusCode::OK {
        return Err(format!("HTTP status {}: not a gRPC server", head.status));
    }
    // An answer without a message has its status in the head.
    if let Some(status) = grpc_status(&head.headers) {
        judged(status, &head.headers)?;
    }
    let (mut bytes, mut ended) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| error.to_string())?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => ended = frame.into_trailers().ok(),
        }
        if bytes.len() > MAX_BODY {
            return Err("its answer is too long to be one".to_owned());
        }
    }
    let trailers = ended.or_else(|| grpc_status(&head.headers).map(|_| head.headers));
    let trailers = trailers.ok_or("it broke off without a status")?;
    judged(grpc_status(&trailers).ok_or("it broke off without a status")?, &trailers)?;
    unframed(&bytes).and_then(status).ok_or_else(|| "its answer is no HealthCheckResponse".to_owned())
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn judged(status: i32, headers: &HeaderMap) -> Said<()> {
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    match status {
        OK => Ok(()),
        UNIMPLEMENTED => Err("it does not implement the gRPC health checking protocol (grpc.health.v1.Health)".to_owned()),
        NOT_FOUND => Err("it knows no such service".to_owned()),
        _ if message.is_empty() => Err(format!("grpc-status {status}")),
        _ => Err(format!("grpc-status {status}: {message}")),
    }
}

/// `HealthCheckRequest { string service = 1; }`.
fn asking(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 2);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    message
}

/// A message on the wire: not compressed, its length, itself.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.into()
}

/// The one message of an answer.
fn unframed(frame: &[u8]) -> Option<&[u8]> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    (head[0] == 0 && usize::try_from(length).ok()? == message.len()).then_some(message)
}

/// `HealthCheckResponse { ServingStatus status = 1; }`: the field's last value, 0 where it is left out.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const SERVING: u64 = 1;

fn status_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        SERVING => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("status {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes by the protobuf encoding guide and gRPC's "HTTP/2 transport": written down, not computed.
    #[test]
    fn messages_are_as_protobuf_and_grpc_say() {
        assert_eq!(framed(&asking("")), &[0, 0, 0, 0, 0][..]);
        assert_eq!(framed(&asking("db")), &[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b'][..]);
        let long = asking(&"x".repeat(300));
        assert_eq!(long[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 303);
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let read = |frame: &[u8]| unframed(frame).and_then(status);
        for (frame, expected) in [
            (&[0, 0, 0, 0, 2, 0x08, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 0x08, 2][..], Some(2)),
            (&[0, 0, 0, 0, 0][..], Some(0)),
            // Fields of other numbers and types are passed over; the last value counts.
            (&[0, 0, 0, 0, 9, 0x12, 1, 9, 0x08, 2, 0x18, 7, 0x08, 1][..], Some(1)),
            (&[0, 0, 0, 0, 7, 0x15, 1, 2, 3, 4, 0x08, 1][..], Some(1)),
            (&[0, 0, 0, 0, 11, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 1][..], Some(1)),
            // Compressed, cut off, longer than said, a group, a number without an end.
            (&[1, 0, 0, 0, 2, 0x08, 1][..], None),
            (&[0, 0, 0, 0, 2, 0x08][..], None),
            (&[0, 0, 0, 0, 1, 0x08, 1][..], None),
            (&[0, 0, 0, 0, 1, 0x0b][..], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 1][..], None),
            (&[0, 0, 0, 0, 2, 0x08, 0x81][..], None),
            (&[0, 0, 0, 0][..], None),
        ] {
            assert_eq!(read(frame), expected, "{frame:?}");
        }
    }
}
