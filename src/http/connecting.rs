//! Connects to the first address of a name that answers (RFC 8305, "Happy Eyeballs"). A dead address costs a quarter of a
//! second. All attempts run in one thread, on sockets that do not block.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an attempt runs before the next one starts, too (RFC 8305 section 5).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection attempt.
struct ConnectionAttempt {
    address: SocketAddr,
    stream: TcpStream,
}

impl ConnectionAttempt {
    fn begin(address: SocketAddr) -> io::Result<Self> {
        let family = match address.ip() {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self { address, stream: socket.into() }),
            Err(error) => Err(error.into()),
        }
    }

    /// The connection, or the error. Call this when the kernel says that the attempt has ended.
    fn finish(self) -> io::Result<TcpStream> {
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => {
                self.stream.set_nonblocking(false)?;
                Ok(self.stream)
            }
        }
    }
}

/// Waits until an attempt has ended or the time has passed, and takes the ended attempts out of `open`.
fn ended(open: &mut Vec<ConnectionAttempt>, until: Instant) -> Vec<ConnectionAttempt> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).ok();
    let mut events: Vec<PollFd> =
        open.iter().map(|attempt| PollFd::new(&attempt.stream, PollFlags::OUT)).collect();
    // A signal ends the wait early, and the caller waits again.
    let _ = poll(&mut events, left.as_ref());
    let mut has_ended: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
    let mut has_ended = has_ended.drain(..);
    open.extract_if(.., |_| has_ended.next() == Some(true)).collect()
}

/// The delay between attempts: [`ATTEMPT_DELAY`], or less if so many addresses would leave the last one less than half of
/// the time.
fn delay(addresses: usize, limit: Duration) -> Duration {
    let turns = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    ATTEMPT_DELAY.min(limit / 2 / turns)
}

/// Connects to the first of the addresses that answers. The error is that of the attempt that failed last, or
/// [`io::ErrorKind::TimedOut`] after `limit`.
pub(super) fn first(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    race(addresses, delay(addresses.len(), limit), limit)
}

