//! What ends a node: a signal, an operator's word, or a shard that ended by itself.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
};

/// The signals that ask a node to stop.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they do not end the process.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Why a node ends.
pub(super) enum StopReason {
    /// A signal asked for it.
    Stop,
    /// An operator has it leave.
    Leave,
    /// A shard ended by itself.
    ShardEnded(u16),
}

/// Waits for a reason to end.
pub(super) async fn until_stopped(
    mut signals: Signals,
    ended: &mut mpsc::UnboundedReceiver<u16>,
    leave: &Notify,
) -> StopReason {
    tokio::select! {
        biased;
        shard = ended.recv() => StopReason::ShardEnded(shard.unwrap_or_default()),
        _ = signals.interrupt.recv() => StopReason::Stop,
        _ = signals.terminate.recv() => StopReason::Stop,
        () = leave.notified() => StopReason::Leave,
    }
}
