//! Accepting: one task a listening socket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::policies::Policies;
use super::sockets::BACKLOG;
use super::tcp;
use super::worker::Worker;
use crate::table::FrontendKey;

/// Connections that one listener accepts before others get their turn.
const BATCH: u32 = 16;

/// How long a listener pauses when the machine has no descriptor or memory left; doubled up to the maximum while it lasts.
const MIN_BACK_OFF: Duration = Duration::from_millis(10);
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// A socket that is accepted on.
pub(super) struct Listening {
    key: FrontendKey,
    /// Shared with the task; empty once it is closed.
    socket: Rc<RefCell<Option<TcpListener>>>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Begins to accept.
    pub(super) fn open<P: Policies>(worker: &Rc<Worker<P>>, key: FrontendKey, socket: std::net::TcpListener) -> io::Result<Self> {
        let socket = Rc::new(RefCell::new(Some(TcpListener::from_std(socket)?)));
        let task = tokio::task::spawn_local(accept(Rc::clone(worker), key, Rc::clone(&socket)));
        Ok(Self { key, socket, task })
    }

    /// Serves what is queued, then closes, all before returning: the kernel would reset what is left in the queue.
    pub(super) fn close<P: Policies>(self, worker: &Rc<Worker<P>>) {
        self.task.abort();
        let Some(socket) = self.socket.borrow_mut().take() else { return };
        // A client that floods the queue meanwhile is not waited for.
        for _ in 0..BACKLOG {
            let Ok((queued, from)) = SockRef::from(&socket).accept() else { return };
            let stream = queued.set_nonblocking(true).and_then(|()| TcpStream::from_std(queued.into()));
            match (stream, from.as_socket()) {
                (Ok(stream), Some(client)) => tcp::begin(worker, self.key, stream, client),
                _ => worker.counters.accept_failed("local"),
            }
        }
    }
}

async fn accept<P: Policies>(worker: Rc<Worker<P>>, key: FrontendKey, socket: Rc<RefCell<Option<TcpListener>>>) {
    let mut back_off = MIN_BACK_OFF;
    let mut batch = 0;
    loop {
        make_room(&worker).await;
        let Some(accepted) = next(&worker, &socket).await else { return };
        match accepted {
            Ok(None) => continue,
            Ok(Some((stream, client))) => {
                back_off = MIN_BACK_OFF;
                tcp::begin(&worker, key, stream, client);
            }
            Err(error) => {
                let (reason, pause) = classify(&error);
                worker.counters.accept_failed(reason);
                if pause {
                    worker.counters.accept_paused();
                    if back_off == MIN_BACK_OFF {
                        tracing::warn!("worker {} cannot accept on {}:{}: {error}; pausing", worker.index, key.ip, key.port);
                    }
                    tokio::time::sleep(back_off).await;
                    back_off = MAX_BACK_OFF.min(back_off * 2);
                }
            }
        }
        batch += 1;
        if batch == BATCH {
            batch = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// At the limit, connections wait in the listener's queue.
async fn make_room<P: Policies>(worker: &Worker<P>) {
    if worker.has_room() {
        return;
    }
    worker.counters.accept_paused();
    while !worker.has_room() {
        worker.freed.notified().await;
    }
}

/// The next connection; `Ok(None)`: other listeners have taken the last room meanwhile. `None`: the socket is closed.
async fn next<P: Policies>(
    worker: &Worker<P>,
    socket: &RefCell<Option<TcpListener>>,
) -> Option<io::Result<Option<(TcpStream, SocketAddr)>>> {
    poll_fn(|context| match &*socket.borrow() {
        Some(_) if !worker.has_room() => Poll::Ready(Some(Ok(None))),
        Some(socket) => socket.poll_accept(context).map(|accepted| Some(accepted.map(Some))),
        None => Poll::Ready(None),
    })
    .await
}

/// What to count, and whether to pause. `accept(2)`: an error of the connection itself is passed on as the call's own, and the next
/// call may well succeed; anything else would come again at once.
fn classify(error: &io::Error) -> (&'static str, bool) {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE) => ("process-descriptors", true),
        Some(Errno::ENFILE) => ("system-descriptors", true),
        Some(Errno::ENOBUFS | Errno::ENOMEM) => ("memory", true),
        Some(Errno::ECONNABORTED) => ("aborted", false),
        Some(
            Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EPERM,
        ) => ("network", false),
        _ => ("other", true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_would_come_again_pause_the_listener() {
        let pauses = |errno: Errno| classify(&io::Error::from_raw_os_error(errno as i32)).1;
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EBADF, Errno::EINVAL] {
            assert!(pauses(errno), "{errno}");
        }
        for errno in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EPERM, Errno::ENETUNREACH] {
            assert!(!pauses(errno), "{errno}");
        }
    }
}
