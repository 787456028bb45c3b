//! Every bound in one place, with their relations asserted when this compiles.

/// Smallest datagram that a node may be configured for, in bytes: one whole member with one whole value fits an answer.
pub const DATAGRAM_BYTES_MIN: usize = 1_000;
/// Default size of a datagram, in bytes: what QUIC carries unfragmented over a path of 1,200 bytes.
pub const DATAGRAM_BYTES_DEFAULT: usize = 1_162;
/// Largest datagram that is sent or read, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Longest node and cluster name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest region name, in bytes.
pub const REGION_BYTES_MAX: usize = 32;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 64;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 512;
/// Most keys that one node publishes, tombstones included.
pub const KEYS_MAX: usize = 64;
/// Most cluster-wide settings.
pub const SETTINGS_MAX: usize = 8;
/// Most bytes of all cluster-wide settings together, names and values.
pub const SETTINGS_BYTES_MAX: usize = 256;
/// Longest sentence that a refusal carries, in bytes.
pub const DETAIL_BYTES_MAX: usize = 240;

/// Most other nodes that can be known at once, whatever is configured.
pub const MEMBERS_MAX: usize = 4_096;
/// Most incarnations that are remembered as over: replaced, left or forgotten.
pub(crate) const GRAVES_MAX: usize = 2_048;
/// Most forgotten data directories that are remembered.
pub(crate) const FORGOTTEN_MAX: usize = 512;
/// Most refused nodes that are remembered and shown.
pub(crate) const REFUSED_MAX: usize = 64;
/// Most rumours of forgotten nodes that travel in one message.
pub(crate) const RUMOURS_MAX: usize = 4;
/// Most members asked for in one message: about as many as one answer can describe.
pub(crate) const WANTS_MAX: usize = 24;
/// Direct questions to doubted nodes, per look at the members. A cluster that is too large to ask everyone asks in turns.
pub(crate) const PROBES_MAX: usize = 4;

/// Bytes of the parts of a message at their largest; `wire_size.rs` has the exact sizes.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 1 + 8 + 6 + 4 + 9 + 9 + 1;
const IDENTITY_BYTES_MAX: usize =
    (1 + NAME_BYTES_MAX) + 8 + 9 + (1 + REGION_BYTES_MAX) + (1 + ADDRESS_BYTES_MAX) + 8 + 3 + 3;
const HELLO_BYTES_MAX: usize =
    1 + (1 + NAME_BYTES_MAX) + IDENTITY_BYTES_MAX + 1 + SETTINGS_BYTES_MAX + 2 * 3 * SETTINGS_MAX;
/// Body tag, addressee, echo, wall clock and the lengths of three lists.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 + 6 + 9 + 9 + 3 * 3;
pub(crate) const DELTA_HEAD_BYTES_MAX: usize =
    6 + 1 + IDENTITY_BYTES_MAX + 4 + 9 + 1 + 9 + 9 + 9 + 3;
pub(crate) const ENTRY_BYTES_MAX: usize = 9 + (1 + KEY_BYTES_MAX) + 1 + 3 + VALUE_BYTES_MAX;
const GONE_BYTES_MAX: usize = 6 + (1 + NAME_BYTES_MAX) + 8;

// A member with its longest value always fits: reconciliation cannot get stuck on one entry.
const _: () = assert!(
    ENVELOPE_BYTES_MAX + ANSWER_BYTES_MAX + DELTA_HEAD_BYTES_MAX + ENTRY_BYTES_MAX
        <= DATAGRAM_BYTES_MIN
);
// An introduction leaves room for the rumours and for some digest.
const _: () = assert!(
    ENVELOPE_BYTES_MAX + HELLO_BYTES_MAX + RUMOURS_MAX * GONE_BYTES_MAX + 64 <= DATAGRAM_BYTES_MIN
);
const _: () = assert!(DATAGRAM_BYTES_MIN <= DATAGRAM_BYTES_DEFAULT);
const _: () = assert!(DATAGRAM_BYTES_DEFAULT <= DATAGRAM_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX <= 250 && KEY_BYTES_MAX <= 250 && DETAIL_BYTES_MAX <= 250);
