//! The bound of every loop and wait (I4). See "Bounds" in `docs/design.md`.

use std::time::Duration;

/// The pauses before the second and later looks of the comparison loop. They are long enough for another process to store
/// its answer, and short enough for a person.
pub const COMPARISON_DELAYS: [Duration; 3] =
    [Duration::from_millis(25), Duration::from_millis(50), Duration::from_millis(100)];

/// The first pause between two looks at the claim of another process. It doubles up to [`LAST_WAIT`].
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);
/// The longest pause between two looks at the claim of another process.
pub(super) const LAST_WAIT: Duration = Duration::from_millis(100);

/// How many refresh tokens one process spends: the one that it read, and one that another process stored.
pub const MAX_GENERATIONS: u32 = 2;

/// How often one refresh token is sent while the server answers with `Retry-After`.
pub const MAX_SENDS: u32 = 10;

/// How long a failure is held back. Processes that start meanwhile share it, so a server that is down gets few requests a
/// second, however many processes start one after the other.
pub const FAILURE_SETTLE: Duration = Duration::from_millis(250);

/// The pause before a refused refresh token is sent once more: some servers withdraw a refusal a moment later.
pub const REFUSAL_SETTLE: Duration = Duration::from_secs(1);

/// The part of a long deadline that is kept for a second request after a lost answer. A deadline below twice this time
/// belongs to the first request alone: a shorter limit would lose answers.
pub const SECOND_SEND_RESERVE: Duration = Duration::from_secs(10);

/// No exchange is begun with less time than this.
pub(super) const SHORTEST_EXCHANGE: Duration = Duration::from_millis(20);

/// How long a claim outlasts the deadline of its owner, in seconds: time to store the answer on a slow disk.
pub const UNTIL_MARGIN_SECONDS: i64 = 10;

/// How often a commit or a clear is repeated because the configuration changed meanwhile.
pub const MAX_REBASES: u32 = 3;

/// How many completed answers one process adopts at most.
pub const MAX_ADOPTIONS: u32 = 3;

/// How often a look is repeated because the refresh token changed meanwhile.
pub const MAX_CREDENTIAL_CHANGES: u32 = 16;
