//! Passing bytes on, both ways, without a buffer of its own: the worker lends one while there is something to read, and only what a
//! slow reader leaves over is kept.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads in one direction before the other, and then other connections, get their turn.
const TURN: usize = 8;

/// How the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides said that they have no more, and everything was passed on.
    Closed,
    /// One side is gone; the other is to be told so.
    Reset,
}

/// What one call of `Relay::poll` passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) to_endpoint: u64,
    pub(super) to_client: u64,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Endpoint,
}

/// Both directions of a connection.
#[derive(Default)]
pub(super) struct Relay {
    inbound: Flow,
    outbound: Flow,
    /// A side could not be written to. What it had sent before is still passed on, and then the other is reset.
    broken: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Read, and not yet written.
    left_over: Vec<u8>,
    /// The source has no more.
    at_end: bool,
    /// Everything was passed on, or cannot be.
    done: bool,
}

enum Failure {
    /// The source is gone.
    Read,
    /// The destination is gone.
    Write,
}

impl Relay {
    /// The side that nobody reads from now, so that its reset would go unnoticed: one that has ended its direction, or a client whose bytes
    /// the endpoint does not take. (An endpoint's bytes that the client does not take are passed on first, and then its reset. Where both
    /// are unread, the endpoint is still written to, which tells.)
    pub(super) fn unread(&self) -> Option<Side> {
        if self.inbound.done || !self.inbound.left_over.is_empty() {
            Some(Side::Client)
        } else {
            self.outbound.done.then_some(Side::Endpoint)
        }
    }

    /// Whether bytes were read that the other side has not taken yet.
    pub(super) fn holds_bytes(&self) -> bool {
        !self.inbound.left_over.is_empty() || !self.outbound.left_over.is_empty()
    }

    /// Passes on what can be. Bytes are counted into `passed` also when it is pending.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &TcpStream,
        endpoint: &TcpStream,
        buffer: &RefCell<Box<[u8]>>,
        passed: &mut Passed,
    ) -> Poll<Ending> {
        let buffer = &mut **buffer.borrow_mut();
        let Self { inbound, outbound, broken } = self;
        let directions = [(client, endpoint, &mut passed.to_endpoint), (endpoint, client, &mut passed.to_client)];
        for (at, (from, to, count)) in directions.into_iter().enumerate() {
            let (flow, other) = if at == 0 { (&mut *inbound, &*outbound) } else { (&mut *outbound, &*inbound) };
            if flow.done {
                continue;
            }
            match flow.poll(context, from, to, other.done, buffer, count) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => flow.done = true,
                Poll::Ready(Err(Failure::Read)) => return Poll::Ready(Ending::Reset),
                Poll::Ready(Err(Failure::Write)) => {
                    flow.done = true;
                    *broken = true;
                }
            }
        }
        match inbound.done && outbound.done {
            false => Poll::Pending,
            true if *broken => Poll::Ready(Ending::Reset),
            true => Poll::Ready(Ending::Closed),
        }
    }
}

impl Flow {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        last: bool,
        buffer: &mut [u8],
        count: &mut u64,
    ) -> Poll<Result<(), Failure>> {
        for _ in 0..TURN {
            ready!(self.flush(context, to, count))?;
            if self.at_end {
                // The last direction to end needs no `shutdown`: both sockets are about to be closed.
                if !last {
                    // An error says that the other side is gone, which the other direction will meet.
                    let _ = SockRef::from(to).shutdown(std::net::Shutdown::Write);
                }
                return Poll::Ready(Ok(()));
            }
            match read(from, buffer) {
                Ok(0) => self.at_end = true,
                Ok(length) => self.pass(to, &buffer[..length], count)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(from.poll_read_ready(context)).map_err(|_| Failure::Read)?;
                }
                Err(_) => return Poll::Ready(Err(Failure::Read)),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes, and keeps what does not fit.
    fn pass(&mut self, to: &TcpStream, bytes: &[u8], count: &mut u64) -> Result<(), Failure> {
        let written = match write(to, bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Failure::Write),
        };
        *count += written as u64;
        self.left_over.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what was left over; ready when nothing is.
    fn flush(&mut self, context: &mut Context<'_>, to: &TcpStream, count: &mut u64) -> Poll<Result<(), Failure>> {
        while !self.left_over.is_empty() {
            match write(to, &self.left_over) {
                Ok(written) => {
                    *count += written as u64;
                    self.left_over.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(to.poll_write_ready(context)).map_err(|_| Failure::Write)?;
                }
                Err(_) => return Poll::Ready(Err(Failure::Write)),
            }
            if self.left_over.is_empty() {
                self.left_over = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads without waiting. A short read says that there is no more for now, which saves the call that would only say so.
fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    transfer(from, Interest::READABLE, buffer.len(), || recv(from.as_raw_fd(), buffer, MsgFlags::empty()))
}

/// Writes without waiting, and without SIGPIPE.
fn write(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    transfer(to, Interest::WRITABLE, bytes.len(), || send(to.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
}

/// A short transfer is reported to the runtime as "would block": it then waits for the next event, which an edge-triggered epoll does
/// send. The end of the stream is an event of its own, which the runtime remembers.
fn transfer(socket: &TcpStream, interest: Interest, whole: usize, call: impl FnOnce() -> nix::Result<usize>) -> io::Result<usize> {
    let mut short = None;
    let result = socket.try_io(interest, || match call() {
        Ok(length) if 0 < length && length < whole => {
            short = Some(length);
            Err(io::ErrorKind::WouldBlock.into())
        }
        Ok(length) => Ok(length),
        Err(errno) => Err(errno.into()),
    });
    short.map_or(result, Ok)
}
