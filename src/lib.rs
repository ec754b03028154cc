//! onegrant: one OAuth grant, any number of processes, never logged out.

pub mod error;
pub mod grant;
pub mod http;
pub mod oauth;
pub mod protocol;
pub mod system;
