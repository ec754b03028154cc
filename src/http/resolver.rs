//! Name look-ups in bounded time. An address needs none. Nor does `localhost`: it is this machine, whatever a name server
//! says, and minimal containers have no `/etc/hosts`.

use super::connecting::interleaved;
use super::limit::Limit;
use crate::protocol::reach::{Reach, refusal};
use crate::system;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs};
use ureq::unversioned::transport::NextTimeout;

/// The most addresses of one name that are tried: as many as ureq's list holds.
const ADDRESSES: usize = 16;

/// Looks names up. With a limit it drops the addresses beyond it.
#[derive(Debug)]
pub(super) struct Resolver(pub Option<Arc<Limit>>);

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let mut addresses = addresses(bare, port, *timeout.after)
            .map_err(Error::from)?
            .ok_or(Error::Timeout(timeout.reason))?;
        if let Some(limit) = &self.0 {
            let reach = |address: &SocketAddr| Reach::of(address.ip());
            let least = addresses.iter().map(reach).min();
            if let Some(beyond) = least.filter(|least| *least > limit.most()) {
                let refusal = refusal(&uri.to_string(), beyond, limit.most());
                return Err(Error::Other(Box::new(refusal)));
            }
            addresses.retain(|address| reach(address) <= limit.most());
        }
        let mut resolved: ResolvedSocketAddrs = ArrayVec::from_fn(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        addresses.into_iter().for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

/// The addresses of a host, in the order of the attempts. `None` if the look-up takes longer than `limit`.
pub(super) fn addresses(host: &str, port: u16, limit: Duration) -> io::Result<Option<Vec<SocketAddr>>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Some(vec![SocketAddr::new(address, port)]));
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(Some(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]));
    }
    system::resolve_names_without_modules();
    let name = host.to_owned();
    let found = within(limit, move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter))?;
    let Some(found) = found else { return Ok(None) };
    let mut ordered = interleaved(found?);
    ordered.truncate(ADDRESSES);
    Ok(Some(ordered))
}

/// Runs a system call that cannot be stopped. When the time has passed, its thread is left behind and ends with the
/// process. Signals are blocked in this thread: otherwise it would handle a signal that another thread holds back.
fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        system::leave_signals_to_others();
        // After the timeout the receiver is gone.
        let _ = sender.send(call());
    })?;
    match receiver.recv_timeout(limit) {
        Ok(found) => Ok(Some(found)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the look-up ended without a result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Long enough for a loaded machine.
    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn the_thread_of_a_look_up_blocks_every_signal_that_can_be_blocked() {
        let blocked = within(LIMIT, || fs::read_to_string("/proc/thread-self/status").unwrap());
        let status = blocked.unwrap().unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        // Signals 1 to 31 without SIGKILL (9) and SIGSTOP (19), which cannot be blocked.
        let standard = (0x7fff_ffff & !(1 << 8)) & !(1 << 18);
        assert_eq!(mask & 0x7fff_ffff, standard, "{mask:x}");
    }

    #[test]
    fn a_look_up_that_takes_too_long_is_left_behind() {
        let (release, wait) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(10), move || wait.recv());
        assert!(late.unwrap().is_none());
        drop(release);
    }

    #[test]
    fn addresses_and_localhost_need_no_look_up() {
        let shown = |host| format!("{:?}", addresses(host, 7, Duration::ZERO).unwrap().unwrap());
        assert_eq!(shown("192.0.2.1"), "[192.0.2.1:7]");
        assert_eq!(shown("::1"), "[[::1]:7]");
        assert_eq!(shown("LocalHost"), "[127.0.0.1:7, [::1]:7]");
    }
}
