//! The deadline of an exchange, beginning with the connection. It replaces that of ureq for one case: the response
//! arrives in time, but this process is stopped meanwhile (a paused container) and reads too late. The socket then holds
//! the only copy of the response, which ureq would not read.

use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long data that has arrived is read after the deadline, in all. It takes microseconds.
const LATE_LIMIT: Duration = Duration::from_millis(100);

/// The longest time of each of these reads.
const LATE_READ: Duration = Duration::from_millis(10);

/// Gives a connection its deadline.
#[derive(Debug)]
pub struct Deadline(pub Instant);

impl<In: Transport> Connector<In> for Deadline {
    type Out = Bounded<In>;

    fn connect(&self, _: &ConnectionDetails, connection: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(connection.map(|connection| Bounded { connection, deadline: self.0, late_until: None }))
    }
}

/// A connection with a deadline.
#[derive(Debug)]
pub struct Bounded<In> {
    connection: In,
    deadline: Instant,
    /// Set by the first read after the deadline.
    late_until: Option<Instant>,
}

impl<In> Bounded<In> {
    fn left(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Error::Timeout(timeout.reason)),
            left => Ok(NextTimeout { after: left.into(), ..timeout }),
        }
    }

    fn left_for_reading(&mut self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        self.left(timeout).or_else(|late| {
            let now = Instant::now();
            match *self.late_until.get_or_insert(now + LATE_LIMIT) > now {
                true => Ok(NextTimeout { after: LATE_READ.into(), ..timeout }),
                false => Err(late),
            }
        })
    }
}

impl<In: Transport> Transport for Bounded<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = self.left(timeout)?;
        self.connection.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let left = self.left_for_reading(timeout)?;
        match self.connection.await_input(left) {
            // When this process is stopped and continued, the kernel interrupts the read before it looks at what has
            // arrived.
            Err(Error::Timeout(_)) => {
                let left = self.left_for_reading(timeout)?;
                self.connection.await_input(left)
            }
            result => result,
        }
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}
