//! `[gossip]`: how nodes notice each other's absence.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Reason, duration, faults::Faults};

/// How nodes notice each other's absence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gossip {
    /// How often a node tells others that it lives: 20 ms to 10 s, default `200ms`. Too small: traffic and needless
    /// suspicion on busy machines. Too large: an absence is noticed late.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Suspicion at which a node of this region counts as suspected, and 2 s later as down: above 0, up to 100, default `8.0`. It is the negative
    /// decimal logarithm of the chance that the node lives all the same. Too small: nodes that pause are given up.
    /// Too large: dead ones are waited for.
    pub phi_local: f64,
    /// The same for nodes of other regions, whose paths vary more: default `10.0`.
    pub phi_remote: f64,
}

impl Default for Gossip {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            phi_local: 8.0,
            phi_remote: 10.0,
        }
    }
}

impl Gossip {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.bound_duration("gossip.interval", self.interval, INTERVAL);
        check_phi("gossip.phi_local", self.phi_local, faults);
        check_phi("gossip.phi_remote", self.phi_remote, faults);
    }
}

fn check_phi(key: &str, phi: f64, faults: &mut Faults) {
    // Written so that NaN fails it.
    if !(phi > 0.0 && phi <= PHI_MAX) {
        faults.note(
            key,
            Reason::OutOfBounds {
                found: phi.to_string(),
                lowest: "above 0".to_owned(),
                highest: PHI_MAX.to_string(),
            },
        );
    }
}

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(10);
/// Above this a node would be waited for for ever: no silence is that unlikely.
const PHI_MAX: f64 = 100.0;
