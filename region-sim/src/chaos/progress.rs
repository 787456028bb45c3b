//! What a run shows while it lasts: a bar on a terminal, a line for each fault where there is none.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{clients::Counts, storm::Wound};
use crate::output::complain;

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    duration: Duration,
    faults_said: AtomicU64,
    last: Mutex<(Instant, u64)>,
}

impl Progress {
    /// The progress of a run whose faults strike for so long.
    pub fn new(duration: Duration) -> Self {
        let bar = ProgressBar::new(duration.as_millis() as u64);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self {
            bar,
            duration,
            faults_said: AtomicU64::new(0),
            last: Mutex::new((Instant::now(), 0)),
        }
    }

    /// Says what happens now, instead of showing figures.
    pub fn say(&self, what: &str) {
        if self.bar.is_hidden() {
            complain(what);
        }
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// Shows figures and the faults that last.
    pub fn show(&self, since: Duration, counts: &Counts, wounds: &[Wound]) {
        let answered = counts.answered.load(Ordering::Relaxed);
        let unanswered = counts.unanswered.load(Ordering::Relaxed);
        let lasting: Vec<String> = wounds
            .iter()
            .filter(|wound| wound.ended.is_none())
            .map(|wound| wound.fault.to_string())
            .collect();
        let rate = self.rate(answered);
        self.bar
            .set_position(since.min(self.duration).as_millis() as u64);
        self.bar.set_message(format!(
            "{rate}/s, {unanswered} unanswered | {}",
            if lasting.is_empty() {
                "no fault".to_owned()
            } else {
                lasting.join(", ")
            }
        ));
        if self.bar.is_hidden() {
            let said = self
                .faults_said
                .swap(wounds.len() as u64, Ordering::Relaxed) as usize;
            for wound in wounds.iter().skip(said) {
                let began = wound.began.as_secs_f64();
                complain(format_args!("{began:>6.1} s  {}", wound.fault));
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn rate(&self, answered: u64) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, before) = *last;
        let passed = then.elapsed().as_secs_f64().max(0.001);
        *last = (Instant::now(), answered);
        (answered.saturating_sub(before) as f64 / passed) as u64
    }
}
