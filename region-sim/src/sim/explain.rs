//! A world in words, before it begins.

use std::{fmt, time::Duration};

use super::plan::Plan;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (regions, nodes) = (self.region_count(), self.nodes);
        writeln!(
            f,
            "{regions} regions of {nodes} nodes, {} replicas of each key in each, {} clients a region",
            self.replicas, self.clients
        )?;
        self.hosts(f)?;
        self.load(f)?;
        self.ways(f)?;
        self.faults_in_words(f)
    }
}

impl Plan {
    fn hosts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.regions.iter().enumerate() {
            let sync = if host.fsync_always {
                "syncs every commit".to_owned()
            } else {
                format!("syncs every {:?}", host.sync_interval)
            };
            writeln!(
                f,
                "  n{index} in {}: {} shards, {sync}, clock off by {} ms",
                self.region(index),
                host.shards,
                host.clock_offset_ms
            )?;
        }
        Ok(())
    }

    fn load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families: Vec<String> = self.mix.families().map(|f| format!("{f:?}")).collect();
        let levels: Vec<String> = self.mix.levels.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "{} operations in {:?} on keys of these kinds: {}, at {}",
            self.operations,
            self.storm,
            families.join(", "),
            levels.join(", ")
        )
    }

    fn ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "messages take {:?} to {:?}, and up to {:?} more; of a thousand {} find a full queue",
            self.delay.0, self.delay.1, self.jitter_max, self.unsent
        )?;
        let mishaps = self.mishaps;
        writeln!(
            f,
            "of a thousand single messages {} are lost, {} doubled, {} overtake others",
            mishaps.lost, mishaps.doubled, mishaps.overtaking
        )?;
        match self.gossip_interval {
            Some(interval) => writeln!(f, "hosts gossip every {interval:?}")?,
            None => writeln!(f, "hosts believe that all others live")?,
        }
        if self.has_tight_outbox() {
            let (window, bytes) = (self.outbox_window, self.outbox_bytes);
            writeln!(f, "outboxes keep {window:?}, {bytes} bytes a shard")?;
        }
        if self.is_sloppy {
            writeln!(f, "others stand in for replicas that are away")?;
        }
        Ok(())
    }

    fn faults_in_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.faults.is_empty() {
            return writeln!(f, "no faults");
        }
        let each = |(kind, mean): &(super::fault::FaultKind, Duration)| {
            format!("{kind:?} every {:.1} s", mean.as_secs_f64())
        };
        let faults: Vec<String> = self.faults.iter().map(each).collect();
        writeln!(f, "faults: {}", faults.join(", "))
    }
}
