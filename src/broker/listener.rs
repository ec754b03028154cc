//! The socket of a broker: on loopback, in a directory, or one that a supervisor has opened.
//!
//! A directory may be one that others write to, such as `/tmp`. So the path is walked as for a token file
//! ([`crate::profile::token_file`]): nothing of another user is followed, replaced or removed. The socket has mode 0600 from its
//! beginning.

use crate::cli::ServeAddress;
use crate::environment;
use crate::error::{Failure, Kind};
use crate::profile::token_file::{Obstacle, WalkResult, walk};
use crate::system::trust::user;
use crate::text::{describe, printable};
use nix::libc::{F_GETFD, fcntl};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fcntl_setfl, openat, statat, unlinkat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{fchdir, umask};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// The longest path of a socket, in bytes (unix(7)): one less than the kernel's array.
const PATH_LIMIT: usize = 107;

/// How many connections may wait for a seat. The system may allow fewer.
const QUEUE: i32 = 4096;

/// How often a socket on which no process listens is looked at: one that was just made does not listen yet.
const LOOKS: u32 = 5;

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How often a place is tried at which another process listens: the broker of a command that has just ended takes a moment to
/// leave.
const TRIES: u32 = 50;

/// The pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(20);

/// The first descriptor that a supervisor gives (sd_listen_fds(3)).
const FIRST_GIVEN: i32 = 3;

/// A socket on which a broker listens.
pub struct Listener {
    /// The socket. It does not block.
    pub socket: OwnedFd,
    /// Where it is.
    pub place: Place,
}

/// Where a socket is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    /// At this port of 127.0.0.1.
    Loopback(u16),
    /// At this path. The file is removed at the end.
    File(SocketFile),
    /// A supervisor opened it, and removes its file.
    Given,
}

impl Place {
    /// For people, and for the address of a store behind `broker:`.
    pub fn text(&self) -> String {
        match self {
            Self::Loopback(port) => format!("http://127.0.0.1:{port}"),
            Self::File(file) => format!("unix:{}", Path::new(&file.path).display()),
            Self::Given => "the socket of its supervisor".to_owned(),
        }
    }
}

/// The file of a socket, for the process that removes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketFile {
    /// Its absolute path, of any bytes.
    pub path: OsString,
    /// Its device and its number there.
    pub identity: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another one has its name by now. The number of the file is not given to another one while the
    /// socket is open.
    pub fn remove(&self) {
        let Ok(WalkResult { directory, name, object: Some((_, found)) }) = walk(Path::new(&self.path)) else {
            return;
        };
        if (found.dev(), found.ino()) == self.identity {
            let _ = unlinkat(&directory, &name, AtFlags::empty());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Place::File(file) = &self.place {
            file.remove();
        }
    }
}

impl Listener {
    /// Listens at this address. To be called before the first thread begins.
    pub fn bind(address: &ServeAddress) -> Result<Self, Failure> {
        for number in 0..TRIES {
            if number > 0 {
                sleep(TRY_PAUSE);
            }
            let bound = match address {
                ServeAddress::Loopback(port) => loopback(*port)?,
                ServeAddress::File(path) => at_path(path)?,
            };
            if let Some(listener) = bound {
                return Ok(listener);
            }
        }
        Err(match address {
            ServeAddress::Loopback(port) => failed_at_port(*port, &Errno::ADDRINUSE.into()),
            ServeAddress::File(path) => failed_at_path(path, "another process listens there"),
        })
    }

    /// The socket that a supervisor has opened for this process, if it has. To be called once.
    pub fn given() -> Result<Option<Self>, Failure> {
        let Some(count) = environment::listening_sockets() else { return Ok(None) };
        if count != 1 {
            return Err(failed(
                "the socket of the supervisor",
                &format!("LISTEN_FDS is {count}, not 1"),
                None,
            ));
        }
        take_given()
            .map(Some)
            .map_err(|error| failed("the socket of the supervisor", &describe(&error), None))
    }
}

#[expect(unsafe_code, reason = "a descriptor that another process has opened is a bare number")]
fn take_given() -> io::Result<Listener> {
    // SAFETY: the call takes two numbers, and fails if the first one is no open file.
    if unsafe { fcntl(FIRST_GIVEN, F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, the supervisor gave it to this process, and nothing else in this process has its number.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST_GIVEN) };
    let is_listening = socket_domain(&socket)? == AddressFamily::UNIX
        && socket_type(&socket)? == SocketType::STREAM
        && socket_acceptconn(&socket)?;
    if !is_listening {
        return Err(io::Error::other("it is no listening Unix stream socket"));
    }
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    fcntl_setfl(&socket, OFlags::RDWR | OFlags::NONBLOCK)?;
    Ok(Listener { socket, place: Place::Given })
}

