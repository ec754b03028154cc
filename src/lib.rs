//! onegrant: one OAuth grant, any number of processes, never logged out.

pub mod driver;
pub mod error;
pub mod grant;
pub mod lock;
pub mod protocol;
pub mod session;
pub mod store;
pub mod system;
