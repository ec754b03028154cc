//! The hidden modes of this program.

pub mod exchange;
pub mod file_keeper;
pub mod lock_call;
pub mod worker;
