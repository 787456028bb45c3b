//! Goal: every turn in the life of a node is known to all, and whoever does not belong is refused with a reason on both sides.
//!
//! Method: small worlds; one turn at a time; rounds until everybody knows.

mod common;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use common::{
    config, millis, seconds, settled, world,
    world::{ADDRESSES, World},
};
use gossip::{
    Config, Directory, Event, ForgetError, Generation, Key, Protocol, RefusalKind, Settings,
    Standing, Status,
};

fn key() -> Key {
    "colour".parse().expect("a key")
}

fn refusals(world: &World, host: usize, since: Duration) -> Vec<RefusalKind> {
    let events = world.reports_of(host, since);
    let kinds = events.filter_map(|event| match event {
        Event::Refused(refused) => Some(refused.refusal.kind),
        _ => None,
    });
    kinds.collect()
}

fn refused_by(world: &World, host: usize, since: Duration) -> Vec<(RefusalKind, String)> {
    let events = world.reports_of(host, since);
    let kinds = events.filter_map(|event| match event {
        Event::RefusedBy { refusal, .. } => Some((refusal.kind, refusal.detail.clone())),
        _ => None,
    });
    kinds.collect()
}

#[test]
fn a_lone_first_node_starts_and_others_find_it_later() {
    let mut world = world(3, 0.0, 31);
    world.start(0);
    world.run_for(seconds(60));
    assert_eq!(world.gossip(0).members().count(), 0);
    world.start(2);
    world.start(1);
    let rounds = world.rounds_until(10, World::is_converged);
    assert!(rounds.is_some(), "joining takes a few rounds");
}

#[test]
fn a_node_whose_seeds_all_sleep_goes_on_trying() {
    let mut world = world(4, 0.0, 32);
    world.start(2);
    world.start(3);
    world.run_for(seconds(120));
    assert_eq!(
        world.gossip(2).members().count(),
        0,
        "nobody told them of each other"
    );
    world.start(1);
    assert!(world.rounds_until(10, World::is_converged).is_some());
}

#[test]
fn a_goodbye_is_known_to_all_in_a_few_rounds_and_nobody_is_suspected() {
    for hosts in [3, 50] {
        let mut world = settled(hosts, 0.0, 33);
        let begin = world.now();
        world.gossip_mut(2).leave();
        assert_eq!(world.gossip(2).status(), Status::Leaving);
        let rounds = world.rounds_until(10, |world| world.all_see(2, Standing::Leaving));
        assert!(rounds.is_some(), "it drains");
        world.depart(2);
        let rounds = world.rounds_until(10, |world| world.all_see(2, Standing::Left));
        println!("{hosts} hosts hear a goodbye: {rounds:?} rounds");
        assert!(rounds.is_some_and(|rounds| rounds <= 4), "{rounds:?}");
        world.run_for(seconds(60));
        assert!(world.all_see(2, Standing::Left), "and it stays so");
        assert_eq!(world.suspicions(begin, &[2]), 0);
    }
}

/// Watermarks change all the time: hardly anybody holds the latest version when a node goes.
#[test]
fn a_goodbye_is_understood_by_those_who_had_not_heard_the_latest_values() {
    let mut world = settled(12, 0.0, 44);
    let name = world.hosts[2].name.clone();
    for turn in 0..20_u8 {
        let set = world.gossip_mut(2).set(key(), Bytes::from(vec![turn]));
        assert_eq!(set, Ok(()));
        world.run_for(millis(50));
    }
    let set = world.gossip_mut(2).set(key(), Bytes::from_static(b"last"));
    assert_eq!(set, Ok(()));
    world.depart(2);
    world.run_for(millis(200));
    assert!(world.all_see(2, Standing::Left));
    assert!(
        world.gossip(0).values(&name).next().is_none(),
        "it publishes nothing any more"
    );
}

#[test]
fn one_that_left_may_come_back() {
    let mut world = settled(5, 0.0, 34);
    world.depart(2);
    world.run_for(seconds(30));
    world.start(2);
    let rounds = world.rounds_until(10, World::is_converged);
    assert!(rounds.is_some());
}

