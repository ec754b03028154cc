//! The refresh as a state machine without I/O: an event goes in, the next step comes out.
//!
//! ```text
//! read ── fresh ─────────────────────────────────────────────▶ token
//!   └─ look ─ lock ─ look ─ claim ─ look ─ spend ─ commit ───▶ token
//!               │ busy: wait for its release, look again   └─▶ refused, temporary, unknown: shared with all that waited
//!               └ refused: the exclusive claim alone       └─▶ invalid_grant: look 0, 25, 50, 100 ms … use, spend, clear
//! ```
//!
//! The invariants. Code, tests, `docs/guarantees.md` and `docs/design.md` use these numbers and names; the exploration
//! checks each of them in every interleaving that it visits.
//!
//! - **I1 one spender** A refresh token is sent again only after its last answer was stored or judged lost.
//! - **I2 newer stays** A newer session is never overwritten or cleared by an older one.
//! - **I3 logout stays** A logout is never undone.
//! - **I4 everything ends** Every wait ends by the deadline, every loop by a named bound.
//! - **I5 claim first** A claim is durable before the refresh token is sent, and so is the room for the answer.
//! - **I6 working token** A failure while the stored access token answers the demand hands out that token.
//! - **I7 never a third time** No process sends one refresh token a third time.
//! - **I8 whole documents** Only a whole document ever replaces a document.
//! - **I9 no false verdict** A session is called dead only if the server would refuse it and no answer is on its way.
//! - **I10 newest token** A process that ends with exit 0 hands out the newest token that it could read or was given.
//! - **I11 grace loses nothing** Where the server has a grace period, no session is lost.
//! - **I12 only a crash loses** Elsewhere only a kill or a lost answer between rotation and durable copy loses a session.
//! - **I13 failures are shared** A process that waited for an attempt that failed ends the same way, without a request.
//! - **I14 no defect** No order of events ends with exit 1.

pub mod attempt;
pub mod bounds;
pub mod brokered;
pub mod condition;
pub mod events;
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

pub use freshness::{Demand, Freshness, Unwanted, age, expiry, expiry_of, id_token_age};
pub use machine::{Machine, Settings};
pub use step::{
    ClaimResult, DelegateResult, Event, Level, LockMode, LockResult, LockUse, Now, RefreshInput,
    ReplaceResult, Revision, Role, Step, Stored, Token, TokenResult, View,
};
pub use texts::no_session;