/// Starts one attempt after the other: `delay` after the previous one, or at once if that one has failed.
fn race(addresses: &[SocketAddr], delay: Duration, limit: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + limit;
    let mut waiting = addresses.iter();
    let mut open = Vec::new();
    let mut last = None;
    let mut next_turn = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next_turn || open.is_empty() {
            if let Some(address) = waiting.next() {
                match ConnectionAttempt::begin(*address) {
                    Ok(attempt) => {
                        open.push(attempt);
                        next_turn = now + delay;
                    }
                    Err(error) => last = Some(error),
                }
                continue;
            }
            if open.is_empty() {
                return Err(last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
        }
        let until = if waiting.len() > 0 { next_turn.min(deadline) } else { deadline };
        for attempt in ended(&mut open, until) {
            match attempt.finish() {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
            next_turn = Instant::now();
        }
        // Checked after the finished attempts: if this process was stopped meanwhile, a connection may be ready.
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Tries every address at the same time, and returns those that do not answer within `limit`, with the reasons.
pub(super) fn silent(addresses: &[SocketAddr], limit: Duration) -> Vec<(SocketAddr, io::Error)> {
    let deadline = Instant::now() + limit;
    let mut silent = Vec::new();
    let mut open = Vec::new();
    for address in addresses {
        match ConnectionAttempt::begin(*address) {
            Ok(attempt) => open.push(attempt),
            Err(error) => silent.push((*address, error)),
        }
    }
    while !open.is_empty() && Instant::now() < deadline {
        for attempt in ended(&mut open, deadline) {
            let address = attempt.address;
            silent.extend(attempt.finish().err().map(|error| (address, error)));
        }
    }
    let late = open.into_iter().map(|attempt| (attempt.address, io::ErrorKind::TimedOut.into()));
    silent.extend(late);
    // In the order of the attempts.
    let mut taken =
        |address| Some(silent.swap_remove(silent.iter().position(|(other, _)| other == address)?));
    addresses.iter().filter_map(&mut taken).collect()
}

/// The order of attempts (RFC 8305 section 4): that of the system, but the two families alternate.
pub(super) fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_ipv6);
    let mut second = second.into_iter();
    let mut ordered = Vec::new();
    for address in first {
        ordered.push(address);
        ordered.extend(second.next());
    }
    ordered.extend(second);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use servers::closed_port::ClosedPort;
    use std::net::TcpListener;

    /// Long enough for a loaded machine, and far shorter than the wait of the kernel.
    const LIMIT: Duration = Duration::from_secs(10);

    /// A listener that accepts no further connection: a SYN gets no answer, as with a dead route.
    struct Silent {
        address: SocketAddr,
        _held: Vec<TcpStream>,
        _socket: std::os::fd::OwnedFd,
    }

    fn silent_listener() -> Silent {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        // The queue holds one connection. Later ones get no answer.
        let fill = |_| ConnectionAttempt::begin(address).unwrap().stream;
        let held: Vec<TcpStream> = (0..4).map(fill).collect();
        let silent = Silent { address, _held: held, _socket: socket };
        let begun = ConnectionAttempt::begin(address).unwrap();
        assert!(ended(&mut vec![begun], Instant::now() + Duration::from_millis(50)).is_empty(), "it answers");
        silent
    }

    #[test]
    fn eight_addresses_that_do_not_answer_do_not_hide_the_ninth() {
        let dead: Vec<Silent> = (0..8).map(|_| silent_listener()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = listener.local_addr().unwrap();
        let addresses: Vec<SocketAddr> = dead.iter().map(|dead| dead.address).chain([alive]).collect();
        // With 2.5 s they start closer together, so the last one has as much time as all before it.
        for limit in [LIMIT, Duration::from_millis(2500)] {
            let stream = first(&addresses, limit).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), alive, "{limit:?}");
        }
    }

    #[test]
    fn the_next_attempt_starts_at_once_after_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = listener.local_addr().unwrap();
        // A delay after a refusal would use up the time.
        let refusing = ClosedPort::reserve();
        let stream = race(&[refusing.address(), refusing.address(), alive], LIMIT, LIMIT).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
    }

    #[test]
    fn the_last_of_many_addresses_has_half_of_the_time() {
        for (addresses, limit_ms, wanted_ms) in [
            (0, 10_000, 250),
            (1, 10_000, 250),
            (16, 10_000, 250),
            (9, 2500, 138),
            (5, 2500, 250),
            (2, 100, 25),
        ] {
            let found = delay(addresses, Duration::from_millis(limit_ms));
            assert_eq!(found.as_millis(), wanted_ms, "{addresses} addresses in {limit_ms} ms");
        }
    }

    #[test]
    fn the_connection_blocks_as_its_reader_expects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = first(&[listener.local_addr().unwrap()], LIMIT).unwrap();
        let flags = rustix::fs::fcntl_getfl(&stream).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn connecting_ends_with_the_limit_or_the_last_error() {
        let silent = silent_listener();
        let late = first(&[silent.address], Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let refusing = ClosedPort::reserve();
        let refused = first(&[refusing.address(), refusing.address()], LIMIT).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(first(&[], LIMIT).is_err());
    }

    #[test]
    fn the_addresses_that_do_not_answer_are_named_with_their_reasons() {
        let (dead, port) = (silent_listener(), ClosedPort::reserve());
        let refusing = port.address();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [dead.address, listener.local_addr().unwrap(), refusing];
        let found: Vec<_> = silent(&addresses, Duration::from_millis(200))
            .into_iter()
            .map(|(address, error)| (address, error.kind()))
            .collect();
        let wanted = [(dead.address, io::ErrorKind::TimedOut), (refusing, io::ErrorKind::ConnectionRefused)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_families_alternate_in_the_order_of_the_system() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 443);
        let cases: [(&[&str], &[&str]); 4] = [
            (&["fd00::1", "fd00::2", "fd00::3", "10.0.0.1"], &["fd00::1", "10.0.0.1", "fd00::2", "fd00::3"]),
            (&["10.0.0.1", "10.0.0.2", "fd00::1"], &["10.0.0.1", "fd00::1", "10.0.0.2"]),
            (&["10.0.0.2", "10.0.0.1"], &["10.0.0.2", "10.0.0.1"]),
            (&[], &[]),
        ];
        for (found, wanted) in cases {
            let [found, wanted] =
                [found, wanted].map(|list| list.iter().map(|text| address(text)).collect::<Vec<_>>());
            assert_eq!(interleaved(found), wanted);
        }
    }
}
