//! A busy disk: files beside the nodes' data that are written and synced all the time.
//!
//! Nothing is pretended, and no right is needed. All nodes share the disk, so all feel it, as much as the machine makes
//! them; how long the load's own syncs took says how much that was.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::stop::{Stop, StopOnDrop};

/// How long the syncs of all loads took.
pub type Syncs = Arc<Mutex<Vec<Duration>>>;

/// Threads that write and sync until this is ended or dropped.
#[derive(Debug)]
pub struct BusyDisk {
    stop: StopOnDrop,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl BusyDisk {
    /// Begins to write below a directory, which gets a few files of at most 64 MiB each.
    ///
    /// # Errors
    /// If a file cannot be made, or the system gives no thread.
    pub fn start(dir: &Path, syncs: &Syncs) -> io::Result<Self> {
        let stop = StopOnDrop::default();
        let mut threads = Vec::new();
        for writer in 0..WRITERS {
            let path = dir.join(format!("busy-{writer}"));
            let load = Load::create(path, syncs.clone())?;
            let stop = stop.stop();
            threads.push(
                thread::Builder::new()
                    .name("busy-disk".to_owned())
                    .spawn(move || load.run(&stop))?,
            );
        }
        Ok(Self { stop, threads })
    }

    /// Ends the writing and deletes the files.
    ///
    /// # Errors
    /// If a file could not be written: then the disk was less busy than it should have been.
    pub fn finish(self) -> io::Result<()> {
        drop(self.stop);
        let joined = self.threads.into_iter().map(|thread| {
            thread
                .join()
                .expect("a load does not panic: it only writes and reports errors")
        });
        joined.collect()
    }
}

struct Load {
    path: PathBuf,
    file: File,
    syncs: Syncs,
}

impl Load {
    fn create(path: PathBuf, syncs: Syncs) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Self { path, file, syncs })
    }

    fn run(mut self, stop: &Stop) -> io::Result<()> {
        let written = self.write_until(stop);
        std::fs::remove_file(&self.path)?;
        written
    }

    fn write_until(&mut self, stop: &Stop) -> io::Result<()> {
        let block = vec![0xa5; BLOCK_BYTES];
        let mut at = 0;
        while !stop.within(Duration::ZERO) {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(&block)?;
            let begun = Instant::now();
            self.file.sync_all()?;
            let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
            if syncs.len() < SYNCS_MAX {
                syncs.push(begun.elapsed());
            }
            at = (at + BLOCK_BYTES as u64) % FILE_BYTES;
        }
        Ok(())
    }
}

const WRITERS: usize = 3;
const BLOCK_BYTES: usize = 4 * 1024 * 1024;
const FILE_BYTES: u64 = 64 * 1024 * 1024;
const SYNCS_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_disk_syncs_until_it_is_ended_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let syncs = Syncs::default();
        let disk = BusyDisk::start(dir.path(), &syncs).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while syncs.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "no sync within a minute");
            thread::yield_now();
        }
        disk.finish().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
