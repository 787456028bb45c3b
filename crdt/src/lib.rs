//! The algebra of Meridian. Pure: no clock, no randomness, no storage, no network.
//!
//! Everything that moves between replicas is a [`Delta`], and everything that receives one joins it. A join is
//! commutative, associative and idempotent, so a delta may arrive late, twice, split, or out of order.
//!
//! ```text
//!   Stamp ─┬─ Clock                     when, and by whom
//!          ├─ Context                   which dots were seen
//!          │    └─ Dots, RowsDelta      add-wins rows (sets now; hashes and sorted sets later)
//!          ├─ Register ⊕ Count          strings
//!          └─ Expiry                    when a key stops being
//!                   └──── Delta ⟶ KeyState, codec
//! ```
#![deny(missing_docs)]

pub mod clock;
pub mod codec;
pub mod context;
pub mod count;
pub mod delta;
pub mod dots;
pub mod expiry;
pub mod part;
pub mod register;
pub mod restamp;
pub mod rows;
pub mod stamp;
pub mod string;

pub use clock::Clock;
pub use codec::{CodecError, decode, encode, encode_into};
pub use context::{Context, ContextError, Interval};
pub use count::Count;
pub use delta::{Delta, KeyState, Visible};
pub use dots::{Dots, DotsError, join_row};
pub use expiry::Expiry;
pub use part::{Part, Tag, UnknownPart};
pub use register::Register;
pub use restamp::{Restamp, Withdrawn};
pub use rows::{Element, Named, Rows, RowsDelta, RowsError, add, clear, remove};
pub use stamp::{ActorId, Hlc, Stamp};
pub use string::{StringState, StringValue, parse_integer};
