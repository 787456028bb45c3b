//! CONFIG GET and SET: names that Redis clients and tools ask for.
//!
//! A node is configured by its file. What can be set here changes nothing; it is remembered and shown, so that tools
//! which set and restore such values work. What describes this node is shown as it is and cannot be set. A name that promises what
//! would not happen is refused with the reason: who sets `maxmemory` counts on it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{error, limits::Limits};
use crate::core::{glob, reply::Refusal};

/// The settings that clients see.
#[derive(Debug)]
pub(super) struct Settings {
    values: Mutex<BTreeMap<&'static str, Value>>,
}

#[derive(Debug, Clone)]
struct Value {
    text: String,
    fixed: bool,
}

impl Settings {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut values = BTreeMap::new();
        for (name, text) in REMEMBERED {
            let text = (*text).to_owned();
            values.insert(*name, Value { text, fixed: false });
        }
        for (name, text) in [
            ("databases", "1".to_owned()),
            ("maxclients", limits.clients.to_string()),
            ("proto-max-bulk-len", limits.value_bytes.to_string()),
            (
                "client-query-buffer-limit",
                limits.command_bytes.to_string(),
            ),
            ("cluster-enabled", "no".to_owned()),
            ("io-threads", "1".to_owned()),
        ] {
            values.insert(name, Value { text, fixed: true });
        }
        Self {
            values: Mutex::new(values),
        }
    }

    /// Name and value of every setting that a pattern names, each once. A name without wildcards is returned as asked for.
    pub(super) fn matching<'a>(
        &self,
        patterns: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<(String, String)> {
        let values = self.values();
        let mut found = BTreeMap::new();
        for pattern in patterns {
            let wild = pattern.iter().any(|byte| b"[*?".contains(byte));
            let folded = pattern.to_ascii_lowercase();
            for (name, value) in values.iter() {
                if glob::matches(&folded, name.as_bytes()) {
                    let name = match wild {
                        true => (*name).to_owned(),
                        false => String::from_utf8_lossy(pattern).into_owned(),
                    };
                    found.insert(name, value.text.clone());
                }
            }
        }
        found.into_iter().collect()
    }

    /// Sets all of `pairs`, or none.
    pub(super) fn set(&self, pairs: &[(&[u8], &[u8])]) -> Result<(), Refusal> {
        let mut values = self.values();
        let mut names: Vec<&'static str> = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let name = Self::settable(&values, name)?;
            if names.contains(&name) {
                return Err(failed(name, "duplicate parameter"));
            }
            names.push(name);
        }
        let mut texts = Vec::with_capacity(pairs.len());
        for (name, (_, text)) in names.iter().zip(pairs) {
            texts.push(Self::taken(name, &values[name].text, text)?);
        }
        for (name, text) in names.into_iter().zip(texts) {
            values.insert(name, Value { text, fixed: false });
        }
        Ok(())
    }

    /// The text that is remembered for a name, if it may have it. To set what holds already promises nothing new.
    fn taken(name: &str, current: &str, text: &[u8]) -> Result<String, Refusal> {
        let text = String::from_utf8_lossy(text).into_owned();
        if text.len() > TEXT_MAX {
            return Err(failed(name, "argument is too long"));
        }
        let promise = PROMISES.iter().find(|(promise, _)| *promise == name);
        match promise {
            Some((_, reason)) if text != current => Err(failed(name, reason)),
            _ => Ok(text),
        }
    }

    fn settable(
        values: &BTreeMap<&'static str, Value>,
        name: &[u8],
    ) -> Result<&'static str, Refusal> {
        let found = values
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        match found {
            Some((name, value)) if !value.fixed => Ok(name),
            Some((name, _)) => Err(failed(name, "can't set immutable config")),
            None => Err(error::err(format!(
                "Unknown option or number of arguments for CONFIG SET - '{}'",
                error::shown(name, usize::MAX)
            ))),
        }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<&'static str, Value>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(name: &str, why: &str) -> Refusal {
    error::err(format!(
        "CONFIG SET failed (possibly related to argument '{name}') - {why}"
    ))
}

/// Longest value that is remembered.
const TEXT_MAX: usize = 1024;

