//! The file `meridian.lock`: held by the one process that has the directory open, and naming it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    process,
};

use fs4::fs_std::FileExt;

use super::error::DirectoryError;
use crate::names::NodeName;

/// A held lock. The system lets go of it when the file is closed, however the process ends.
pub(super) struct Lock(#[expect(dead_code, reason = "held open, not read")] File);

impl Lock {
    /// Takes the lock and writes who has it, or says who does.
    pub(super) fn take(folder: &Path, node: &NodeName) -> Result<Self, DirectoryError> {
        let path = folder.join(FILE);
        let inaccessible = |source| DirectoryError::inaccessible(&path, source);
        let mut file = open(&path).map_err(inaccessible)?;
        if !file.try_lock_exclusive().map_err(inaccessible)? {
            return Err(DirectoryError::Locked {
                path: folder.to_owned(),
                by: holder(&mut file).map_err(inaccessible)?,
            });
        }
        sign(&mut file, node).map_err(inaccessible)?;
        Ok(Self(file))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not truncated: the holder's name is in it.
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn holder(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text)?;
    match text.trim() {
        "" => Ok("another process".to_owned()),
        holder => Ok(holder.to_owned()),
    }
}

fn sign(file: &mut File, node: &NodeName) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "node {node}, process {}", process::id())
}

/// The file's name.
pub(super) const FILE: &str = "meridian.lock";
const HOLDER_BYTES_MAX: u64 = 256;
