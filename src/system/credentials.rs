//! The process at the other end of a Unix socket.

use nix::libc::{SO_PEERCRED, SOL_SOCKET, c_void, getsockopt, socklen_t, ucred};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

/// The process and its user, as they were when it connected (unix(7), `SO_PEERCRED`). A process of another PID namespace has no
/// number here. rustix reads that number as one that is never zero.
#[expect(unsafe_code, reason = "no safe call takes a process without a number")]
pub fn peer_of(socket: &OwnedFd) -> io::Result<(Option<u32>, u32)> {
    let mut found = ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = socklen_t::try_from(size_of::<ucred>()).map_err(io::Error::other)?;
    let place = (&raw mut found).cast::<c_void>();
    // SAFETY: the place is as long as `length` says, and any bytes are a `ucred`.
    let result = unsafe { getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_PEERCRED, place, &raw mut length) };
    match result {
        0 => Ok((u32::try_from(found.pid).ok().filter(|pid| *pid > 0), found.uid)),
        _ => Err(io::Error::last_os_error()),
    }
}
