//! `[limits]`: what a client may ask for.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Reason, Size, faults::Faults};

/// What a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest key, value or element: 64 B to 64 MiB, default `16MiB`. A longer one gets `-TOOLARGE` and the
    /// connection lives. Equal on all nodes. Too large: one value fills a link for seconds and everything waits behind it.
    pub value_bytes: Size,
    /// The longest command, all arguments together: at least `value_bytes`, up to 64 MiB, default `64MiB`. It is also what
    /// one connection may occupy before its command is complete.
    pub command_bytes: Size,
    /// Client connections at a time: 1 to 1,000,000, default `10000`. One more is told so and closed. Cut to what the limit of file
    /// descriptors leaves.
    pub clients: u32,
    /// Replies that a connection has not read, at which nothing more of it is carried out: 64 KiB to 1 GiB, default `64MiB`. After 60 s
    /// in which it took no byte it is closed. Rule of thumb: the largest reply a client asks for. Times `clients`, it is what slow
    /// clients can occupy.
    pub output_bytes: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: Size::mib(16),
            command_bytes: Size::mib(64),
            clients: 10_000,
            output_bytes: Size::mib(64),
        }
    }
}

impl Limits {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.bound("limits.value_bytes", self.value_bytes, VALUE);
        faults.bound("limits.clients", self.clients, 1..=CLIENTS_MAX);
        faults.bound("limits.output_bytes", self.output_bytes, OUTPUT);
        if self.command_bytes < self.value_bytes {
            faults.note(
                "limits.command_bytes",
                Reason::Below {
                    found: self.command_bytes,
                    other: "limits.value_bytes",
                    least: self.value_bytes,
                },
            );
        } else {
            faults.bound("limits.command_bytes", self.command_bytes, COMMAND);
        }
    }
}

/// The highest `limits.command_bytes`: one command may become one outbox row, and that one frame between nodes.
pub const COMMAND_BYTES_MAX: Size = Size::mib(64);

const VALUE: RangeInclusive<Size> = Size::new(64)..=COMMAND_BYTES_MAX;
const COMMAND: RangeInclusive<Size> = Size::new(64)..=COMMAND_BYTES_MAX;
const OUTPUT: RangeInclusive<Size> = Size::kib(64)..=Size::gib(1);
const CLIENTS_MAX: u32 = 1_000_000;
