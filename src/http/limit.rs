//! How far the requests of a client may reach.

use crate::protocol::reach::Reach;
use std::sync::{Mutex, PoisonError};

/// The class of addresses that a client may connect to, and the smallest one that it connected to.
#[derive(Debug)]
pub(super) struct Limit {
    most: Reach,
    reached: Mutex<Reach>,
}

impl Limit {
    pub fn new(most: Reach) -> Self {
        Self { most, reached: Mutex::new(most) }
    }

    /// The largest class of an address that a connection may be made to.
    pub fn most(&self) -> Reach {
        self.most
    }

    /// The smallest class of an address that a connection was made to; before the first one [`Self::most`].
    pub fn reached(&self) -> Reach {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the class of an address that a connection was made to.
    pub fn note(&self, reach: Reach) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        *reached = reach.min(*reached);
    }
}
