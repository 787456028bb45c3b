//! What the charts show, worked out of the history and the samples.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    chaos::{Run, clients::Asked, samples::Sample},
    workload::Outcome,
};

/// A line of a chart: pieces of points (seconds, value). Between two pieces nothing is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its pieces.
    pub pieces: Vec<Vec<(f64, f64)>>,
}

/// Commands per second: answered, and refused or unknown.
pub fn throughput(run: &Run) -> Vec<Series> {
    let is_answered = |asked: &Asked| matches!(asked.operation.outcome, Outcome::Replied(_));
    let mut answered = vec![0u32; buckets(run)];
    let mut others = answered.clone();
    for asked in &run.asked {
        let counts = if is_answered(asked) {
            &mut answered
        } else {
            &mut others
        };
        if let Some(count) = bucket(asked).and_then(|bucket| counts.get_mut(bucket)) {
            *count += 1;
        }
    }
    let rate = |counts: Vec<u32>| {
        let points = counts.into_iter().enumerate();
        vec![
            points
                .map(|(at, count)| (middle(at), f64::from(count) / BUCKET.as_secs_f64()))
                .collect(),
        ]
    };
    vec![
        Series {
            name: "answered".to_owned(),
            pieces: rate(answered),
        },
        Series {
            name: "refused or unknown".to_owned(),
            pieces: rate(others),
        },
    ]
}

/// Milliseconds until an answer: the median and the 99th of a hundred, of what was answered in each half second.
pub fn latency(run: &Run) -> Vec<Series> {
    let mut histograms: Vec<Option<Histogram<u64>>> = vec![None; buckets(run)];
    for asked in run.asked.iter().filter(is_replied) {
        let slot = bucket(asked).and_then(|bucket| histograms.get_mut(bucket));
        if let Some(slot) = slot {
            record(slot.get_or_insert_with(histogram), asked);
        }
    }
    [("p50", 0.50), ("p99", 0.99)]
        .map(|(name, quantile)| {
            let points = histograms.iter().enumerate().map(|(at, histogram)| {
                let value = histogram.as_ref()?.value_at_quantile(quantile) as f64 / 1000.0;
                Some((middle(at), value))
            });
            Series {
                name: name.to_owned(),
                pieces: pieces(points),
            }
        })
        .into()
}

/// Latencies of all that was answered, in microseconds.
pub fn latencies(run: &Run) -> Histogram<u64> {
    let mut all = histogram();
    run.asked
        .iter()
        .filter(is_replied)
        .for_each(|asked| record(&mut all, asked));
    all
}

/// One line per region out of its nodes' samples, joined by `join`; by the half second.
pub fn by_region(run: &Run, value: fn(&Sample) -> f64, join: fn(f64, f64) -> f64) -> Vec<Series> {
    let mut lines: BTreeMap<String, BTreeMap<usize, BTreeMap<usize, f64>>> = BTreeMap::new();
    for sample in &run.samples {
        let Some(name) = run.nodes.get(sample.node) else {
            continue;
        };
        let region = name.split('-').next().unwrap_or(name).to_owned();
        let at = (sample.at.as_millis() / BUCKET.as_millis()) as usize;
        // Each node's last word in a half second.
        lines
            .entry(region)
            .or_default()
            .entry(at)
            .or_default()
            .insert(sample.node, value(sample));
    }
    let series = lines.into_iter().map(|(name, points)| {
        let last = points.keys().last().copied().unwrap_or(0);
        let joined = (0..=last).map(|at| {
            let said = points.get(&at)?.values().copied().reduce(join)?;
            Some((middle(at), said))
        });
        Series {
            name,
            pieces: pieces(joined),
        }
    });
    series.collect()
}

/// Cuts a line where two points in a row are missing.
fn pieces(points: impl Iterator<Item = Option<(f64, f64)>>) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![Vec::new()];
    let mut missing = 0;
    for point in points {
        let Some(point) = point else {
            missing += 1;
            continue;
        };
        if missing > 1 {
            pieces.push(Vec::new());
        }
        missing = 0;
        if let Some(piece) = pieces.last_mut() {
            piece.push(point);
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn is_replied(asked: &&Asked) -> bool {
    matches!(asked.operation.outcome, Outcome::Replied(_))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3)
        .expect("a minute in microseconds, three digits exact, is within what a histogram can have")
}

fn record(histogram: &mut Histogram<u64>, asked: &Asked) {
    let operation = &asked.operation;
    let took = operation
        .completed
        .map(|completed| completed.saturating_sub(operation.invoked));
    histogram.saturating_record(took.unwrap_or_default().as_micros() as u64);
}

fn buckets(run: &Run) -> usize {
    (run.scenario.duration.as_millis() / BUCKET.as_millis()) as usize + 1
}

fn bucket(asked: &Asked) -> Option<usize> {
    let completed = asked.operation.completed?;
    Some((completed.as_millis() / BUCKET.as_millis()) as usize)
}

fn middle(bucket: usize) -> f64 {
    (bucket as f64 + 0.5) * BUCKET.as_secs_f64()
}

/// More than any client waits.
const LATENCY_US_MAX: u64 = 60_000_000;
const BUCKET: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_nothing_is_known() {
        let points = [
            Some((0.0, 1.0)),
            None,
            Some((1.0, 2.0)),
            None,
            None,
            Some((3.0, 4.0)),
        ];
        let expected = vec![vec![(0.0, 1.0), (1.0, 2.0)], vec![(3.0, 4.0)]];
        assert_eq!(pieces(points.into_iter()), expected);
        assert!(pieces([None, None].into_iter()).is_empty());
    }
}
