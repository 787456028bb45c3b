//! The live table: what every node and link does now, and what happened lately, redrawn in place.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use crossterm::{
    cursor::{MoveToColumn, MoveUp},
    queue,
    style::Print,
    terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate},
};
use region_sim::live::{Cluster, Event, table};

/// A table below whatever the terminal shows.
pub struct Screen {
    cluster: Arc<Cluster>,
    lines_drawn: u16,
}

impl Screen {
    /// A table of a cluster.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            lines_drawn: 0,
        }
    }

    /// Draws until the cluster goes down or the terminal is gone.
    pub async fn show(mut self) {
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            frames.tick().await;
            let Ok(status) = self.cluster.status(PATIENCE).await else {
                return;
            };
            let lines = lines(
                table(&status),
                &self.cluster.events(),
                &self.cluster.dir().display().to_string(),
            );
            if self.draw(&lines).is_err() {
                return;
            }
        }
    }

    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let mut out = Vec::new();
        queue!(out, BeginSynchronizedUpdate, MoveToColumn(0))?;
        if self.lines_drawn > 0 {
            queue!(out, MoveUp(self.lines_drawn))?;
        }
        let shown = fit(lines, width, height);
        for line in &shown {
            // Cleared behind the text, not before it: nothing ever flickers.
            queue!(
                out,
                Print(line),
                Clear(ClearType::UntilNewLine),
                Print("\r\n")
            )?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.lines_drawn = shown.len() as u16;
        io::stderr().write_all(&out)
    }
}

/// As much as the terminal has room for: a line that wrapped would break the count of lines to go up.
fn fit(lines: &[String], width: u16, height: u16) -> Vec<String> {
    let (columns, rows) = (
        usize::from(width.max(2)) - 1,
        usize::from(height.max(2)) - 1,
    );
    lines
        .iter()
        .take(rows)
        .map(|line| line.chars().take(columns).collect())
        .collect()
}

fn lines(table: Vec<String>, events: &[Event], dir: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(table);
    lines.push(String::new());
    lines.extend(
        events[events.len().saturating_sub(EVENTS_SHOWN)..]
            .iter()
            .map(ToString::to_string),
    );
    lines.push(format!(
        "Ctrl-C stops all. Verbs from another shell: region-sim --dir {dir} help"
    ));
    lines
}

const FRAME: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(400);
const EVENTS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let lines = ["12345678".to_owned(), "x".to_owned(), "y".to_owned()];
        assert_eq!(fit(&lines, 5, 3), ["1234", "x"]);
        assert_eq!(fit(&lines, 0, 0), ["1"]);
    }

    #[test]
    fn the_latest_events_are_shown() {
        let event = |n: u64| Event {
            after: Duration::from_secs(n),
            text: format!("event {n}"),
        };
        let events: Vec<Event> = (0..20).map(event).collect();
        let lines = lines(vec!["TABLE".to_owned()], &events, "here");
        assert_eq!(lines.len(), 1 + 1 + 1 + 8 + 1);
        assert!(lines[3].ends_with("event 12"));
    }
}
