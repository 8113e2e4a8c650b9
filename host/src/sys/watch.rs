//! A descriptor that the runtime watches.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the current runtime watch a descriptor for something to read.
///
/// # Errors
/// When the kernel cannot watch it, or has no memory for it.
#[expect(unsafe_code, reason = "tokio cannot know of any type that its descriptor stays open; of this one it is known")]
pub fn readable(descriptor: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: a `BorrowedFd` is open and the same for as long as its lifetime, which the `AsyncFd` cannot outlive.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)
}
