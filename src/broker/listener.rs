//! The socket of a broker: on loopback, in a directory, or one that a supervisor has opened.
//!
//! A directory may be one that others write to, such as `/tmp`. So the path is walked as for a token file
//! ([`crate::profile::token_file`]): nothing of another user is followed, replaced or removed. The socket has mode 0600 from its
//! beginning.

use crate::cli::ServeAddress;
use crate::environment;
use crate::error::{Failure, Kind};
use crate::profile::token_file::{Obstacle, WalkResult, walk};
use crate::store_address::{PATH_LIMIT, too_long};
use crate::system::trust::user;
use crate::text::{describe, printable, shell_word};
use nix::libc::{F_GETFD, fcntl};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, fcntl_setfl, flock, openat, statat, unlinkat,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{fchdir, umask};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How many connections may wait for a seat. The system may allow fewer.
const QUEUE: i32 = 4096;

/// How often a socket on which no process listens is looked at: one that was just made does not listen yet.
const LOOKS: u32 = 5;

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long an address may still be in use: the broker of a command that has just ended takes a moment to leave.
const END_LIMIT: Duration = Duration::from_secs(1);

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
        let until = Instant::now() + END_LIMIT;
        loop {
            let bound = match address {
                ServeAddress::Loopback(port) => loopback(*port),
                ServeAddress::File(path) => at_path(path),
            };
            match bound {
                Ok(listener) => return Ok(listener),
                Err(Unbound::Taken(_)) if Instant::now() < until => sleep(LOOK_PAUSE),
                Err(Unbound::Taken(failure) | Unbound::Failed(failure)) => return Err(failure),
            }
        }
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

/// Why there is no socket.
enum Unbound {
    /// Another process listens there.
    Taken(Failure),
    /// Any other reason.
    Failed(Failure),
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

fn loopback(port: u16) -> Result<Listener, Unbound> {
    let bind = || -> io::Result<(TcpListener, u16)> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nonblocking(true)?;
        rustix::net::listen(&socket, QUEUE)?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    };
    let (socket, bound) = bind().map_err(|error| {
        let hint = "onegrant exec --help   # --serve tcp takes any free port";
        let failure = failed(&format!("127.0.0.1:{port}"), &describe(&error), Some(hint));
        match error.kind() {
            ErrorKind::AddrInUse => Unbound::Taken(failure),
            _ => Unbound::Failed(failure),
        }
    })?;
    Ok(Listener { socket: socket.into(), place: Place::Loopback(bound) })
}

fn at_path(path: &Path) -> Result<Listener, Unbound> {
    let shown = format!("unix:{}", printable(&path.to_string_lossy()));
    let choose = shell_word(path).map(|path| format!("ls -ld {path}   # or choose another path"));
    let failure = |why: &str| failed(&shown, why, choose.as_deref());
    let failed = |why: &str| Unbound::Failed(failure(why));
    let taken = || Unbound::Taken(failure("another process listens there"));
    let broken = |error: &io::Error| match path.parent().and_then(shell_word) {
        Some(parent) if error.kind() == ErrorKind::NotFound => Unbound::Failed(Failure {
            hint: Some(format!("mkdir -p -m 700 {parent}")),
            ..failure(&describe(error))
        }),
        _ => failed(&describe(error)),
    };
    let absolute = std::path::absolute(path).map_err(|error| broken(&error))?;
    let length = absolute.as_os_str().as_bytes().len();
    if length > PATH_LIMIT {
        return Err(failed(&too_long(length)));
    }
    let found = walk(&absolute).map_err(|obstacle| match obstacle {
        Obstacle::System(error) => broken(&error),
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
            Ok(true) => return Err(taken()),
            Err(error) => return Err(broken(&error)),
        }
        let locked = locked(&directory);
        // A file that was just made may have the number of one that was just removed, but not its time.
        let is_same = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|status| {
            (status.st_dev, status.st_ino, status.st_ctime, i64::try_from(status.st_ctime_nsec).ok())
                == (metadata.dev(), metadata.ino(), metadata.ctime(), Some(metadata.ctime_nsec()))
        });
        if is_same {
            match unlinkat(&directory, &name, AtFlags::empty()) {
                // Another process that is about to listen there was faster. It or this one binds the name.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(broken(&errno.into())),
            }
        }
        drop(locked);
    }
    let (socket, identity) = bind(&directory, &name).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => taken(),
        _ => broken(&error),
    })?;
    let file = SocketFile { path: absolute.into(), identity };
    Ok(Listener { socket: socket.into(), place: Place::File(file) })
}

