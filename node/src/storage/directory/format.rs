//! The file `FORMAT`: what the folder is and in which version, readable by people and before RocksDB touches anything.
//!
//! Its one line is `meridian data directory, format N`. It is written once, whole, before the rows: a folder
//! without it is new, or not ours.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::{error::DirectoryError, lock, sync_folder};

/// Refuses a folder that holds anything but a node's data, without writing to it.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), DirectoryError> {
    if path.join(FILE).exists() {
        return Ok(());
    }
    let inaccessible = |source| DirectoryError::inaccessible(path, source);
    for entry in fs::read_dir(path).map_err(inaccessible)? {
        let name = entry.map_err(inaccessible)?.file_name();
        if !FOUND_IN_NEW_FOLDERS.iter().any(|known| name == *known) {
            return Err(DirectoryError::Foreign {
                path: path.to_owned(),
                entry: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Checks the folder's format, writing it where there is none yet.
pub(super) fn establish(path: &Path) -> Result<(), DirectoryError> {
    match fs::read_to_string(path.join(FILE)) {
        Ok(text) => check(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(path).map_err(|source| DirectoryError::inaccessible(path, source))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(foreign(path)),
        Err(source) => Err(DirectoryError::inaccessible(&path.join(FILE), source)),
    }
}

fn check(path: &Path, text: &str) -> Result<(), DirectoryError> {
    let version = text
        .strip_prefix(LINE)
        .and_then(|rest| rest.trim().parse().ok());
    match version {
        Some(KNOWN) => Ok(()),
        Some(found) if found > KNOWN => Err(DirectoryError::NewerFormat {
            path: path.to_owned(),
            found,
            known: KNOWN,
        }),
        Some(_) | None => Err(foreign(path)),
    }
}

/// Written aside and renamed: the file is whole or not there.
fn write(path: &Path) -> io::Result<()> {
    let aside = path.join(ASIDE);
    let mut file = File::create(&aside)?;
    writeln!(file, "{LINE}{KNOWN}")?;
    file.sync_all()?;
    fs::rename(&aside, path.join(FILE))?;
    sync_folder(Some(path))
}

fn foreign(path: &Path) -> DirectoryError {
    DirectoryError::Foreign {
        path: path.to_owned(),
        entry: FILE.to_owned(),
    }
}

const FILE: &str = "FORMAT";
const ASIDE: &str = "FORMAT.new";
/// Persisted: keep stable.
const LINE: &str = "meridian data directory, format ";
/// The format that this binary writes, and the newest that it reads.
const KNOWN: u32 = 1;
/// What an attempt to create the directory leaves behind where it dies before `FORMAT` is written, and what the root of a
/// filesystem holds. Not the rows: with them and without `FORMAT` the folder was tampered with.
const FOUND_IN_NEW_FOLDERS: [&str; 3] = [lock::FILE, ASIDE, "lost+found"];
