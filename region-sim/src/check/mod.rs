//! The promises, one a file, each looked at from outside: from what clients were told, and from what the hosts hold in the end.
//!
//! | promise | file | says |
//! | --- | --- | --- |
//! | P1 | [`durable`], [`reference`] | what was acknowledged is there |
//! | P2 | [`converged`] | hosts that exchanged everything hold the same |
//! | P3 | [`counters`] | counters count what was acknowledged, and no more than was asked |
//! | P4 | [`sets`], [`turning`] | elements stay until a remove saw them |
//! | P6 | [`settled`], [`answered`] | after faults are over, nothing waits, and requests are answered |
//! | levels | [`levels`] | a write is on as many replicas as its level names, and reads see it that must |
//! | P7 | [`fresh`], [`linear`], [`order`], [`own`], [`fading`], [`single`] | inside a region, reads see what was acknowledged before they began |

pub mod answered;
pub mod converged;
pub mod counters;
pub mod durable;
pub mod fading;
pub mod fresh;
pub mod holding;
pub mod levels;
pub mod linear;
pub mod order;
pub mod own;
pub mod reference;
pub mod sets;
pub mod settled;
pub mod single;
pub mod turning;

use std::fmt;

use node::core::op::Key;

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise it breaks.
    pub promise: &'static str,
    /// What happened.
    pub detail: String,
    /// The key that it is about, if it is about one.
    pub key: Option<Key>,
}

impl Violation {
    /// A broken promise.
    pub fn new(promise: &'static str, detail: impl Into<String>) -> Self {
        Self {
            promise,
            detail: detail.into(),
            key: None,
        }
    }

    /// It is about this key.
    #[must_use]
    pub fn about(self, key: &Key) -> Self {
        Self {
            key: Some(key.clone()),
            ..self
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.detail)
    }
}
