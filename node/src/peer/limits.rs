//! Every bound and deadline between nodes, with the relations between them.

use std::time::Duration;

/// The largest message, encoded and before compression, in bytes. It bounds what one peer makes this node allocate at once. Too
/// small, and an outbox row of one huge command cannot be shipped at all, which stops its stream: it has to stay
/// above the largest commit batch of one command (`limits.command_bytes`, 64 MiB, and what stamps add to it).
pub const FRAME_BYTES_MAX: usize = 80 << 20;

/// The largest control frame (ping, pong, goodbye), in bytes.
pub(super) const CONTROL_BYTES_MAX: usize = 4 << 10;

/// The largest greeting, in bytes: names, actors, and what is held of them.
pub(super) const GREETING_BYTES_MAX: usize = 256 << 10;

/// Most actors of one node: its shards, and the actors that it still ships for after renewals.
pub const ACTORS_MAX: usize = 4096;

/// What waits to be sent on one session, in bytes of encoded messages. One message alone may be larger, if
/// nothing else waits. Too small, and a WAN link idles between two rounds of the driver; too large, and every peer that reads slowly costs
/// that much memory.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Beyond that, only acknowledgements are taken, up to so many bytes: what is acknowledged and never heard of is sent again.
pub(super) const ACKNOWLEDGEMENT_BYTES: usize = 2 << 20;

/// What each queued message counts on top of its bytes, so that empty ones are bounded too.
pub(super) const QUEUE_ENTRY_BYTES: usize = 64;

/// Messages up to this many bytes together go out in one write.
pub(super) const WRITE_BYTES: usize = 256 << 10;

/// The most that is taken from a stream in one read, in bytes.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Payloads from here on are compressed, if that makes them smaller.
pub(super) const COMPRESS_BYTES_MIN: usize = 512;

/// Text that a peer sent (a reason), as logged: longer is cut.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// What one stream may have in flight, in bytes: 16 MiB at 150 ms round trip is 100 MiB/s.
pub(super) const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// What all streams of a connection may have in flight towards this node, in bytes.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// What QUIC keeps of a connection's unacknowledged data, in bytes. Twice a stream's window: a stalled message stream can never fill
/// it, so heartbeats always find room.
pub(super) const SEND_WINDOW_BYTES: u64 = 32 << 20;

/// The socket's buffers, in bytes: with the system's 208 KiB bursts are dropped even on a quiet machine.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Streams that a peer may open in each direction: the one it needs.
pub(super) const STREAMS_MAX: u32 = 1;

/// Handshakes of dialling peers that are under way at once; beyond, newcomers are refused and come back.
pub(super) const HANDSHAKES_MAX: usize = 64;

/// From this many on, a dialler has to prove its address first, so that forged ones cost nothing.
pub(super) const HANDSHAKES_UNPROVEN_MAX: usize = 16;

/// Accepted sessions at once.
pub const SESSIONS_MAX: usize = 256;

/// The largest datagram, in bytes: larger ones are not sent, and ignored when they come. What Ethernet's packets take, less QUIC's share.
pub const DATAGRAM_BYTES_MAX: usize = 1400;

/// What a datagram may have on any path, from the first packet on, in bytes: QUIC's smallest packet of 1,200, less flags,
/// connection ID, packet number and tag (1 + 8 + 4 + 16) and the frame's header (9).
pub const DATAGRAM_BYTES_SAFE: usize = 1200 - (1 + 8 + 4 + 16) - 9;

/// Datagrams that wait in one connection, in each direction, in bytes. The oldest are dropped: too small, and bursts are lost;
/// too large, and what is read at last is stale.
pub(super) const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

/// Targets at once, from the configuration and added later, with those whose dialler is about to end.
pub const TARGETS_MAX: usize = 1024;

/// Names whose region is remembered.
pub(super) const NAMES_MAX: usize = 1024;

/// Recent refusals that are kept for people to look at.
pub const REFUSALS_MAX: usize = 32;

