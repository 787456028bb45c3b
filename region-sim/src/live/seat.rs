//! A node's place in the cluster: what it is, and the process that fills it, if one does.

use std::{fmt, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use node::names::RegionName;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use super::{config::Doors, error::Error, layout::NodeLayout, process::Process};

/// The place of one node.
#[derive(Debug)]
pub(super) struct Seat {
    pub index: usize,
    pub name: String,
    pub region: RegionName,
    pub layout: NodeLayout,
    /// Held by a verb from its first step to its last, so that two never interleave on a node.
    pub turn: Mutex<()>,
    life: watch::Sender<Life>,
    /// How often the node was ordered to end: a start that is under way is given up.
    ends: watch::Sender<u64>,
}

/// What fills a seat now.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub phase: Phase,
    pub process: Option<Process>,
    /// What the process runs, or the next one will.
    pub program: PathBuf,
    /// Where it listens, or last did.
    pub doors: Option<Doors>,
}

/// Where a node is in its life, as its launcher knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No process.
    Dead,
    /// A process that has not said that it is ready.
    Starting,
    /// Said that it is ready.
    Ready,
    /// Stopped by `pause`.
    Paused,
    /// Told to end.
    Stopping,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dead => "dead",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        })
    }
}

impl Seat {
    /// An empty seat of a node that runs `program`.
    pub fn new(
        index: usize,
        name: String,
        region: RegionName,
        layout: NodeLayout,
        program: PathBuf,
    ) -> Self {
        let life = Life {
            phase: Phase::Dead,
            process: None,
            program,
            doors: None,
        };
        Self {
            index,
            name,
            region,
            layout,
            turn: Mutex::default(),
            life: watch::Sender::new(life),
            ends: watch::Sender::new(0),
        }
    }

    /// Orders the node to end, also where its start has the turn: what does not become ready must not hold up who wants it gone.
    pub fn order_end(&self) {
        self.ends.send_modify(|ends| *ends += 1);
    }

    /// Hears of the orders to end from now on.
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    /// What fills it now.
    pub fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    /// A process is about to be started.
    pub fn prepare(&self) {
        self.life.send_modify(|life| life.phase = Phase::Starting);
    }

    /// A process is ready.
    pub fn fill(&self, process: Process, doors: Doors) {
        self.life.send_modify(|life| {
            life.phase = Phase::Ready;
            life.process = Some(process);
            life.doors = Some(doors);
        });
    }

    /// Has the next process run another program. Returns the one before.
    pub fn replace_program(&self, mut program: PathBuf) -> PathBuf {
        self.life
            .send_modify(|life| std::mem::swap(&mut life.program, &mut program));
        program
    }

    /// The process is gone. Returns the phase in which that happened; [`Seat::rest`] ends it.
    pub fn empty(&self) -> Phase {
        self.life.send_modify(|life| life.process = None);
        self.life.borrow().phase
    }

    /// All that had to be said about the end of the process was said.
    pub fn rest(&self) {
        self.life.send_modify(|life| life.phase = Phase::Dead);
    }

    /// The live process, which is going to be told to end; its death is no surprise from now on.
    pub fn dismiss(&self) -> Option<Process> {
        self.life.send_if_modified(|life| {
            let alive = life.process.is_some();
            if alive {
                life.phase = Phase::Stopping;
            }
            alive
        });
        self.life().process
    }

    /// Kills the process as fast as possible, without waiting. Returns whether there was one.
    pub fn kill_now(&self) -> bool {
        let process = self.dismiss();
        if let Some(process) = &process {
            process.signal_now(Signal::SIGKILL);
        }
        process.is_some()
    }

    /// Pauses the process, or lets it go on. Nothing changes if it already is so.
    pub async fn set_paused(&self, paused: bool) -> Result<(), Error> {
        let dead = || Error::Dead(self.name.clone());
        let process = self.life().process.ok_or_else(dead)?;
        let (phase, done) = match paused {
            true => (Phase::Paused, process.pause().await),
            false => (Phase::Ready, process.resume().await),
        };
        done.map_err(|e| {
            if matches!(e, Error::Dead(_)) {
                dead()
            } else {
                e
            }
        })?;
        self.life.send_if_modified(|life| {
            let alive = life.process.is_some();
            if alive {
                life.phase = phase;
            }
            alive
        });
        Ok(())
    }

    /// Waits until the seat is empty and everyone was told.
    pub async fn await_rest(&self) -> Result<(), Error> {
        let mut life = self.life.subscribe();
        let at_rest = life.wait_for(|life| life.phase == Phase::Dead);
        match timeout(REST_LIMIT, at_rest).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Timeout {
                what: format!("the end of {}", self.name),
                limit: REST_LIMIT,
            }),
        }
    }
}

const REST_LIMIT: Duration = Duration::from_secs(10);