#[test]
fn a_crashed_node_returns_at_once_as_a_new_life_with_new_values() {
    let mut world = settled(5, 0.0, 35);
    let old = Bytes::from_static(b"old");
    assert_eq!(world.gossip_mut(2).set(key(), old), Ok(()));
    world.run_for(seconds(2));
    let name = world.hosts[2].name.clone();
    assert!(world.gossip(0).value(&name, &key()).is_some());
    world.kill(2);
    world.run_for(millis(10));
    world.start(2);
    let rounds = world.rounds_until(10, World::is_converged);
    assert!(rounds.is_some_and(|rounds| rounds <= 4), "{rounds:?}");
    assert!(
        world.gossip(0).value(&name, &key()).is_none(),
        "what an earlier life said is over"
    );
}

#[test]
fn a_node_goes_on_at_a_new_address() {
    let mut world = settled(12, 0.0, 36);
    let address: gossip::Address = format!("h{}", ADDRESSES + 2).parse().expect("an address");
    world.move_to(2, address.clone());
    let rounds = world.rounds_until(20, World::is_converged);
    assert!(rounds.is_some_and(|rounds| rounds <= 6), "{rounds:?}");
    let member = world
        .gossip(7)
        .member(&world.hosts[2].name)
        .expect("it is known");
    assert_eq!(member.identity.address, address);
}

#[test]
fn a_wiped_node_gets_in_once_its_former_life_is_suspected() {
    let mut world = settled(12, 0.0, 37);
    let begin = world.now();
    world.kill(2);
    world.hosts[2].directory += 500;
    world.start(2);
    let rounds = world.rounds_until(40, World::is_converged);
    println!("a wiped node is in after {rounds:?} rounds");
    assert!(rounds.is_some_and(|rounds| rounds <= 20), "{rounds:?}");
    let directories = world.reports_of(0, begin).filter_map(|event| match event {
        Event::Met(identity) => Some(identity.directory.0),
        _ => None,
    });
    assert_eq!(directories.collect::<Vec<_>>(), [world.hosts[2].directory]);
}

#[test]
fn a_forgotten_node_is_gone_everywhere_and_its_directory_is_refused() {
    let mut world = settled(12, 0.0, 38);
    let name = world.hosts[5].name.clone();
    assert_eq!(
        world.forget(0, &name),
        Err(ForgetError::Lives(name.clone()))
    );
    let stranger = "nobody".parse().expect("a name");
    assert!(matches!(
        world.forget(0, &stranger),
        Err(ForgetError::Unknown(_))
    ));
    world.kill(5);
    world.run_for(seconds(5));
    let begin = world.now();
    assert_eq!(world.forget(0, &name), Ok(()));
    let rounds = world.rounds_until(20, |world| world.nobody_knows(5));
    println!("12 hosts forget: {rounds:?} rounds");
    assert!(rounds.is_some());
    let told = world
        .reports_of(7, begin)
        .any(|event| matches!(event, Event::Forgot { .. }));
    assert!(told, "to be remembered over restarts");
    world.start(5);
    world.run_for(seconds(5));
    assert!(world.nobody_knows(5));
    let told = world
        .reports_of(5, begin)
        .any(|event| *event == Event::Forgotten)
        || refused_by(&world, 5, begin)
            .iter()
            .any(|(kind, _)| *kind == RefusalKind::Forgotten);
    assert!(told, "it is told why");
    world.kill(5);
    world.hosts[5].directory += 500;
    world.start(5);
    assert!(
        world.rounds_until(20, World::is_converged).is_some(),
        "with a new directory it is welcome"
    );
}

#[test]
fn one_who_remembers_a_forgotten_node_teaches_those_who_do_not() {
    let mut world = world(6, 0.0, 39);
    let (name, directory) = (
        world.hosts[5].name.clone(),
        gossip::Directory(world.hosts[5].directory),
    );
    world.start_all();
    world.gossip_mut(4).recall_forgotten(name, directory);
    world.run_for(seconds(30));
    assert!(world.nobody_knows(5));
}

