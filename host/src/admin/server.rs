//! A small HTTP/1.1 server that a stranger cannot wear out: bounded connections, headers, ages, and an orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What the request under way is given, once its connection is to end.
pub const GRACE: Duration = Duration::from_secs(2);

/// Read buffer of a connection, and with it the size of a request's header.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// After an accept that failed for want of files or memory: time for others to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much a server lets strangers have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; one more is closed at once.
    pub connections: usize,
    /// For a request's header, from the moment it could come: an idle connection is closed by it, too.
    pub header: Duration,
    /// Age at which a connection is ended, between two requests if it can be.
    pub age: Duration,
}

/// For a request's header, where nothing asks for another time.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What every answer is.
pub type Answer = Response<Full<Bytes>>;

/// Serves until `shutdown` resolves; then requests under way are given [`GRACE`] to end. `service` is given the client's address.
pub async fn serve<S, F>(listener: TcpListener, limits: Limits, service: S, shutdown: impl Future<Output = ()>)
where
    S: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(limits.connections));
    let (ending, _) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let Ok(permit) = Arc::clone(&free).try_acquire_owned() else { continue };
                    let (service, ending) = (service.clone(), ending.subscribe());
                    connections.spawn(async move {
                        converse(stream, client, limits, service, ending).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the HTTP port could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    drop(ending);
    while connections.join_next().await.is_some() {}
}

/// One connection, to its end: the client's, its age's, or the server's (`ending` closes).
async fn converse<S, F>(stream: TcpStream, client: SocketAddr, limits: Limits, service: S, mut ending: watch::Receiver<()>)
where
    S: Fn(SocketAddr, Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(move |request| {
        let answer = service(client, request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Errors are the client's: garbage, a reset, a header that never ended. There is nothing to do and nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.changed() => {}
        () = tokio::time::sleep(limits.age) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}
