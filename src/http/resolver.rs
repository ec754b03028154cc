//! Name look-ups: none for addresses, none for `localhost` (it means this machine, whatever a name server
//! says, and minimal containers have no `/etc/hosts`), and in bounded time for all other names.

use crate::system;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs};
use ureq::unversioned::transport::NextTimeout;

/// The most addresses of one name that are tried: as many as ureq's list holds.
const ADDRESSES: usize = 16;

#[derive(Debug)]
pub(super) struct Resolver;

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
        let addresses = if let Ok(address) = bare.parse::<IpAddr>() {
            vec![SocketAddr::new(address, port)]
        } else if bare.eq_ignore_ascii_case("localhost") {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        } else {
            look_up(bare.to_owned(), port, timeout)?
        };
        let mut resolved: ResolvedSocketAddrs = ArrayVec::from_fn(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        addresses.into_iter().take(ADDRESSES).for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

/// The system's look-up cannot be stopped: when the time is over, its thread is left behind and ends with the
/// process.
fn look_up(host: String, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
    system::resolve_names_without_modules();
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // Nobody listens any more after the timeout.
        let _ = sender.send(found);
    })?;
    match receiver.recv_timeout(*timeout.after) {
        Ok(found) => Ok(found?),
        Err(RecvTimeoutError::Timeout) => Err(Error::Timeout(timeout.reason)),
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the look-up ended without a result").into())
        }
    }
}
