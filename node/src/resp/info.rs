//! INFO: what the node says of itself, in Redis's sections.

use std::{collections::BTreeSet, fmt::Write as _, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;

use super::{backend::Backend, server_state::ServerState};
use crate::core::reply::Reply;

/// The version of Redis whose replies these are.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// The sections that an INFO asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sections {
    everything: bool,
    /// Lower case.
    named: BTreeSet<String>,
}

type Fields = Vec<(String, String)>;

impl Sections {
    /// From the arguments: none is the default, `all` and `everything` is all, names are taken in any case.
    pub(super) fn asked<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut sections = Self {
            everything: false,
            named: BTreeSet::new(),
        };
        let mut any = false;
        for argument in arguments {
            any = true;
            // Unknown names are ignored, so there is no need to remember what cannot be one.
            let name = String::from_utf8_lossy(&argument[..argument.len().min(NAME_BYTES_MAX)]);
            match name.to_ascii_lowercase().as_str() {
                "all" | "everything" => sections.everything = true,
                "default" => sections.add_default(),
                name => drop(sections.named.insert(name.to_owned())),
            }
        }
        if !any {
            sections.add_default();
        }
        sections
    }

    fn add_default(&mut self) {
        self.named
            .extend(DEFAULT.iter().map(|name| (*name).to_owned()));
    }

    fn wants(&self, section: &str) -> bool {
        self.everything || self.named.contains(&section.to_ascii_lowercase())
    }

    /// The text of all sections asked for.
    pub(super) async fn report<B: Backend>(&self, backend: &B, lobby: &ServerState) -> Reply {
        let keys = if self.wants("Keyspace") {
            backend.key_count().await.unwrap_or(0)
        } else {
            0
        };
        let mut of_node = backend.info();
        let mut text = String::new();
        for section in SECTIONS {
            let mut fields = if self.wants(section) {
                own_fields(section, lobby, backend, keys)
            } else {
                Vec::new()
            };
            for (name, more) in &mut of_node {
                if *name == section {
                    fields.append(more);
                }
            }
            self.print(&mut text, section, &fields);
        }
        for (section, fields) in of_node {
            if !SECTIONS.contains(&section) {
                self.print(&mut text, section, &fields);
            }
        }
        Reply::Verbatim(Bytes::from(text))
    }

    fn print(&self, text: &mut String, section: &str, fields: &Fields) {
        if !self.wants(section) {
            return;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a string does not fail.
        let _ = write!(text, "# {section}\r\n");
        for (name, value) in fields {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
}

/// What this side of the node knows of a section.
fn own_fields<B: Backend>(section: &str, lobby: &ServerState, backend: &B, keys: u64) -> Fields {
    match section {
        "Server" => server(lobby, backend.wall_us()),
        "Clients" => clients(lobby),
        "Memory" => memory(),
        "Persistence" => named(&[("loading", "0"), ("async_loading", "0")]),
        "Stats" => stats(lobby),
        "Replication" => named(&[
            ("role", "master"),
            ("connected_slaves", "0"),
            ("master_failover_state", "no-failover"),
            ("master_repl_offset", "0"),
        ]),
        "CPU" => cpu(),
        "Commandstats" => lobby.meters.command_stats(),
        "Cluster" => named(&[("cluster_enabled", "0")]),
        "Keyspace" if keys > 0 => {
            vec![("db0".to_owned(), format!("keys={keys},expires=0,avg_ttl=0"))]
        }
        _ => Vec::new(),
    }
}

fn server(lobby: &ServerState, wall_us: u64) -> Fields {
    let up = lobby.since.elapsed().as_secs();
    let mut fields = named(&[
        ("redis_version", REDIS_VERSION),
        ("meridian_version", env!("CARGO_PKG_VERSION")),
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", "0"),
        ("redis_mode", "standalone"),
        ("os", std::env::consts::OS),
        (
            "arch_bits",
            if cfg!(target_pointer_width = "64") {
                "64"
            } else {
                "32"
            },
        ),
        ("multiplexing_api", "tokio"),
    ]);
    fields.extend([
        field("process_id", std::process::id()),
        field("tcp_port", lobby.port.load(Ordering::Relaxed)),
        field("server_time_usec", wall_us),
        field("uptime_in_seconds", up),
        field("uptime_in_days", up / 86_400),
        field("hz", 10),
        field("configured_hz", 10),
        field("io_threads_active", 0),
    ]);
    fields
}

fn clients(lobby: &ServerState) -> Fields {
    vec![
        field("connected_clients", lobby.clients.count()),
        field("cluster_connections", 0),
        field("maxclients", lobby.limits.clients),
        field("blocked_clients", 0),
        field("tracking_clients", 0),
        field("clients_in_timeout_table", 0),
    ]
}

fn stats(lobby: &ServerState) -> Fields {
    vec![
        field("total_connections_received", lobby.clients.received()),
        field("total_commands_processed", lobby.meters.processed()),
        field("total_net_input_bytes", lobby.traffic.received()),
        field("total_net_output_bytes", lobby.traffic.sent()),
        field("rejected_connections", lobby.clients.rejected()),
        field("evicted_keys", 0),
        field("pubsub_channels", 0),
        field("pubsub_patterns", 0),
        field("total_error_replies", lobby.meters.refused()),
    ]
}

fn memory() -> Fields {
    let (used, peak) = resident_bytes().unwrap_or((0, 0));
    vec![
        field("used_memory", used),
        field("used_memory_human", human(used)),
        field("used_memory_rss", used),
        field("used_memory_rss_human", human(used)),
        field("used_memory_peak", peak),
        field("used_memory_peak_human", human(peak)),
        field("maxmemory", 0),
        field("maxmemory_human", "0B"),
        field("maxmemory_policy", "noeviction"),
        field("mem_fragmentation_ratio", "1.00"),
        field("mem_allocator", "libc"),
        field("lazyfree_pending_objects", 0),
    ]
}

fn cpu() -> Fields {
    let (user, system) = processor_time().unwrap_or_default();
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    vec![
        field("used_cpu_sys", seconds(system)),
        field("used_cpu_user", seconds(user)),
        field("used_cpu_sys_children", seconds(Duration::ZERO)),
        field("used_cpu_user_children", seconds(Duration::ZERO)),
    ]
}

/// Resident memory now and at its highest. `None` where the system does not tell.
fn resident_bytes() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("VmRSS:")? * 1024, kib("VmHWM:")? * 1024))
}

