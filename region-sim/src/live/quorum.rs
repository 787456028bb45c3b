//! Waiting until a node meets its levels, and until all nodes have met each other: one that has just started serves, and has yet to meet
//! the others.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use node::status::{NodeState, NodeStatus, Status};
use tokio::time::{Instant, sleep};

use super::{
    seat::{Phase, Seat},
    topology::Topology,
};

/// All nodes of a cluster, and how many of a region hold each key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seats<'a> {
    pub(super) all: &'a [Arc<Seat>],
    pub(super) topology: &'a Topology,
}

/// Waits until a node says that it can meet its default levels; not for longer than is usual, and not where too few nodes of its
/// region run. Gives whether it says that it cannot, which is no error: a cluster in which much is dead can be started, too.
pub(super) async fn lacks_levels(seats: Seats<'_>, seat: &Arc<Seat>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let life = seat.life();
        let http = life.doors.map(|doors| doors.http);
        match (life.phase, http) {
            (Phase::Ready, Some(http)) => match ask(http).await {
                Health::Ready | Health::Silent => return false,
                Health::NotYet => {}
            },
            _ => return false,
        }
        if Instant::now() >= until || !has_majority(seats, seat) {
            return true;
        }
        sleep(LOOK).await; // another process: there is no event to wait for
    }
}

/// Waits until a node holds sessions with every other that serves, each way, and believes it to live, so that every level can be met at
/// once; not beyond a moment. Gives whether it does not, which is no error: links may be as bad as they were asked for.
pub(super) async fn lacks_peers(seats: Seats<'_>, seat: &Arc<Seat>, until: Instant) -> bool {
    loop {
        let (life, others) = (seat.life(), others(seats, seat));
        let (Phase::Ready, Some(doors)) = (life.phase, life.doors) else {
            return false;
        };
        if has_met(doors.http, others).await.unwrap_or(true) {
            return false;
        }
        if Instant::now() >= until {
            return true;
        }
        sleep(LOOK_PEERS).await; // another process: there is no event to wait for
    }
}

fn others(seats: Seats<'_>, seat: &Seat) -> Vec<String> {
    let others = seats.all.iter().filter(|other| other.index != seat.index);
    let serving = others.filter(|other| other.life().phase == Phase::Ready);
    serving.map(|other| other.name.clone()).collect()
}

/// What a node says of others; nothing if it says nothing.
async fn has_met(http: SocketAddr, others: Vec<String>) -> Option<bool> {
    let get = move || -> Option<bool> {
        let status: Status = serde_json::from_str(&page(http, "/v1/status")?).ok()?;
        let metrics = page(http, "/metrics")?;
        let is_met = |name: &String| {
            let is_up =
                |node: &NodeStatus| node.name.as_str() == name && node.state == NodeState::Up;
            status.nodes.iter().any(is_up) && sessions(&metrics, name) >= EACH_WAY
        };
        Some(others.iter().all(is_met))
    };
    tokio::task::spawn_blocking(get).await.ok()?
}

/// The sessions that are open to a node, by the metrics of another.
fn sessions(metrics: &str, name: &str) -> f64 {
    let labelled = format!("meridian_peer_sessions{{node=\"{name}\"}} ");
    let counts = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(&labelled));
    counts.filter_map(|count| count.parse::<f64>().ok()).sum()
}

fn page(http: SocketAddr, path: &str) -> Option<String> {
    let mut response = agent().get(format!("http://{http}{path}")).call().ok()?;
    response.body_mut().read_to_string().ok()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(1)))
        .build()
        .into()
}

fn has_majority(seats: Seats<'_>, seat: &Seat) -> bool {
    let region = || seats.all.iter().filter(|other| other.region == seat.region);
    let living = region()
        .filter(|other| other.life().phase == Phase::Ready)
        .count();
    let nodes = region().count();
    // A majority lives where fewer than half of them may be among those that do not.
    let replicas = usize::from(seats.topology.replicas(&seat.region));
    let spare = replicas.saturating_sub(1) / 2;
    living + spare >= nodes
}

/// What a node says of its health.
enum Health {
    Ready,
    NotYet,
    /// Nothing: its door was open before it said that it serves, so it has ended or stands still.
    Silent,
}

async fn ask(http: SocketAddr) -> Health {
    let get = move || match agent().get(format!("http://{http}/health/ready")).call() {
        Ok(_) => Health::Ready,
        Err(ureq::Error::StatusCode(_)) => Health::NotYet,
        Err(_) => Health::Silent,
    };
    tokio::task::spawn_blocking(get)
        .await
        .unwrap_or(Health::Silent)
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks at what costs a node more to say.
const LOOK_PEERS: Duration = Duration::from_millis(100);
/// Sessions between two nodes when all is well.
const EACH_WAY: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_off_the_metrics_of_the_node_that_is_asked() {
        let metrics = "# TYPE meridian_peer_sessions gauge\nmeridian_peer_sessions{node=\"us-1\"} 2\nmeridian_peer_sessions{node=\"us-10\"} 1\n";
        for (name, count) in [("us-1", 2.0), ("us-10", 1.0), ("us-2", 0.0)] {
            assert!(
                (sessions(metrics, name) - count).abs() < f64::EPSILON,
                "{name}"
            );
        }
    }
}
