//! The end of a log file.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// The last `lines` lines that a file has beyond byte `from`, of its last 64 KiB; none if it cannot be read.
pub(super) fn since(path: &Path, from: u64, lines: usize) -> Vec<String> {
    let text = read_end(path, from).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn read_end(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        from.max(end.saturating_sub(TAIL_BYTES_MAX)),
    ))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Bytes that a file has.
pub(super) fn len(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

const TAIL_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_after_a_mark_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old\none\ntwo\nthree\n").unwrap();
        assert_eq!(since(&path, 4, 2), ["two", "three"]);
        assert_eq!(since(&path, 4, 9), ["one", "two", "three"]);
        assert_eq!(since(&path, 99, 9), [""; 0]);
        assert_eq!(since(&dir.path().join("none"), 0, 9), [""; 0]);
    }
}
