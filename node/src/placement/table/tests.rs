//! Goal: nodes that know the same members agree on who holds what, nobody holds much more than another, and a node that
//! comes or goes moves no place but its own.
//!
//! Method: regions of 3 to 20 members with N from 1 to 3, all of them; names from proptest where any name must do.

use proptest::{collection::btree_set, prelude::*};

use super::*;

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn members(names: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<NodeName> {
    names.into_iter().map(|name| node(name.as_ref())).collect()
}

/// `us-1` to `us-count`.
fn numbered(count: u16) -> BTreeSet<NodeName> {
    members((1..=count).map(|number| format!("us-{number}")))
}

fn region(members: &BTreeSet<NodeName>, replicas: u8) -> RegionPlacement {
    RegionPlacement::new(members.clone(), replicas)
}

/// How many (partition, replica) places of `after` another node held before.
fn moved(before: &RegionPlacement, after: &RegionPlacement) -> usize {
    let gained = |partition| {
        let now = after.preferred_nodes(partition);
        now.filter(|node| !before.is_replica(node, partition))
            .count()
    };
    Partition::all().map(gained).sum()
}

/// How many places a node has.
fn places(region: &RegionPlacement, node: &NodeName) -> usize {
    Partition::all()
        .filter(|&partition| region.is_replica(node, partition))
        .count()
}

/// The shapes of the tests: members and N.
fn shapes() -> impl Iterator<Item = (u16, u8)> {
    (3..=20).flat_map(|count| (1..=3).map(move |replicas| (count, replicas)))
}

/// What each member would hold if all held equally much.
fn fair_share(count: u16, replicas: u8) -> f64 {
    f64::from(PARTITIONS) * f64::from(replicas.min(count as u8)) / f64::from(count)
}

#[test]
fn the_placement_of_known_names_is_what_it_always_was() {
    let region = region(&numbered(5), 3);
    let names = |key: &[u8]| {
        let partition = Partition::of(key);
        let names: Vec<_> = region.preferred_nodes(partition).collect();
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(b"a"), ["us-5", "us-4", "us-1"]);
    assert_eq!(names(b"cart:1"), ["us-5", "us-4", "us-1"]);
    assert_eq!(names(b"stock"), ["us-2", "us-5", "us-4"]);
}

#[test]
fn a_join_moves_the_places_that_the_newcomer_takes_and_no_other() {
    for (count, replicas) in shapes() {
        let before = region(&numbered(count), replicas);
        let after = region(&numbered(count + 1), replicas);
        let newcomer = node(&format!("us-{}", count + 1));
        assert_eq!(moved(&before, &after), places(&after, &newcomer));
    }
}

#[test]
fn a_leave_moves_the_places_that_the_leaver_had_and_no_other() {
    for (count, replicas) in shapes() {
        let before = region(&numbered(count), replicas);
        for leaver in numbered(count) {
            let mut rest = numbered(count);
            rest.remove(&leaver);
            let after = region(&rest, replicas);
            let stays_full = count > u16::from(replicas);
            let expected = if stays_full {
                places(&before, &leaver)
            } else {
                0
            };
            assert_eq!(moved(&before, &after), expected);
        }
    }
}

#[test]
fn a_join_moves_at_most_a_tenth_more_than_the_newcomers_fair_share() {
    // One newcomer's share scatters by chance, as everyone's does (the balance below): so over twenty regions.
    for count in 3..=20 {
        let grown = |number: u16| {
            let names = |last| members((number * 100..last).map(|n| format!("us-{n}")));
            let before = region(&names(number * 100 + count), 0);
            (before, region(&names(number * 100 + count + 1), 0))
        };
        let grown: Vec<_> = (1..=20).map(grown).collect();
        for replicas in 1..=3 {
            let with = |region: &RegionPlacement| RegionPlacement {
                replicas,
                ..region.clone()
            };
            let totals = grown.iter().map(|(a, b)| moved(&with(a), &with(b)));
            let total: usize = totals.sum();
            let unavoidable = 20.0 * fair_share(count + 1, replicas);
            assert!(
                total as f64 <= 1.1 * unavoidable,
                "{count} members, N {replicas}: {total} of {unavoidable}"
            );
        }
    }
}

#[test]
fn nobody_holds_more_than_half_as_much_again_as_its_fair_share_or_less_than_half_of_it() {
    for (count, replicas) in shapes() {
        let region = region(&numbered(count), replicas);
        let fair = fair_share(count, replicas);
        for member in region.members() {
            let share = places(&region, member) as f64 / fair;
            assert!(
                (0.5..=1.5).contains(&share),
                "{count} members, N {replicas}: {member} holds {share} of its share"
            );
        }
    }
}

#[test]
fn a_region_with_0_replicas_keeps_nothing() {
    let region = region(&numbered(3), 0);
    for partition in Partition::all() {
        assert!(region.preference(partition).is_empty());
        assert_eq!(region.stand_ins(partition).count(), 3);
        assert!(!region.is_replica(&node("us-1"), partition));
    }
    assert_eq!(region.majority(), 0);
    assert!(!region.is_whole());
}

#[test]
fn where_there_are_fewer_members_than_replicas_all_of_them_hold_everything() {
    let region = region(&numbered(2), 3);
    for partition in Partition::all() {
        assert_eq!(region.preference(partition).len(), 2);
        assert_eq!(region.stand_ins(partition).count(), 0);
        assert!(region.is_replica(&node("us-2"), partition));
        assert!(!region.is_replica(&node("us-3"), partition));
    }
    assert_eq!((region.replicas(), region.majority()), (3, 2));
    assert!(region.is_whole());
}

#[test]
fn a_majority_is_more_than_half() {
    let majority = |replicas| region(&numbered(1), replicas).majority();
    let majorities: Vec<_> = (0..=6).map(majority).collect();
    assert_eq!(majorities, [0, 1, 2, 2, 3, 3, 4]);
}

#[test]
fn a_region_may_have_255_members() {
    let region = region(&numbered(255), 3);
    assert_eq!(region.members().len(), MEMBERS_MAX);
    let last = region.members().last().unwrap();
    assert!(places(&region, last) > 0);
}

#[test]
fn every_region_that_is_named_is_placed() {
    let [us, eu, ap] = ["us", "eu", "ap"].map(|name| name.parse::<RegionName>().unwrap());
    let nodes = BTreeMap::from([(us.clone(), numbered(3)), (eu.clone(), members(["eu-1"]))]);
    let replicas = BTreeMap::from([(us.clone(), 3), (ap.clone(), 3)]);
    let placement = Placement::new(nodes, &replicas);
    let replicas = |region| placement.region(region).map(RegionPlacement::replicas);
    assert_eq!(replicas(&us), Some(3));
    assert_eq!(replicas(&eu), Some(0));
    assert_eq!(replicas(&ap), Some(3));
    assert!(placement.region(&ap).unwrap().members().is_empty());
    assert_eq!(placement.regions().count(), 3);
}

proptest! {
    #[test]
    fn the_order_in_which_members_are_met_does_not_matter(
        names in btree_set("[a-z0-9-]{1,32}", 1..20).prop_map(Vec::from_iter).prop_shuffle(),
        replicas in 0u8..5,
    ) {
        let met = region(&members(&names), replicas);
        let met_backwards = region(&members(names.iter().rev()), replicas);
        prop_assert_eq!(met, met_backwards);
    }

    #[test]
    fn every_member_is_in_the_order_of_a_partition_once(
        names in btree_set("[a-z0-9-]{1,32}", 0..20),
        replicas in 0u8..5,
    ) {
        let region = region(&members(&names), replicas);
        for partition in Partition::all() {
            let preferred: Vec<_> = region.preferred_nodes(partition).collect();
            prop_assert_eq!(preferred.len(), names.len().min(usize::from(replicas)));
            for node in &preferred {
                prop_assert!(region.is_replica(node, partition));
            }
            let order: BTreeSet<_> = preferred.into_iter().chain(region.stand_ins(partition)).collect();
            prop_assert_eq!(order.len(), names.len());
        }
    }
}