/// Whether a process listens on the socket of this name.
fn is_listened_to(directory: &File, name: &OsStr) -> io::Result<bool> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(LOOK_PAUSE);
        }
        match inside(directory, name, |name| Ok(connect(name)))? {
            // In the second case its queue is full.
            Ok(()) | Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::CONNREFUSED) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Connects without waiting.
fn connect(name: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(name)?)
}

/// Holds back other brokers that remove a socket here: the one that looked and removes a moment later would remove the new socket
/// of a faster one. A lock of the directory leaves no file. Any user can hold it, so it is waited for only as long as a look
/// takes; `None` if that is not enough.
fn locked(directory: &File) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(directory, ".", flags, Mode::empty()).ok()?;
    for _ in 0..LOOKS {
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(directory);
        }
        sleep(LOOK_PAUSE);
    }
    None
}

/// Binds a socket that only its user may connect to. Gives the identity of its file, too.
fn bind(directory: &File, name: &OsStr) -> io::Result<(UnixListener, (u64, u64))> {
    // A umask is the process's: no other thread runs yet.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = inside(directory, name, |name| UnixListener::bind(name));
    umask(before);
    let socket = bound?;
    socket.set_nonblocking(true)?;
    rustix::net::listen(&socket, QUEUE)?;
    let identity = identity_of(directory, name)?;
    Ok((socket, identity))
}

/// The identity of the socket that was just bound to this name. Its mode is what the umask left, also where an access control
/// list of the directory takes the place of the umask for other files: bind(2) applies it first. So what has another mode is
/// not this socket. It is not changed: who may write the directory can have put a link to any file there.
fn identity_of(directory: &File, name: &OsStr) -> io::Result<(u64, u64)> {
    let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_socket = FileType::from_raw_mode(status.st_mode).is_socket();
    match is_socket && Mode::from_raw_mode(status.st_mode) == Mode::RUSR | Mode::WUSR {
        true => Ok((status.st_dev, status.st_ino)),
        false => Err(io::Error::other("another file has taken the place of the socket")),
    }
}

/// Does something with this name in this directory: the system has no call that binds or connects a name in a directory that is
/// open. From a working directory that this user cannot return to (`sudo -u`), the way is through `/proc`.
fn inside<T>(directory: &File, name: &OsStr, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    match openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(here) => {
            fchdir(directory)?;
            let done = act(Path::new(name));
            fchdir(&here)?;
            done
        }
        Err(_) => act(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_has_taken_the_place_of_a_socket_is_neither_followed_nor_changed() {
        let path = std::env::temp_dir().join(format!("onegrant-listener-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let directory = File::open(&path).unwrap();
        let set_mode = |name: &str, mode| {
            fs::set_permissions(path.join(name), Permissions::from_mode(mode)).unwrap();
        };
        let _sockets = ["own", "open"].map(|name| UnixListener::bind(path.join(name)).unwrap());
        fs::write(path.join("file"), "").unwrap();
        for (name, mode) in [("own", 0o600), ("open", 0o666), ("file", 0o644)] {
            set_mode(name, mode);
        }
        symlink("file", path.join("link")).unwrap();
        symlink("own", path.join("link to a socket")).unwrap();
        let is_own = |name: &str| identity_of(&directory, OsStr::new(name)).is_ok();
        let found = ["own", "open", "file", "link", "link to a socket", "missing"].map(is_own);
        assert_eq!(found, [true, false, false, false, false, false]);
        let mode = fs::metadata(path.join("file")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644);
        set_mode("file", 0o600);
        assert!(!is_own("file"), "it is no socket");
        fs::remove_dir_all(path).unwrap();
    }
}
