//! What bounds the memory that a client can make this node use.

use std::time::Duration;

use crate::config;

/// The configured bounds (`[limits]` in the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument, in bytes. A longer one is skipped without being stored and answered `-TOOLARGE`.
    /// Too small: legitimate values are refused. Too large: one write occupies a shard for long.
    pub value_bytes: usize,
    /// Longest command with its framing, in bytes; at least `value_bytes`. Answered like a value that is too long.
    pub command_bytes: usize,
    /// Connections at the same time. One more is told so and closed. A node sets it to what file descriptors leave.
    pub clients: usize,
    /// Unread replies of one connection, in bytes, past which nothing more of it is carried out; up to `command_bytes` of its
    /// requests are taken in meanwhile.
    pub output_bytes: usize,
    /// How long a connection past `output_bytes` may go without taking a byte before it is closed.
    pub stuck_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 16 << 20,
            command_bytes: 64 << 20,
            clients: 10_000,
            output_bytes: 64 << 20,
            stuck_after: Duration::from_secs(60),
        }
    }
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self {
            value_bytes: limits.value_bytes.to_usize(),
            command_bytes: limits.command_bytes.to_usize(),
            clients: usize::try_from(limits.clients).unwrap_or(usize::MAX),
            output_bytes: limits.output_bytes.to_usize(),
            ..Self::default()
        }
    }
}

/// Longest line: an inline command or a header. Redis's `PROTO_INLINE_MAX_SIZE`.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Most arguments of a command. The bound that Redis had before 7; with it a header cannot announce more than memory holds.
pub(super) const ARGS_MAX: i64 = 1 << 20;

/// Longest bulk that a header may announce at all: Redis's default `proto-max-bulk-len`. What lies between
/// `value_bytes` and this is skipped politely; what is above is a broken or hostile client.
pub(super) const BULK_HEADER_MAX: i64 = 512 << 20;

/// Bytes asked of the stream at a time. Redis's `PROTO_IOBUF_LEN`.
pub(super) const READ_BYTES: usize = 16 << 10;

/// A read buffer that grew past this is given back once the command that needed it is done.
pub(super) const READ_KEPT_MAX: usize = 64 << 10;

/// Commands in one round: bounds what is in flight and how long other connections of the worker wait.
pub(super) const ROUND_COMMANDS_MAX: usize = 1024;

/// Replies that carry values and wait in memory together. With values of at most `value_bytes` this bounds a round.
pub(super) const ROUND_VALUES_MAX: usize = 64;

/// SRANDMEMBER with a negative count repeats elements: the count alone sizes the reply, so it has a bound.
pub(super) const REPEATS_MAX: i64 = 1 << 20;

/// Most keys or members looked at for one page of SCAN or SSCAN, whatever COUNT says (COUNT is a hint).
pub(super) const SCAN_COUNT_MAX: usize = 100_000;

/// Connections beyond `limits.clients` that are told so at the same time; more wait to be accepted. Each needs a file descriptor.
pub const TURNED_AWAY_MAX: usize = 16;

/// How long the last replies may take to leave when a connection ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

const _: () = assert!(READ_BYTES <= READ_KEPT_MAX);
const _: () = assert!(ROUND_VALUES_MAX <= ROUND_COMMANDS_MAX);
