//! What lies where in a cluster's directory, and whose it is.
//!
//! ```text
//!   DIR/topology.json     the cluster's shape; it marks the directory as ours
//!       cluster.json      where everything is now, for scripts
//!       launcher.lock     held by the live launcher, with its process id
//!       launcher.log      what a detached launcher says
//!       control.sock      where verbs go
//!       tls/              ca.pem ca.key us-1.pem us-1.key …
//!       nodes/us-1/       config.toml data/ log clock-offset
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    error::{Doing, Error},
    topology::Topology,
};

/// A cluster's directory.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

/// Proof that this process is the directory's launcher. Dropping it lets another be.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: Flock<File>,
}

impl Layout {
    /// The directory at `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).doing(|| format!("make {}", dir.display()))?;
        Self::existing(dir)
    }

    /// The directory at `dir`.
    ///
    /// # Errors
    /// If there is none.
    pub fn existing(dir: &Path) -> Result<Self, Error> {
        // Absolute, because nodes run in directories of their own.
        let dir = fs::canonicalize(dir).doing(|| format!("open {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where everything is now, for scripts.
    pub fn cluster_file(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// What a detached launcher says.
    pub fn launcher_log(&self) -> PathBuf {
        self.dir.join("launcher.log")
    }

    /// Where verbs go.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join(CONTROL_SOCKET)
    }

    /// Keys and certificates.
    pub fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }

    /// All that belongs to one node.
    pub fn node(&self, name: &str) -> NodeLayout {
        NodeLayout {
            dir: self.nodes().join(name),
        }
    }

    fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    fn topology_file(&self) -> PathBuf {
        self.dir.join("topology.json")
    }

    /// Takes the directory for a launcher: with `fresh` after deleting what an earlier one made there.
    pub(super) fn claim(&self, topology: &Topology, fresh: bool) -> Result<Claim, Error> {
        let claim = Claim {
            _lock: self.lock()?,
        };
        match self.read_topology()? {
            Some(_) if fresh => self.delete_ours()?,
            Some(there) if there != *topology => {
                let (there, asked) = (there.to_string(), topology.to_string());
                return Err(Error::OtherTopology {
                    dir: self.dir.clone(),
                    there,
                    asked,
                });
            }
            Some(_) => remove_file(&self.cluster_file())?,
            None => self.refuse_foreign()?,
        }
        // First of all, so that whatever is made next is known as ours.
        let text = serde_json::to_vec_pretty(topology).map_err(io::Error::from);
        replace_file(
            &self.topology_file(),
            &text.doing(|| "encode the topology".to_owned())?,
        )?;
        Ok(claim)
    }

    fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.dir.join("launcher.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.doing(|| format!("open {}", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)
                    .doing(|| format!("read {}", path.display()))?;
                return Err(Error::Running {
                    dir: self.dir.clone(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err((_, errno)) => return Err(errno).doing(|| format!("lock {}", path.display())),
        };
        let mut note_pid = || {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        note_pid().doing(|| format!("write {}", path.display()))?;
        Ok(lock)
    }

    fn read_topology(&self) -> Result<Option<Topology>, Error> {
        let path = self.topology_file();
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.doing(|| format!("read {}", path.display()))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| Error::NotOurs(path))
    }

    fn refuse_foreign(&self) -> Result<(), Error> {
        let ours = [self.nodes(), self.tls(), self.cluster_file()];
        ours.into_iter()
            .find(|path| path.exists())
            .map_or(Ok(()), |path| Err(Error::NotOurs(path)))
    }

    fn delete_ours(&self) -> Result<(), Error> {
        remove_file(&self.cluster_file())?;
        remove_dir(&self.nodes())?;
        remove_dir(&self.tls())?;
        // Last, so that a deletion that was interrupted can be repeated.
        remove_file(&self.topology_file())
    }
}

/// A node's part of a cluster's directory.
#[derive(Debug, Clone)]
pub struct NodeLayout {
    dir: PathBuf,
}

impl NodeLayout {
    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The node's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The node's data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the node says.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The file through which its clock is skewed.
    pub fn clock_offset(&self) -> PathBuf {
        self.dir.join("clock-offset")
    }
}

/// Writes a file whole or not at all: readers see the old contents or the new.
pub(super) fn replace_file(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    fs::write(&draft, contents)
        .and_then(|()| fs::rename(&draft, path))
        .doing(|| format!("write {}", path.display()))
}

pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    absent_is_fine(fs::remove_file(path)).doing(|| format!("delete {}", path.display()))
}

pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    absent_is_fine(fs::remove_dir_all(path)).doing(|| format!("delete {}", path.display()))
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The name of the control socket in a cluster's directory.
pub(super) const CONTROL_SOCKET: &str = "control.sock";

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(regions: &[&str]) -> Topology {
        let regions: Vec<String> = regions.iter().map(ToString::to_string).collect();
        Topology::new("demo", &regions, 1, None).unwrap()
    }

    #[test]
    fn a_directory_has_one_launcher_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let claim = layout.claim(&topology(&["us"]), false).unwrap();
        let refused = layout.claim(&topology(&["us"]), true);
        assert!(
            matches!(refused, Err(Error::Running { pid, .. }) if pid == std::process::id().to_string())
        );
        drop(claim);
        layout.claim(&topology(&["us"]), false).unwrap();
    }

    #[test]
    fn another_shape_is_refused_unless_the_old_one_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        drop(layout.claim(&topology(&["us"]), false).unwrap());
        let data = layout.node("us-1").data();
        fs::create_dir_all(&data).unwrap();
        assert!(matches!(
            layout.claim(&topology(&["eu"]), false),
            Err(Error::OtherTopology { .. })
        ));
        assert!(data.exists());
        drop(layout.claim(&topology(&["eu"]), true).unwrap());
        assert!(!data.exists());
    }

    #[test]
    fn fresh_deletes_only_what_was_made_here() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("diary"), "mine").unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        drop(layout.claim(&topology(&["us"]), true).unwrap());
        drop(layout.claim(&topology(&["us"]), true).unwrap());
        assert_eq!(fs::read(dir.path().join("diary")).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_with_foreign_contents_under_our_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("nodes")).unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        assert!(matches!(
            layout.claim(&topology(&["us"]), true),
            Err(Error::NotOurs(_))
        ));
        assert!(dir.path().join("nodes").exists());
    }
}
