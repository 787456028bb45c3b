//! `[members]`: the nodes that a region's keys are placed on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Identity, Reason, Regions, faults::Faults};
use crate::{
    names::{NodeName, RegionName},
    placement::table::MEMBERS_MAX,
};

/// The nodes that each region's keys are placed on, equal on all nodes. A region that has more nodes than replicas must be
/// listed: who holds what follows from the list, and two nodes with different lists would look for a key in different
/// places. Where a region is left out, its members are the nodes that are met there. Default none.
///
/// Rule of thumb: list every region, and change the lists on all nodes at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Members(BTreeMap<RegionName, Vec<NodeName>>);

impl Members {
    /// The regions that are listed, each with its nodes.
    pub fn listed(&self) -> BTreeMap<RegionName, BTreeSet<NodeName>> {
        let sets = self.0.iter();
        sets.map(|(region, nodes)| (region.clone(), nodes.iter().cloned().collect()))
            .collect()
    }

    pub(super) fn check(&self, own: &Identity, regions: &Regions, faults: &mut Faults) {
        let mut homes: BTreeMap<&NodeName, &RegionName> = BTreeMap::new();
        for (region, nodes) in &self.0 {
            let key = key(region);
            check_region(&key, region, nodes.len(), regions, faults);
            for node in nodes {
                if let Some(home) = homes.insert(node, region) {
                    faults.note(&key, twice(node, home, region));
                }
            }
        }
        self.check_own(own, homes.get(&own.name), faults);
    }

    /// The own node is listed in its own region, if that is listed, and in no other.
    fn check_own(&self, own: &Identity, home: Option<&&RegionName>, faults: &mut Faults) {
        let name = || own.name.clone();
        match home {
            None if self.0.contains_key(&own.region) => {
                faults.note(key(&own.region), Reason::OwnNodeMissing { name: name() });
            }
            Some(home) if **home != own.region => {
                let region = own.region.clone();
                let reason = Reason::OwnNodeElsewhere {
                    name: name(),
                    region,
                };
                faults.note(key(home), reason);
            }
            None | Some(_) => {}
        }
    }
}

fn check_region(
    key: &str,
    region: &RegionName,
    members: usize,
    regions: &Regions,
    faults: &mut Faults,
) {
    let Some(&replicas) = regions.0.get(region) else {
        return faults.note(key, Reason::NoRegion);
    };
    if members > MEMBERS_MAX {
        faults.note(key, Reason::TooManyMembers { members });
    }
    if usize::from(replicas) > members {
        let region = region.clone();
        faults.note(
            key,
            Reason::TooFewMembers {
                members,
                replicas,
                region,
            },
        );
    }
}

fn twice(node: &NodeName, home: &RegionName, region: &RegionName) -> Reason {
    if home == region {
        return Reason::DuplicateNode {
            name: node.to_string(),
        };
    }
    Reason::TwoHomes {
        name: node.clone(),
        other: home.clone(),
    }
}

fn key(region: &RegionName) -> String {
    format!("members.{region}")
}
