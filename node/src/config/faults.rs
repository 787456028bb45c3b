//! What is wrong with a parsed config, collected section by section, so that one run names every mistake.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use super::{Reason, duration::Spelled};

/// Keys and what is wrong with their values.
#[derive(Debug, Default)]
pub struct Faults(Vec<(String, Reason)>);

impl Faults {
    /// Notes that the value of `key`, dotted from the root, is wrong.
    pub fn note(&mut self, key: impl Into<String>, reason: Reason) {
        self.0.push((key.into(), reason));
    }

    /// Notes a value outside `bounds`; so is one that compares with nothing, as NaN.
    pub fn bound<T: PartialOrd + Display>(
        &mut self,
        key: &str,
        value: T,
        bounds: RangeInclusive<T>,
    ) {
        if !bounds.contains(&value) {
            self.note(
                key,
                Reason::OutOfBounds {
                    found: value.to_string(),
                    lowest: bounds.start().to_string(),
                    highest: bounds.end().to_string(),
                },
            );
        }
    }

    /// Notes a duration outside `bounds`.
    pub fn bound_duration(&mut self, key: &str, value: Duration, bounds: RangeInclusive<Duration>) {
        let (lowest, highest) = bounds.into_inner();
        self.bound(key, Spelled(value), Spelled(lowest)..=Spelled(highest));
    }

    /// Notes a path that is empty.
    pub fn path(&mut self, key: &str, path: &Path) {
        if path.as_os_str().is_empty() {
            self.note(key, Reason::Empty);
        }
    }

    /// Notes an address that cannot be dialled.
    pub fn dialled(&mut self, key: &str, address: SocketAddr) {
        if address.port() == 0 || address.ip().is_unspecified() {
            self.note(key, Reason::NotDiallable { address });
        }
    }
}

impl IntoIterator for Faults {
    type Item = (String, Reason);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