/// Names with Redis's defaults.
const REMEMBERED: &[(&str, &str)] = &[
    ("active-expire-effort", "1"),
    ("activedefrag", "no"),
    ("activerehashing", "yes"),
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("auto-aof-rewrite-min-size", "67108864"),
    ("auto-aof-rewrite-percentage", "100"),
    ("busy-reply-threshold", "5000"),
    ("close-on-oom", "no"),
    ("dynamic-hz", "yes"),
    ("hash-max-listpack-entries", "512"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "512"),
    ("hash-max-ziplist-value", "64"),
    ("hll-sparse-max-bytes", "3000"),
    ("hz", "10"),
    ("key-load-delay", "0"),
    ("latency-monitor-threshold", "0"),
    ("latency-tracking", "yes"),
    ("lazyfree-lazy-eviction", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("lazyfree-lazy-server-del", "no"),
    ("lazyfree-lazy-user-del", "no"),
    ("lazyfree-lazy-user-flush", "no"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("list-compress-depth", "0"),
    ("list-max-listpack-size", "-2"),
    ("list-max-ziplist-size", "-2"),
    ("loglevel", "notice"),
    ("lua-time-limit", "5000"),
    ("maxmemory", "0"),
    ("maxmemory-clients", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("min-replicas-max-lag", "10"),
    ("min-replicas-to-write", "0"),
    ("min-slaves-max-lag", "10"),
    ("min-slaves-to-write", "0"),
    ("notify-keyspace-events", ""),
    ("rdb-key-save-delay", "0"),
    ("rdbcompression", "yes"),
    ("repl-diskless-sync", "yes"),
    ("replica-lazy-flush", "no"),
    ("replica-read-only", "yes"),
    ("replica-serve-stale-data", "yes"),
    ("sanitize-dump-payload", "no"),
    ("save", ""),
    ("set-max-intset-entries", "512"),
    ("slave-read-only", "yes"),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("stop-writes-on-bgsave-error", "yes"),
    ("stream-node-max-bytes", "4096"),
    ("stream-node-max-entries", "100"),
    ("tcp-keepalive", "300"),
    ("timeout", "0"),
    ("tracking-table-max-keys", "1000000"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("zset-max-ziplist-entries", "128"),
    ("zset-max-ziplist-value", "64"),
];

/// Names that promise what does not happen here, and why not.
const PROMISES: &[(&str, &str)] = &[
    (
        "maxmemory",
        "a node keeps its data on disk and evicts nothing: storage.cache in its config bounds the memory of rows",
    ),
    (
        "maxmemory-clients",
        "clients are not evicted: limits.clients and limits.output_bytes in the config bound what they take",
    ),
    (
        "maxmemory-policy",
        "a node keeps its data on disk and evicts nothing",
    ),
    (
        "notify-keyspace-events",
        "a node publishes no keyspace events",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &Settings, pattern: &str) -> Vec<(String, String)> {
        settings.matching([pattern.as_bytes()].into_iter())
    }

    #[test]
    fn what_is_set_is_shown_and_all_or_nothing_is_set() {
        let settings = Settings::new(&Limits::default());
        settings
            .set(&[(b"SAVE", b"900 1"), (b"hz", b"20")])
            .expect("both are known");
        assert_eq!(
            shown(&settings, "sav?"),
            [("save".to_owned(), "900 1".to_owned())]
        );
        assert!(settings.set(&[(b"hz", b"30"), (b"nope", b"1")]).is_err());
        assert_eq!(shown(&settings, "HZ"), [("HZ".to_owned(), "20".to_owned())]);
    }

    #[test]
    fn a_name_that_promises_what_does_not_happen_is_refused_with_the_reason() {
        let settings = Settings::new(&Limits::default());
        for (name, value) in [
            ("maxmemory", "100mb"),
            ("MAXMEMORY-policy", "allkeys-lru"),
            ("maxmemory-clients", "1g"),
            ("notify-keyspace-events", "KEA"),
        ] {
            let pairs: [(&[u8], &[u8]); 2] = [(b"hz", b"30"), (name.as_bytes(), value.as_bytes())];
            let refused = settings.set(&pairs).expect_err(name).to_string();
            let name = name.to_lowercase();
            let begin = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - ");
            assert!(refused.starts_with(&begin), "{refused}");
            assert_ne!(shown(&settings, &name)[0].1, value);
        }
        assert_eq!(shown(&settings, "hz")[0].1, "10", "all or nothing");
        // Tools that put back what they found are told that it is so.
        settings
            .set(&[(b"maxmemory", b"0"), (b"notify-keyspace-events", b"")])
            .expect("nothing changes");
    }

    #[test]
    fn limits_are_shown_and_cannot_be_set() {
        let settings = Settings::new(&Limits::default());
        assert_eq!(shown(&settings, "maxclients")[0].1, "10000");
        assert_eq!(
            settings.set(&[(b"maxclients", b"1")]),
            Err(Refusal::Redis(
                "ERR CONFIG SET failed (possibly related to argument 'maxclients') - can't set immutable config"
                    .to_owned()
            ))
        );
    }
}
