//! The deadline of an exchange, from the connection on. ureq's own would end the reading of an answer that arrived in
//! time, where the process was stopped meanwhile (a container that is paused) and looks too late: that answer is in the
//! socket, and nowhere else.

use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long what has arrived is read beyond the deadline, all in all. It takes microseconds.
const LATE_LIMIT: Duration = Duration::from_millis(100);

/// How long each read may take then.
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

/// A connection that ends by its deadline.
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
            // A stop interrupts a read, which then ends without a look at what has arrived.
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