/// All restarted while it was away: nobody has heard of it in this life, and it is still to be refused everywhere.
#[test]
fn a_node_that_is_only_remembered_is_forgotten_by_all_too() {
    let mut world = settled(6, 0.0, 45);
    world.kill(5);
    for host in 0..5 {
        world.kill(host);
    }
    for host in 0..5 {
        world.start(host);
    }
    assert!(world.rounds_until(20, World::is_converged).is_some());
    let (name, directory) = (world.hosts[5].name.clone(), Directory(1_005));
    assert_eq!(
        world.forget(0, &name),
        Err(ForgetError::Unknown(name.clone()))
    );
    let now = world.clock(0);
    let told = world.gossip_mut(0).forget_remembered(&name, directory, now);
    world.perform(0, told.expect("it does not live"));
    world.run_for(seconds(5));
    for host in 0..5 {
        let mut events = world.reports_of(host, Duration::ZERO);
        let is_it = |event: &Event| matches!(event, Event::Forgot { node, .. } if *node == name);
        assert!(events.any(is_it), "host {host} heard of it");
    }
    world.start(5);
    world.run_for(seconds(5));
    assert!(world.nobody_knows(5));
}

/// Host 2 of three does not belong, and is started so; what both sides say.
fn intruder(change: impl Fn(&mut World, &mut Config, &mut gossip::Myself)) -> World {
    let mut world = world(3, 0.0, 40);
    world.start(0);
    world.start(1);
    world.run_for(seconds(5));
    let (mut config, mut myself) = (config(), world.myself(2));
    change(&mut world, &mut config, &mut myself);
    world.start_as(2, config, myself);
    world.run_for(seconds(5));
    world
}

fn assert_refused_on_both_sides(world: &World, kind: RefusalKind, words: &str) {
    let said = refused_by(world, 2, Duration::ZERO);
    assert!(
        said.iter().any(|(said, _)| *said == kind),
        "the intruder hears: {said:?}"
    );
    let (_, detail) = said
        .iter()
        .find(|(said, _)| *said == kind)
        .expect("just seen");
    assert!(detail.contains(words), "{detail}");
    assert!(refusals(world, 0, Duration::ZERO).contains(&kind));
    assert!(
        world
            .gossip(0)
            .refused()
            .any(|refused| refused.refusal.kind == kind)
    );
    let up = |host| {
        world
            .gossip(host)
            .members()
            .filter(|member| member.standing == Standing::Up)
            .count()
    };
    assert_eq!((up(0), up(1), up(2)), (1, 1, 0));
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let world = intruder(|_, config, _| config.cluster = "other".parse().expect("a name"));
    assert_refused_on_both_sides(
        &world,
        RefusalKind::Cluster,
        "cluster 'other' is not cluster 'demo'",
    );
}

#[test]
fn contradictory_settings_are_refused() {
    let world = intruder(|_, config, _| {
        let settings = BTreeMap::from([("regions.eu".to_owned(), "5".to_owned())]);
        config.settings = Settings::try_from(settings).expect("few");
    });
    assert_refused_on_both_sides(
        &world,
        RefusalKind::Settings,
        "regions.eu is not set at one and '5' at the other",
    );
}

#[test]
fn incompatible_releases_are_refused() {
    let world = intruder(|_, _, myself| {
        myself.protocol = Protocol {
            speaks: 3,
            accepts: 2,
        }
    });
    assert_refused_on_both_sides(
        &world,
        RefusalKind::Protocol,
        "speaks version 3 and accepts 2 on",
    );
}