/// Processor time in user and in system mode. `None` where the system does not tell.
fn processor_time() -> Option<(Duration, Duration)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold blanks; what follows it begins with the third field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Some((time(ticks(14)?), time(ticks(15)?)))
}

/// `1.50K`, as Redis writes bytes for people.
fn human(bytes: u64) -> String {
    let units = [("G", 1u64 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    let unit = units.into_iter().find(|(_, size)| bytes >= *size);
    match unit {
        Some((name, size)) => format!("{:.2}{name}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn field(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn named(fields: &[(&str, &str)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| field(name, value))
        .collect()
}

/// In the order in which they are shown.
const SECTIONS: [&str; 13] = [
    "Server",
    "Clients",
    "Memory",
    "Persistence",
    "Stats",
    "Replication",
    "CPU",
    "Modules",
    "Commandstats",
    "Errorstats",
    "Latencystats",
    "Cluster",
    "Keyspace",
];

/// What INFO without arguments shows.
const DEFAULT: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
    "meridian",
];

/// Longer than any section's name.
const NAME_BYTES_MAX: usize = 64;

/// Linux counts processor time in ticks of this many per second in what it tells programs.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Sections {
        Sections::asked(words.iter().map(|word| word.as_bytes()))
    }

    #[test]
    fn sections_are_named_in_any_case_and_alone_or_together() {
        assert!(asked(&[]).wants("CPU") && !asked(&[]).wants("Commandstats"));
        assert!(asked(&["commandSTATS"]).wants("Commandstats"));
        assert!(!asked(&["cpu", "sentinel"]).wants("Memory"));
        assert!(asked(&["cpu", "all"]).wants("Commandstats"));
        assert!(!asked(&["cpu", "default"]).wants("Commandstats"));
        assert!(asked(&["everything"]).wants("Latencystats"));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let (now, peak) = resident_bytes().expect("Linux tells");
        assert!(now > 0 && peak >= now);
        assert!(processor_time().is_some());
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(12), "12B");
    }
}
