//! The bound of every loop and wait (I4).

use std::time::Duration;

/// When the comparison loop looks again after its first look at once: long enough for a sibling's answer that is
/// on its way to the disk, short enough for a person.
pub const COMPARISON_DELAYS: [Duration; 3] =
    [Duration::from_millis(25), Duration::from_millis(50), Duration::from_millis(100)];

/// How often to look while somebody else's claim is waited for: the first wait, which doubles up to the last.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);
pub(super) const LAST_WAIT: Duration = Duration::from_millis(100);

/// How many refresh tokens one process spends: the one that it read, and one that a sibling stored.
pub const MAX_GENERATIONS: u32 = 2;

/// How often one refresh token is sent while the server asks to come again (`Retry-After`).
pub const MAX_SENDS: u32 = 10;

/// How long a failure is held back before it is told. Processes that arrive within share it, so a dead server is
/// asked some times a second at most, however many processes start one after the other.
pub const FAILURE_SETTLE: Duration = Duration::from_millis(250);

/// How long a refused refresh token waits before it is sent once more: some servers withdraw a refusal a moment later.
pub const REFUSAL_SETTLE: Duration = Duration::from_secs(1);

/// The part of a long deadline that is kept for sending once more after a lost answer. A deadline below twice this
/// goes to the first exchange alone: cutting that short would make lost answers.
pub const SECOND_SEND_RESERVE: Duration = Duration::from_secs(10);

/// The shortest time in which an exchange is begun.
pub(super) const SHORTEST_EXCHANGE: Duration = Duration::from_millis(20);

/// How long a claim outlasts its owner's deadline, in seconds: time to store the answer on a slow disk.
pub const UNTIL_MARGIN_SECONDS: i64 = 10;

/// How often a session, or its end, is put on top of a configuration that changed meanwhile.
pub const MAX_REBASES: u32 = 3;

/// How many completed answers one process adopts.
pub const MAX_ADOPTIONS: u32 = 3;

/// How often a look is repeated because the refresh token changed under it.
pub const MAX_MOVES: u32 = 16;
