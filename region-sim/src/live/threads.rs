//! Threads of a cluster's own: a caller that blocks must not hold up datagrams.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that may be dropped anywhere, also inside of another one.
#[derive(Debug)]
pub(super) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("region-sim")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// A way to give them work.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Takes the runtime out, once, to end it in order.
    pub fn take(&mut self) -> Option<Runtime> {
        self.runtime.take()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Relays are most of the work: one thread for each direction of a busy link.
const WORKERS: usize = 2;