fn failed(place: &str, why: &str, hint: Option<&str>) -> Failure {
    Failure::new(Kind::Usage, format!("cannot listen at {place}: {why}")).hint_of(hint)
}

fn failed_at_port(port: u16, why: &io::Error) -> Failure {
    let hint = "onegrant exec --help   # --serve tcp takes any free port";
    failed(&format!("127.0.0.1:{port}"), &describe(why), Some(hint))
}

fn failed_at_path(path: &Path, why: &str) -> Failure {
    failed(&format!("unix:{}", printable(&path.to_string_lossy())), why, None)
}

/// `None`: another process listens there.
fn loopback(port: u16) -> Result<Option<Listener>, Failure> {
    let bind = || -> io::Result<(TcpListener, u16)> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nonblocking(true)?;
        rustix::net::listen(&socket, QUEUE)?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    };
    match bind() {
        Ok((socket, port)) => Ok(Some(Listener { socket: socket.into(), place: Place::Loopback(port) })),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(failed_at_port(port, &error)),
    }
}

/// `None`: another process listens there.
fn at_path(path: &Path) -> Result<Option<Listener>, Failure> {
    let failed = |why: &str| failed_at_path(path, why);
    let absolute = std::path::absolute(path).map_err(|error| failed(&describe(&error)))?;
    let length = absolute.as_os_str().as_bytes().len();
    if length > PATH_LIMIT {
        let why = format!("the path has {length} bytes, and a socket's has {PATH_LIMIT} at most");
        return Err(failed(&why));
    }
    let found = walk(&absolute).map_err(|obstacle| match obstacle {
        Obstacle::System(error) => failed(&describe(&error)),
        Obstacle::Refused(why) => failed(&why),
    })?;
    let WalkResult { directory, name, object } = found;
    if let Some((_, metadata)) = object {
        let is_own_socket = FileType::from_raw_mode(metadata.mode()).is_socket() && metadata.uid() == user();
        if !is_own_socket {
            return Err(failed("what is there is no socket of this user, and stays"));
        }
        match is_listened_to(&directory, &name) {
            Ok(false) => {}
            Ok(true) => return Ok(None),
            Err(error) => return Err(failed(&describe(&error))),
        }
        let is_same = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|status| {
            (status.st_dev, status.st_ino, status.st_ctime)
                == (metadata.dev(), metadata.ino(), metadata.ctime())
        });
        if is_same {
            unlinkat(&directory, &name, AtFlags::empty())
                .map_err(|errno| failed(&describe(&io::Error::from(errno))))?;
        }
    }
    match bind(&directory, &name) {
        Ok((socket, identity)) => {
            let file = SocketFile { path: absolute.into(), identity };
            Ok(Some(Listener { socket: socket.into(), place: Place::File(file) }))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(failed(&describe(&error))),
    }
}

/// Whether a process listens on the socket of this name.
fn is_listened_to(directory: &File, name: &OsStr) -> io::Result<bool> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(LOOK_PAUSE);
        }
        match inside(directory, || UnixStream::connect(name)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            connected => return connected.map(|_| true),
        }
    }
    Ok(false)
}

/// Binds a socket that only its user may connect to. Gives the identity of its file, too.
fn bind(directory: &File, name: &OsStr) -> io::Result<(UnixListener, (u64, u64))> {
    // A umask is the process's: no other thread runs yet.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = inside(directory, || UnixListener::bind(name));
    umask(before);
    let socket = bound?;
    socket.set_nonblocking(true)?;
    rustix::net::listen(&socket, QUEUE)?;
    let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    // An access control list of the directory takes the place of the umask (acl(5)).
    if Mode::from_raw_mode(status.st_mode) != Mode::RUSR | Mode::WUSR {
        chmodat(directory, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
    }
    Ok((socket, (status.st_dev, status.st_ino)))
}

/// Does something in this directory: the system has no call that binds or connects a name in a directory that is open.
fn inside<T>(directory: &File, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let here = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fchdir(directory)?;
    let done = act();
    fchdir(&here)?;
    done
}
