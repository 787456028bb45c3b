//! How much room the filesystem has left.

use std::{io, path::Path};

/// Bytes that this process may still write to the filesystem that holds `path` (what is reserved for root is not counted).
///
/// # Errors
/// The system's error where `path` does not exist or cannot be asked about.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let filesystem = nix::sys::statvfs::statvfs(path)?;
    Ok(filesystem
        .blocks_available()
        .saturating_mul(filesystem.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_free_space_and_a_missing_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        let missing = free_bytes(&folder.path().join("missing"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
