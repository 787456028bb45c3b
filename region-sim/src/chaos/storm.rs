//! Carries a schedule through on a cluster: each fault begins and is put right at its time, whatever the others do.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    disk::{BusyDisk, Syncs},
    fault::Fault,
    schedule::{Schedule, Strike},
};
use crate::link::Loss;
use crate::live::{Change, Cluster, Error, Limit};

/// A fault as it was, which a verb that takes its time makes later than planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Wound {
    /// What it was.
    pub fault: Fault,
    /// When it began, since the storm did.
    pub began: Duration,
    /// When it was put right: a node that was dead is ready again.
    pub ended: Option<Duration>,
    /// Why it could not be made or put right.
    pub error: Option<String>,
}

/// What strikes now and what has struck.
#[derive(Debug, Default)]
pub struct Wounds(Mutex<BTreeMap<usize, Wound>>);

impl Wounds {
    /// All so far, in the order of the schedule.
    pub fn all(&self) -> Vec<Wound> {
        let wounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wounds.values().cloned().collect()
    }

    fn begin(&self, index: usize, fault: &Fault, began: Duration) {
        let wound = Wound {
            fault: fault.clone(),
            began,
            ended: None,
            error: None,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, wound);
    }

    fn end(&self, index: usize, ended: Duration, error: Option<String>) {
        let mut wounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wound) = wounds.get_mut(&index) {
            wound.ended = Some(ended);
            wound.error = error;
        }
    }
}

/// What faults strike.
#[derive(Debug, Clone)]
pub struct Target {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Round trip time between regions while nothing is wrong.
    pub rtt: Duration,
    /// How long a busy disk's own syncs took.
    pub syncs: Syncs,
}

/// Makes every strike, and returns when the last one is put right.
pub async fn rage(schedule: &Schedule, target: &Target, begun: Instant, wounds: &Arc<Wounds>) {
    let mut strikes = JoinSet::new();
    for (index, strike) in schedule.strikes.iter().cloned().enumerate() {
        let (target, wounds) = (target.clone(), wounds.clone());
        strikes.spawn(async move { make(index, strike, target, begun, &wounds).await });
    }
    while strikes.join_next().await.is_some() {}
}

async fn make(index: usize, strike: Strike, target: Target, begun: Instant, wounds: &Wounds) {
    tokio::time::sleep_until((begun + strike.begins).into()).await;
    wounds.begin(index, &strike.fault, begun.elapsed());
    let made = target.begin(&strike.fault).await;
    tokio::time::sleep_until((begun + strike.ends).into()).await;
    // Also where it was made in part only.
    let (disk, made) = match made {
        Ok(disk) => (disk, Ok(())),
        Err(e) => (None, Err(e)),
    };
    let ended = target.end(&strike.fault, disk).await;
    let error = made.and(ended).err().map(|e| e.to_string());
    wounds.end(index, begun.elapsed(), error);
}

impl Target {
    async fn begin(&self, fault: &Fault) -> Result<Option<BusyDisk>, Error> {
        let cluster = &self.cluster;
        match fault {
            Fault::Kill(node) => cluster.kill(node).await?,
            Fault::Pause(node) => cluster.pause(node).await?,
            Fault::Isolate(node) => cluster.isolate(node)?,
            Fault::Partition(a, Some(b)) => cluster.partition(a, b)?,
            Fault::Partition(a, None) => cluster.isolate(a)?,
            Fault::OneWay(from, to) => cluster.cut_one_way(from, to)?,
            Fault::RegionLoss(region) => {
                let kill = |node: String| {
                    let cluster = cluster.clone();
                    async move { cluster.kill(&node).await }
                };
                self.each_of(region, kill).await?;
            }
            Fault::Link(a, b, change) => cluster.link(a, b, *change)?,
            Fault::Skew(node, offset_ms) => cluster.skew(node, *offset_ms)?,
            Fault::Disk => {
                let disk = BusyDisk::start(cluster.dir(), &self.syncs);
                return disk.map(Some).map_err(disk_error);
            }
        }
        Ok(None)
    }

    async fn end(&self, fault: &Fault, disk: Option<BusyDisk>) -> Result<(), Error> {
        let cluster = &self.cluster;
        match fault {
            Fault::Kill(node) => cluster.restart(node).await,
            Fault::Pause(node) => cluster.resume(node).await,
            Fault::Isolate(node) => cluster.heal_around(node),
            Fault::Partition(a, Some(b)) => cluster.heal_between(a, b),
            Fault::Partition(a, None) => cluster.heal_around(a),
            Fault::OneWay(from, to) => cluster.mend_one_way(from, to),
            Fault::RegionLoss(region) => {
                let restart = |node: String| {
                    let cluster = cluster.clone();
                    async move { cluster.restart(&node).await }
                };
                self.each_of(region, restart).await
            }
            Fault::Link(a, b, _) => cluster.link(a, b, self.usual()),
            Fault::Skew(node, _) => cluster.skew(node, 0),
            Fault::Disk => match disk {
                // It ends behind a sync, for which the other strikes are not to wait.
                Some(disk) => tokio::task::spawn_blocking(|| disk.finish())
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
                    .map_err(disk_error),
                None => Ok(()),
            },
        }
    }

    /// Does something to every node of a region at once.
    async fn each_of<F>(&self, region: &str, verb: impl Fn(String) -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut verbs = JoinSet::new();
        for entry in self
            .cluster
            .nodes()
            .into_iter()
            .filter(|entry| entry.region == region)
        {
            verbs.spawn(verb(entry.name));
        }
        let mut result = Ok(());
        while let Some(done) = verbs.join_next().await {
            result = result.and(done.unwrap_or(Err(Error::GoingDown)));
        }
        result
    }

    /// A link between regions while nothing is wrong.
    fn usual(&self) -> Change {
        Change {
            rtt: Some(self.rtt),
            jitter: Some(Duration::ZERO),
            loss: Some(Loss::NONE),
            rate: Some(Limit::Off),
        }
    }
}

fn disk_error(source: io::Error) -> Error {
    Error::Io {
        what: "keep the disk busy".to_owned(),
        source,
    }
}
