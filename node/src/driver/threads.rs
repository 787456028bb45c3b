//! The threads beside the shards that watch over storage.

use std::thread;

use super::{
    RunError,
    context::Node,
    watch::{Running, Watch, running, sync_log},
};
use crate::config::{Config, Fsync};

/// Threads beside the shards: they end when `running` is dropped.
pub(super) struct Threads {
    pub(super) running: Running,
    pub(super) handles: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(config: &Config, node: &Node) -> Result<Self, RunError> {
        let (sender, receiver) = running();
        let watch = Watch {
            node: node.clone(),
            data_dir: config.node.data_dir.clone(),
            min_free_bytes: config.storage.min_free_disk.bytes(),
            running: receiver.clone(),
        };
        let mut handles = vec![
            thread::Builder::new()
                .name("storage-watch".to_owned())
                .spawn(move || watch.run())?,
        ];
        if config.storage.fsync == Fsync::Interval {
            let (node, interval) = (node.clone(), config.storage.fsync_interval);
            let sync = move || {
                sync_log(
                    &node.inner().storage,
                    interval,
                    &node.inner().health,
                    &receiver,
                )
            };
            handles.push(
                thread::Builder::new()
                    .name("log-sync".to_owned())
                    .spawn(sync)?,
            );
        }
        Ok(Self {
            running: sender,
            handles,
        })
    }
}
