//! `[regions]`: how many replicas of each key a region keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Reason, Warning, faults::Faults};
use crate::names::RegionName;

/// N, the number of replicas that a region keeps of each key, by region: 0 to 15, equal on all nodes.
///
/// Rule of thumb: 3 where a region has three nodes or more, 1 where it has one. Even numbers buy nothing: 4 replicas
/// tolerate the loss of one, as 3 do. A region with 0 keeps nothing.
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
        match self.0.get(own) {
            None => {
                let region = own.clone();
                faults.note("regions", Reason::RegionMissing { region });
            }
            Some(0) => faults.note(format!("regions.{own}"), Reason::NoReplicas),
            Some(_) => {}
        }
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let several = self.0.iter().filter(|(_, replicas)| **replicas > 1);
        several
            .map(|(region, _)| Warning {
                key: format!("regions.{region}"),
                detail: "this version keeps one replica per region, on its one node, and acknowledges there",
            })
            .collect()
    }
}

/// Beyond this a write waits for more nodes than any failure would explain.
const REPLICAS_MAX: u8 = 15;