/// How often the side that dialled asks whether the other one lives, and is answered: three times before either is taken for dead.
/// Everything about noticing the death of a session follows from it; that of a node is noticed by gossip. Twice as often cost an idle
/// node of nine a tenth of its processor time.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often the other side asks, for the round trip and the clock of a peer that it does not dial itself.
pub(super) const HEARTBEAT_ACCEPTED: Duration = Duration::from_secs(5);

/// A session on which nothing was heard for so long is closed as down. Too short, and a lost packet on a
/// long path kills sessions; too long, and a dead peer is believed in.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// QUIC's own limit, which covers connections that are not sessions yet.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(4);

/// QUIC's own pings, for the same. Sessions say more often than this that they live, and need none.
pub(super) const KEEP_ALIVE: Duration = Duration::from_millis(1500);

/// What QUIC assumes of a path that it has not measured: a lost first packet is sent again after three times this.
pub(super) const INITIAL_RTT: Duration = Duration::from_millis(100);

/// One attempt to reach a peer: name resolution, and the QUIC and TLS handshakes.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// How long the machine of a peer has to say that nobody listens there: longer than any round trip. It is part of the pause.
pub(super) const KNOCK_MAX: Duration = Duration::from_millis(500);

/// From the end of the TLS handshake to the end of ours.
pub(super) const GREETING_MAX: Duration = Duration::from_secs(3);

/// The first pause between two attempts; it doubles up to [`BACKOFF_MAX`].
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest pause between two attempts. With an attempt's own time it bounds how late a healed path is noticed.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A session that lived this long starts the pauses over.
pub(super) const LIVED: Duration = Duration::from_secs(5);

/// After a goodbye: time to hand over what is queued, and to read what is on its way.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(1);

/// All of a shutdown.
pub(super) const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// The same refusal or failure of the same peer is logged once in this time.
pub(super) const LOG_EVERY: Duration = Duration::from_secs(60);

/// Different refusals and failures whose last logging is remembered.
pub(super) const LOG_KEYS_MAX: usize = 1024;

/// Most former numbers that a directory is introduced with: the newest. A peer that met it under an older one only takes it for
/// another directory.
pub const FORMER_MAX: usize = 1024;

/// What is held of an actor, at most, encoded.
const HELD_BYTES_MAX: usize = 4 * 9;
/// Everything else in a greeting, at most, encoded.
const CARD_BYTES_MAX: usize = 256;

const _: () = assert!(CONTROL_BYTES_MAX <= GREETING_BYTES_MAX);
const _: () = assert!(GREETING_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX + 64 <= CONTROL_BYTES_MAX);
const _: () = assert!(
    CARD_BYTES_MAX + FORMER_MAX * 9 + ACTORS_MAX * (9 + HELD_BYTES_MAX) <= GREETING_BYTES_MAX
);
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(FRAME_BYTES_MAX <= crdt::codec::LIMIT_BYTES / 2);
const _: () = assert!(WRITE_BYTES <= QUEUE_BYTES_MAX);
const _: () = assert!(DATAGRAM_BYTES_SAFE <= DATAGRAM_BYTES_MAX);
const _: () = assert!(16 * DATAGRAM_BYTES_MAX <= DATAGRAM_BUFFER_BYTES);
// A peer whose message stream we do not read must still get its heartbeats through to us.
const _: () = assert!(2 * STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(2 * STREAM_WINDOW_BYTES as u64 <= SEND_WINDOW_BYTES);
const _: () = assert!(3 * HEARTBEAT.as_millis() <= SILENCE_MAX.as_millis());
const _: () = assert!(SILENCE_MAX.as_millis() < IDLE_MAX.as_millis());
const _: () = assert!(2 * KEEP_ALIVE.as_millis() <= IDLE_MAX.as_millis());
const _: () = assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
// A healed path carries traffic within 5 s: the attempt that was under way, a pause, and a round trip or two.
const _: () =
    assert!(ATTEMPT_MAX.as_millis() + BACKOFF_MAX.as_millis() + KNOCK_MAX.as_millis() < 5_000);
