#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod admission;
mod answer;
mod apply;
mod choice;
mod clock;
mod codec;
mod compare;
mod config;
mod detector;
mod event;
#[cfg(test)]
mod forged;
mod gossip;
mod identity;
mod incarnation;
mod limits;
mod list;
mod liveness;
mod liveness_check;
mod majority;
mod member;
mod message;
mod name;
mod outbox;
mod path;
mod phi;
mod plan;
mod receive;
mod refusal;
mod renewals;
mod roster;
mod round;
mod settings;
mod tombstones;
mod values;
mod view;
#[cfg(test)]
mod wire_size;

pub use config::{Config, ConfigError, Myself};
pub use event::{Event, Input, Now, Output, Source, Target};
pub use gossip::{ForgetError, Gossip};
pub use identity::{
    Directory, GENERATION_AHEAD_MS, Generation, Heartbeat, Identity, Protocol, SettingsDigest,
    Version,
};
pub use limits::{
    ADDRESS_BYTES_MAX, DATAGRAM_BYTES_DEFAULT, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN,
    DETAIL_BYTES_MAX, KEY_BYTES_MAX, KEYS_MAX, MEMBERS_MAX, NAME_BYTES_MAX, REGION_BYTES_MAX,
    SETTINGS_BYTES_MAX, SETTINGS_MAX, VALUE_BYTES_MAX,
};
pub use majority::{ClockOffset, ClockStanding};
pub use message::Status;
pub use name::{Address, Cluster, Key, NameError, NodeId, Region};
pub use phi::{PHI_MAX, deviations, phi};
pub use refusal::{Refusal, RefusalKind, Refused};
pub use settings::{Settings, TooManySettings};
pub use values::ValueError;
pub use view::{Cause, Counters, Member, Standing, Verdict};
