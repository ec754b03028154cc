//! The connection of a request: a TCP socket as ureq's transport.

use super::connecting;
use super::limit::Limit;
use crate::protocol::reach::Reach;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// The longest wait of one call on a socket. Every exchange ends earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes connections. It replaces the connector of ureq, which tries the addresses of a name one after the other.
/// With a limit it notes the address that answered.
#[derive(Debug)]
pub(super) struct Connecting(pub Option<Arc<Limit>>);

impl<In: Transport> Connector<In> for Connecting {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails, made: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(made) = made {
            return Ok(Some(Either::A(made)));
        }
        let addresses: Vec<_> = details.addrs.iter().copied().collect();
        let limit = left(details.timeout, Instant::now())?;
        let stream = connecting::first(&addresses, limit).map_err(|error| ended(error, details.timeout))?;
        if let Some(limit) = &self.0 {
            limit.note(Reach::of(stream.peer_addr()?.ip()));
        }
        stream.set_nodelay(true)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Socket { stream, buffers })))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
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
        self.stream.set_write_timeout(Some(left(timeout, Instant::now())?))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| ended(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let began = Instant::now();
        let amount = loop {
            self.stream.set_read_timeout(Some(left(timeout, began)?))?;
            match self.stream.read(self.buffers.input_append_buf()) {
                // When this process is stopped and continued, the kernel interrupts a read with a timeout (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| ended(error, timeout))?,
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
