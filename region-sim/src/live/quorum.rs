//! Waiting until a node meets its levels: one that has just started serves, and has yet to meet the other replicas of its region.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    seat::{Phase, Seat},
    site::Site,
};

/// Waits until a node says that it can meet its default levels; not for longer than is usual, and not where too few nodes of its
/// region run. Gives whether it says that it cannot, which is no error: a cluster in which much is dead can be started, too.
pub(super) async fn lacks_levels(site: &Site, seat: &Arc<Seat>, patience: Duration) -> bool {
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
        if Instant::now() >= until || !has_majority(site, seat) {
            return true;
        }
        sleep(LOOK).await; // another process: there is no event to wait for
    }
}

fn has_majority(site: &Site, seat: &Seat) -> bool {
    let living = site
        .seats
        .iter()
        .filter(|other| other.region == seat.region && other.life().phase == Phase::Ready)
        .count();
    let nodes = site
        .seats
        .iter()
        .filter(|other| other.region == seat.region)
        .count();
    let replicas = usize::from(site.topology.replicas());
    let spare = replicas - (replicas / 2 + 1);
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
    let get = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(1)))
            .build()
            .into();
        match agent.get(format!("http://{http}/health/ready")).call() {
            Ok(_) => Health::Ready,
            Err(ureq::Error::StatusCode(_)) => Health::NotYet,
            Err(_) => Health::Silent,
        }
    };
    tokio::task::spawn_blocking(get)
        .await
        .unwrap_or(Health::Silent)
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
