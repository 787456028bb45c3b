//! Watches the ends of this node's certificates: a metric always, a log line when one comes near.

use std::{sync::Arc, time::Duration};

use super::clock::WallClock;
use crate::{
    metrics::CERTIFICATE_EXPIRES_SECONDS,
    tls::{Ending, Endings, Nearness},
};

/// Watches until it is dropped.
pub async fn watch(mut endings: Endings, clock: Arc<WallClock>) {
    loop {
        let now_s = i64::try_from(clock.wall_us() / 1_000_000).unwrap_or(i64::MAX);
        for ending in endings.all() {
            let left = ending.left_s(now_s) as f64;
            metrics::gauge!(CERTIFICATE_EXPIRES_SECONDS, "kind" => ending.role.name()).set(left);
        }
        for (ending, nearness) in endings.due(now_s) {
            tell(&ending, nearness, now_s);
        }
        let quiet = endings.quiet_for(now_s).unwrap_or(LOOK);
        tokio::time::sleep(quiet.clamp(LOOK_MIN, LOOK)).await;
    }
}

fn tell(ending: &Ending, nearness: Nearness, now_s: i64) {
    let (kind, file) = (ending.role.name(), ending.file.display());
    let days = ending.left_s(now_s) / (24 * 60 * 60);
    match nearness {
        Nearness::Far => {}
        Nearness::Month | Nearness::Day => tracing::warn!(
            kind, %file, days,
            "a certificate ends soon: peers will refuse this node then; issue a new one (`meridian tls issue`) and restart the node"
        ),
        Nearness::Over => tracing::warn!(
            kind, %file,
            "a certificate has ended: peers refuse new connections with it; issue a new one (`meridian tls issue`) and restart the node"
        ),
    }
}

/// How often the metric is brought up to date.
const LOOK: Duration = Duration::from_secs(60);
/// Clocks are read in whole seconds.
const LOOK_MIN: Duration = Duration::from_secs(1);
