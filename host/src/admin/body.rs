//! Reading a request's body, with a limit on its size and on the time it takes.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, Request};

/// For a whole body.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Of a body that is too large, this much is read and thrown away, so that the client is still there to read why.
const DISCARD_BYTES: usize = 256 << 20;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than allowed.
    TooLarge,
    /// It did not arrive in time.
    TimedOut,
    /// The client went away, or the framing is broken.
    Broken,
}

/// The body, if it is at most `limit` bytes long. `Content-Length` may be missing, and is not trusted.
pub(super) async fn read(request: Request<Incoming>, limit: usize) -> Result<Vec<u8>, BodyError> {
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > limit as u64 && waits_for_leave(&head.headers) {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(READ_TIMEOUT, collect(body, limit)).await.unwrap_or(Err(BodyError::TimedOut))
}

/// The client asked before it sends the body (RFC 9110, 10.1.1): a final answer now spares it the trouble.
fn waits_for_leave(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut collected = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= limit {
            collected.extend_from_slice(&data);
        } else if length > DISCARD_BYTES {
            break;
        } else {
            collected = Vec::new();
        }
    }
    if length > limit { Err(BodyError::TooLarge) } else { Ok(collected) }
}
