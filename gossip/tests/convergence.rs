//! Goal: views converge in few rounds, whatever the network does.
//!
//! Method: worlds of 3, 50 and 500 hosts in virtual time.

mod common;

use common::{settled, world, world::World};

#[test]
fn clusters_of_all_sizes_find_each_other() {
    for (hosts, loss) in [(3, 0.0), (3, 0.3), (50, 0.0), (50, 0.3), (500, 0.0)] {
        let mut world = world(hosts, loss, 1);
        world.start_all();
        let t = std::time::Instant::now();
        let rounds = world.rounds_until(100, World::is_converged);
        println!(
            "{hosts} hosts, loss {loss}: {rounds:?} rounds {:?}",
            t.elapsed()
        );
    }
}

#[test]
fn quiet() {
    for (hosts, loss) in [(3, 0.0), (50, 0.0), (50, 0.2), (500, 0.0)] {
        let t = std::time::Instant::now();
        let mut world = settled(hosts, loss, 2);
        let begin = world.now();
        let c0 = world.gossip(7 % hosts).counters();
        world.run_for(std::time::Duration::from_secs(20));
        let c1 = world.gossip(7 % hosts).counters();
        let all: Vec<usize> = (0..hosts).collect();
        println!(
            "{hosts} {loss}: suspicions {} bytes/round {} datagrams/round {} {:?}",
            world.suspicions(begin, &all),
            (c1.bytes_sent - c0.bytes_sent) / (c1.rounds - c0.rounds),
            (c1.datagrams_sent - c0.datagrams_sent) as f64 / (c1.rounds - c0.rounds) as f64,
            t.elapsed()
        );
        let begin = world.now();
        let victim = hosts / 2;
        world.kill(victim);
        world.run_for(std::time::Duration::from_secs(10));
        let mut times: Vec<u128> = world
            .reports
            .iter()
            .filter(|(at, _, e)| {
                *at >= begin
                    && matches!(e, gossip::Event::Believed(v) if v.node == world.hosts[victim].name && v.standing == gossip::Standing::Suspect)
            })
            .map(|(at, ..)| (*at - begin).as_millis())
            .collect();
        times.sort();
        println!(
            "   detected by {} p50 {:?} p99 {:?}",
            times.len(),
            times.get(times.len() / 2),
            times.get(times.len() * 99 / 100)
        );
    }
}
