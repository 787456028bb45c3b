//! Goal: with `consistency.sloppy` a region takes every write while a majority of some keys' replicas is dead, and the stand-ins
//! hand everything back when they return.
//! Method: five nodes, three replicas, two of them killed; keys of many partitions, some of which have one living replica left.

use tests::{client::Value, world::World};

#[test]
fn writes_go_on_while_two_of_three_replicas_are_dead_and_are_handed_back() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us"]).nodes(5).replicas(3);
        builder.set("consistency.sloppy", "true")
    });
    let nodes = world.nodes();
    let (living, dead) = nodes.split_at(3);
    for node in dead {
        world.kill(node);
    }
    for (node, dead) in living
        .iter()
        .flat_map(|node| dead.iter().map(move |dead| (node, dead)))
    {
        world.await_missed(node, dead);
    }

    let mut client = world.client(&living[0]);
    let mut refused = 0;
    for number in 0..KEYS {
        let (key, value) = (format!("key:{number}"), number.to_string());
        assert_eq!(
            client.call(&["SET", &key, &value]),
            Value::Simple("OK".into())
        );
        let read = client.call(&["GET", &key]);
        refused += usize::from(matches!(read, Value::Error(text) if text.starts_with("NOQUORUM ")));
    }
    assert!(
        refused > 0,
        "some keys have one living replica, which is not enough for a read"
    );

    dead.iter().for_each(|node| world.restart(node));
    world.await_connected();
    world.await_no_hints();
    for node in &nodes {
        let mut client = world.client(node);
        for number in 0..KEYS {
            let value = client.text(&["GET", &format!("key:{number}")]);
            assert_eq!(value, Some(number.to_string()), "through {node}");
        }
    }
}

const KEYS: usize = 60;