#[test]
fn a_second_node_of_one_name_is_refused() {
    let world = intruder(|world, _, myself| {
        world.hosts[2].name = world.hosts[1].name.clone();
        myself.node = world.hosts[1].name.clone();
    });
    let said = refused_by(&world, 2, Duration::ZERO);
    assert!(
        said.iter()
            .all(|(kind, _)| *kind == RefusalKind::DuplicateName),
        "{said:?}"
    );
    assert!(said[0].1.contains("a name belongs to one node"));
    assert!(refusals(&world, 0, Duration::ZERO).contains(&RefusalKind::DuplicateName));
    let member = world
        .gossip(0)
        .member(&world.hosts[1].name)
        .expect("it is known");
    assert_eq!(member.identity.directory.0, 1_001, "the first one stays");
    assert_eq!(member.standing, Standing::Up);
}

#[test]
fn one_who_speaks_under_another_name_than_the_transport_knows_is_refused() {
    let world = intruder(|_, _, myself| myself.node = "somebody".parse().expect("a name"));
    assert_refused_on_both_sides(
        &world,
        RefusalKind::Impostor,
        "node 'node-2' speaks as 'somebody'",
    );
}

#[test]
fn a_generation_years_ahead_is_refused() {
    let world = intruder(|_, _, myself| myself.generation = Generation(u64::MAX - 1));
    assert_refused_on_both_sides(&world, RefusalKind::FutureGeneration, "years ahead");
}

#[test]
fn a_full_roster_refuses_and_makes_room_of_those_who_are_gone() {
    let mut world = world(4, 0.0, 41);
    world.config.members_max = 2;
    (0..3).for_each(|host| world.start(host));
    world.run_for(seconds(5));
    world.start(3);
    world.run_for(seconds(5));
    assert!(
        refused_by(&world, 3, Duration::ZERO)
            .iter()
            .any(|(kind, _)| *kind == RefusalKind::Full)
    );
    world.kill(2);
    world.run_for(seconds(10));
    assert_eq!(world.standing(0, 3), Some(Standing::Up));
    assert_eq!(world.standing(0, 2), None, "it made room");
}

/// A clock that was set back, or the same process started twice within a millisecond.
#[test]
fn a_generation_that_is_not_above_the_earlier_ones_is_replaced_by_one_that_is() {
    for (hosts, back_ms, away) in [(5, 0, 1), (5, 3_600_000, 1), (12, 3_600_000, 60)] {
        let mut world = settled(hosts, 0.0, 42);
        let before = world.gossip(2).identity().generation;
        world.kill(2);
        world.run_for(seconds(away));
        let generation = Generation(before.0 - back_ms);
        let myself = gossip::Myself {
            generation,
            ..world.myself(2)
        };
        world.start_as(2, config(), myself);
        let rounds = world.rounds_until(20, World::is_converged);
        println!("back by {back_ms} ms: {rounds:?} rounds");
        assert!(rounds.is_some());
        assert!(world.gossip(2).identity().generation > before);
    }
}

#[test]
fn removed_keys_stay_removed_even_for_one_who_was_away_for_longer_than_tombstones_live() {
    let mut world = world(6, 0.0, 43);
    world.config.tombstone_grace = seconds(10);
    world.start_all();
    assert!(world.rounds_until(20, World::is_converged).is_some());
    let (away, author) = (4, world.hosts[1].name.clone());
    let other: Key = "size".parse().expect("a key");
    for (key, value) in [(key(), "blue"), (other.clone(), "large")] {
        assert_eq!(
            world
                .gossip_mut(1)
                .set(key, Bytes::from_static(value.as_bytes())),
            Ok(())
        );
    }
    world.run_for(seconds(3));
    assert_eq!(world.gossip(away).values(&author).count(), 2);
    let rest: Vec<usize> = (0..6).filter(|host| *host != away).collect();
    world.network.part(&[away], &rest);
    world.gossip_mut(1).unset(&key());
    world.run_for(seconds(60));
    assert_eq!(
        world.gossip(away).values(&author).count(),
        2,
        "it does not know yet"
    );
    world.network.heal();
    world.run_for(seconds(10));
    for host in 0..6 {
        let keys: Vec<&Key> = world
            .gossip(host)
            .values(&author)
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, [&other], "host {host}");
    }
}
