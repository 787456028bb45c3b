mod common;
use common::*;
use gossip::*;
use std::time::Duration;
fn env(k: &str, d: f64) -> f64 {
    std::env::var(k)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(d)
}
#[test]
fn exp() {
    let n = env("N", 50.0) as usize;
    for loss in [0.0, 0.05, 0.2] {
        if std::env::var("LOSS").is_ok() && env("LOSS", 0.0) != loss {
            continue;
        }
        let t = std::time::Instant::now();
        let far = if std::env::var("LAN").is_ok() {
            network::Link::new(1, 1, loss)
        } else {
            network::Link::new(40, 10, loss)
        };
        let net = network::Network::new(network::Link::new(1, 1, loss), far, 3, 5);
        let mut c = config();
        c.phi_ask = env("ASK", c.phi_ask);
        c.phi_local = env("PL", c.phi_local);
        c.phi_remote = env("PR", c.phi_remote);
        c.fanout = env("F", c.fanout as f64) as usize;
        c.window = env("W", c.window as f64) as usize;
        c.deviation_floor = Duration::from_micros(
            (env("DF", c.deviation_floor.as_micros() as f64 / 1000.0) * 1000.0) as u64,
        );
        let mut w = world::World::new(n, net, c, 9);
        w.start_all();
        let r = w.rounds_until(200, |w| w.is_converged());
        w.run_for(seconds(env("WARM", 20.0) as u64));
        let begin = w.now();
        let bytes: u64 = w
            .running()
            .iter()
            .map(|h| w.gossip(*h).counters().bytes_sent)
            .sum();
        let dg: u64 = w
            .running()
            .iter()
            .map(|h| w.gossip(*h).counters().datagrams_sent)
            .sum();
        let quiet = env("QUIET", 120.0);
        w.run_for(Duration::from_secs_f64(quiet));
        let bytes2: u64 = w
            .running()
            .iter()
            .map(|h| w.gossip(*h).counters().bytes_sent)
            .sum();
        let dg2: u64 = w
            .running()
            .iter()
            .map(|h| w.gossip(*h).counters().datagrams_sent)
            .sum();
        let all: Vec<usize> = (0..n).collect();
        let s = w.suspicions(begin, &all);
        let rounds = quiet / 0.2 * n as f64;
        let mut times = vec![];
        for k in 0..env("KILLS", 10.0) as usize {
            let v = 2 + (k * 7) % (n - 2);
            w.run_for(Duration::from_millis(37 * k as u64));
            let begin = w.now();
            w.kill(v);
            w.run_for(seconds(6));
            let name = w.hosts[v].name.clone();
            times.extend(w.reports.iter().filter(|(at, _, e)| *at >= begin && matches!(e, Event::Believed(v) if v.node == name && v.standing == Standing::Suspect)).map(|(at, ..)| (*at - begin).as_millis()));
            w.hosts[v].directory += 0;
            w.start(v);
            w.run_for(seconds(10));
        }
        let s2 = w.suspicions(begin, &all) - times.len();
        times.sort();
        println!(
            "n {n} loss {loss}: conv {r:?} false quiet {s} ({:.2}/node-hour) later {s2} | {} p50 {:?} p90 {:?} p99 {:?} max {:?} | bytes/round {:.0} dg/round {:.1} | {:?}",
            s as f64 / (n as f64 * quiet / 3600.0),
            times.len(),
            times.get(times.len() / 2),
            times.get(times.len() * 9 / 10),
            times.get(times.len() * 99 / 100),
            times.last(),
            (bytes2 - bytes) as f64 / rounds,
            (dg2 - dg) as f64 / rounds,
            t.elapsed()
        );
    }
}
#[test]
fn diag() {
    for loss in [0.0, 0.2] {
        let net = network::Network::new(
            network::Link::new(1, 1, loss),
            network::Link::new(40, 10, loss),
            3,
            5,
        );
        let mut c = config();
        c.fanout = env("F", c.fanout as f64) as usize;
        let mut w = world::World::new(50, net, c, 9);
        w.start_all();
        w.run_for(seconds(60));
        let (mut m, mut d, mut k) = (0.0, 0.0, 0.0);
        for h in 0..50 {
            for (a, b) in w.gossip(h).estimates() {
                m += a;
                d += b;
                k += 1.0;
            }
        }
        println!(
            "d loss {loss} mean {:.0} dev {:.0}",
            m / k / 1000.0,
            d / k / 1000.0
        );
        let mut lag = vec![];
        let mut sil = vec![];
        for v in 2..20 {
            w.run_for(millis(731));
            let begin = w.now();
            w.kill(v);
            w.run_for(millis(1500));
            let name = w.hosts[v].name.clone();
            for h in w.running() {
                if let Some(x) = w.gossip(h).member(&name) {
                    lag.push((w.now() - begin).as_millis() as i64 - x.silence.as_millis() as i64);
                }
            }
            sil.extend(w.reports.iter().filter(|(at, _, e)| *at >= begin && matches!(e, Event::Believed(v) if v.node == name && v.standing == Standing::Suspect)).map(|(at, ..)| (*at - begin).as_millis()));
        }
        lag.sort();
        sil.sort();
        println!(
            "d   last news after crash p10 {} p50 {} p90 {} p99 {}; detect p50 {}",
            lag[lag.len() / 10],
            lag[lag.len() / 2],
            lag[lag.len() * 9 / 10],
            lag[lag.len() * 99 / 100],
            sil[sil.len() / 2]
        );
    }
}
