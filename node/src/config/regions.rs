//! `[regions]`: how many replicas of each key a region keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Reason, Warning, faults::Faults};
use crate::names::RegionName;

/// N, the number of replicas that a region keeps of each key, by region: 0 to 15, equal on all nodes.
///
/// Rule of thumb: 3 where a region has three nodes or more, 1 where it has one. Even numbers buy nothing: 4 replicas
/// tolerate the loss of one, as 3 do. A region with 0 keeps nothing: its nodes forward what they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Regions(pub BTreeMap<RegionName, u8>);

impl Regions {
    /// N of `region`; 0 if it is not listed.
    pub fn replicas(&self, region: &RegionName) -> u8 {
        self.0.get(region).copied().unwrap_or(0)
    }

    pub(super) fn check(&self, own: &RegionName, faults: &mut Faults) {
        for (region, replicas) in &self.0 {
            faults.bound(&format!("regions.{region}"), *replicas, 0..=REPLICAS_MAX);
        }
        if !self.0.contains_key(own) {
            let region = own.clone();
            faults.note("regions", Reason::RegionMissing { region });
        } else if self.0.values().all(|replicas| *replicas == 0) {
            faults.note("regions", Reason::NoReplicas);
        }
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let even = |replicas: u8| replicas > 0 && replicas.is_multiple_of(2);
        let evenly = self.0.iter().filter(|(_, replicas)| even(**replicas));
        evenly
            .map(|(region, _)| Warning {
                key: format!("regions.{region}"),
                detail: "an even number: its majority survives the loss of no more replicas than with one fewer",
            })
            .collect()
    }
}

/// Beyond this a write waits for more nodes than any failure would explain.
const REPLICAS_MAX: u8 = 15;
