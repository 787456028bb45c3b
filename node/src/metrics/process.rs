//! What the operating system says of this process, asked at each scrape. Linux only: elsewhere memory and descriptors are not shown.

use std::{fs, sync::OnceLock, time::Instant};

use metrics::gauge;

/// Bytes of the process that are in RAM.
pub const RESIDENT_MEMORY_BYTES: &str = "meridian_process_resident_memory_bytes";
/// File descriptors that the process has open.
pub const OPEN_FDS: &str = "meridian_process_open_fds";
/// Seconds since the process began to record.
pub const UPTIME_SECONDS: &str = "meridian_process_uptime_seconds";
/// Always 1, with the label `version`.
pub const BUILD_INFO: &str = "meridian_build_info";

/// Counts the uptime from now; later calls change nothing.
pub fn start_clock() {
    STARTED.get_or_init(Instant::now);
}

/// Records what the process is like now.
// Prometheus knows doubles only: they are exact up to 8 PiB.
#[expect(clippy::cast_precision_loss)]
pub fn record() {
    if let Some(bytes) = resident_bytes() {
        gauge!(RESIDENT_MEMORY_BYTES).set(bytes as f64);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is the listing itself.
        gauge!(OPEN_FDS).set(descriptors.count().saturating_sub(1) as f64);
    }
    let started = STARTED.get_or_init(Instant::now);
    gauge!(UPTIME_SECONDS).set(started.elapsed().as_secs_f64());
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn resident_bytes() -> Option<u64> {
    parse_resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS:      1234 kB`, in bytes.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

static STARTED: OnceLock<Instant> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_of_the_process() {
        let status = "Name:\tmeridian\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse_resident(status), Some(2048 * 1024));
        assert_eq!(parse_resident("Name:\tmeridian\n"), None);
        assert_eq!(parse_resident("VmRSS:\tmany kB\n"), None);
    }
}
