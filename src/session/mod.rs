//! The refresh as a state machine without I/O: an event goes in, the next step comes out.
//!
//! ```text
//! read ── fresh ─────────────────────────────────────────────▶ token
//!   └─ look ─ lock ─ look ─ claim ─ look ─ spend ─ commit ───▶ token
//!               │ busy: wait for its release, look again   └─▶ refused, temporary, unknown: told to all who waited
//!               └ refused: the exclusive claim alone       └─▶ invalid_grant: look 0, 25, 50, 100 ms … use, spend, clear
//! ```
//!
//! The invariants, by the names that code and tests use:
//!
//! - **I1** A refresh token is sent again only after its last answer was stored or judged lost.
//! - **I2** A newer session is never overwritten or cleared by an older one.
//! - **I3** A logout is never undone.
//! - **I4** Every wait ends by the deadline, every loop by a named bound.
//! - **I5** A claim is on disk before the refresh token leaves; the room for the answer too.
//! - **I6** A failure while the access token still works hands out that token.

pub mod attempt;
pub mod bounds;
#[cfg(test)]
mod exploration;
pub mod freshness;
mod judgement;
pub mod logout;
mod machine;
#[cfg(test)]
mod machine_tests;
pub mod migration;
mod step;
mod texts;

pub use freshness::{Demand, Freshness, Unwanted, age, expiry};
pub use machine::{Machine, Settings};
pub use step::{
    ClaimResult, DelegateResult, Event, Level, LockMode, LockResult, LockUse, Now, RefreshInput,
    ReplaceResult, Revision, Role, Step, Stored, Token, TokenResult, View,
};
pub use texts::no_session;
