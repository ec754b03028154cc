//! The connection of a request: a TCP socket, or a Unix socket, as ureq's transport.

use super::connecting;
use super::limit::Limit;
use crate::protocol::reach::Reach;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// The longest wait of one call on a socket. Every exchange ends earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes connections. It replaces the connector of ureq, which tries the addresses of a name one after the other.
#[derive(Debug)]
pub(super) struct Connecting {
    /// Notes the address that answered.
    pub limit: Option<Arc<Limit>>,
    /// The Unix socket that takes the place of all addresses.
    pub socket: Option<Arc<Path>>,
}

impl<In: Transport> Connector<In> for Connecting {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails, made: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(made) = made {
            return Ok(Some(Either::A(made)));
        }
        let limit = left(details.timeout, Instant::now())?;
        let stream = match &self.socket {
            Some(path) => unix(path, limit).map_err(|error| ended(error, details.timeout))?,
            None => {
                let addresses: Vec<_> = details.addrs.iter().copied().collect();
                let stream = connecting::first(&addresses, limit);
                let stream = stream.map_err(|error| ended(error, details.timeout))?;
                if let Some(limit) = &self.limit {
                    limit.note(Reach::of(stream.peer_addr()?.ip()));
                }
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Socket { stream, buffers })))
    }
}

/// Connects to a Unix socket. While its queue is full, the call waits, like a send.
fn unix(path: &Path, limit: Duration) -> io::Result<OwnedFd> {
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: OwnedFd,
    buffers: LazyBuffers,
}

/// What is left of the timeout, which began at this time.
fn left(timeout: NextTimeout, began: Instant) -> Result<Duration, Error> {
    match timeout.after.saturating_sub(began.elapsed()) {
        Duration::ZERO => Err(Error::Timeout(timeout.reason)),
        left => Ok(left.min(LONGEST_WAIT)),
    }
}

fn ended(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        sockopt::set_socket_timeout(&self.stream, Timeout::Send, Some(left(timeout, Instant::now())?))
            .map_err(io::Error::from)?;
        let mut output = self.buffers.output().get(..amount).unwrap_or_default();
        while !output.is_empty() {
            match net::send(&self.stream, output, SendFlags::NOSIGNAL) {
                Ok(sent) => output = output.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ended(error.into(), timeout)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let began = Instant::now();
        let amount = loop {
            sockopt::set_socket_timeout(&self.stream, Timeout::Recv, Some(left(timeout, began)?))
                .map_err(io::Error::from)?;
            match net::recv(&self.stream, self.buffers.input_append_buf(), RecvFlags::empty()) {
                // When this process is stopped and continued, the kernel interrupts a read with a timeout (signal(7)).
                Err(Errno::INTR) => {}
                received => break received.map_err(|error| ended(error.into(), timeout))?.0,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Never called: no connection is used twice.
    fn is_open(&mut self) -> bool {
        false
    }
}
