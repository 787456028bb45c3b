//! The page: verdicts first, then what was done, then charts with the faults as bands.

use std::{fmt::Write as _, io, time::Duration};

use super::{
    charts::{self, Band, Chart},
    series,
};
use crate::chaos::{
    Run,
    judge::{Ruling, Verdict},
};

/// The page as text, with everything that it needs in it.
pub fn html(run: &Run) -> io::Result<String> {
    let title = format!("chaos, seed {}", run.seed);
    let passed = if run.has_passed() {
        "every promise held"
    } else {
        "a promise was broken"
    };
    let class = if run.has_passed() { "held" } else { "broken" };
    let body = [
        format!(
            "<h1>{} <span class=\"{class}\">{passed}</span></h1>",
            escaped(&title)
        ),
        introduction(run),
        verdicts(&run.verdicts),
        figures(run),
        drawings(run)?,
        faults(run),
    ];
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style></head>\
         <body>{}</body></html>\n",
        escaped(&title),
        body.concat()
    ))
}

fn introduction(run: &Run) -> String {
    let about = escaped(&run.scenario.about);
    let command = escaped(&run.command);
    let regions = escaped(&run.scenario.regions.join(", "));
    format!(
        "<p>{about}</p><p>{} nodes in {regions}. The same faults again: <code>{command}</code> \
         (what clients meet differs from run to run: processes and disks are real).</p>",
        run.nodes.len()
    )
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let mut rows = String::new();
    for verdict in verdicts {
        let (class, word, details) = match &verdict.ruling {
            Ruling::Held => ("held", "held", String::new()),
            Ruling::NotJudged(reason) => ("", "not judged", escaped(reason)),
            Ruling::Broken(details) => ("broken", "broken", violations(details)),
        };
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"{class}\">{word}</td><td>{}{details}</td></tr>",
            verdict.promise,
            escaped(verdict.words)
        );
    }
    format!("<table>{rows}</table>")
}

fn violations(details: &[String]) -> String {
    let mut items = String::new();
    for detail in details.iter().take(VIOLATIONS_MAX) {
        let _ = write!(items, "<li><pre>{}</pre></li>", escaped(detail));
    }
    let count = details.len();
    format!(
        "<details open><summary>{count} violations, the first of which say most</summary><ul>{items}</ul></details>"
    )
}

fn figures(run: &Run) -> String {
    let latencies = series::latencies(run);
    let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let mut text = format!(
        "<p>{}. Answers: p50 {:.1} ms, p99 {:.1} ms, slowest {:.0} ms.",
        escaped(&run.summary()),
        ms(0.5),
        ms(0.99),
        latencies.max() as f64 / 1000.0
    );
    if let Some((median, slowest)) = syncs(&run.syncs) {
        let _ = write!(
            text,
            " The busy disk's own syncs of 4 MiB: {} of them, median {median:.0} ms, slowest {slowest:.0} ms.",
            run.syncs.len()
        );
    }
    if !run.ending.waited_last.is_empty() {
        let last = escaped(&run.ending.waited_last.join("; "));
        let _ = write!(text, " Waited for last of all: {last}.");
    }
    text.push_str(" Every command is in <a href=\"history.jsonl\">history.jsonl</a>.</p>");
    text
}

fn syncs(syncs: &[Duration]) -> Option<(f64, f64)> {
    let mut sorted = syncs.to_vec();
    sorted.sort_unstable();
    let ms = |at: usize| sorted.get(at).map(|sync| sync.as_secs_f64() * 1000.0);
    Some((ms(sorted.len() / 2)?, ms(sorted.len().checked_sub(1)?)?))
}

fn drawings(run: &Run) -> io::Result<String> {
    let bands = bands(run);
    let seconds = seconds(run);
    let chart = |title, series, top_min, top_max| Chart {
        title,
        series,
        seconds,
        top_min,
        top_max,
    };
    let any = f64::MAX;
    let charts = [
        chart("commands per second", series::throughput(run), 1.0, any),
        chart(
            "milliseconds until an answer",
            series::latency(run),
            1.0,
            any,
        ),
        chart(
            "replication lag in seconds: the largest of any node of a region to any other region",
            series::by_region(run, |sample| sample.lag_seconds, f64::max),
            0.5,
            any,
        ),
        chart(
            "outbox rows not taken by other regions, by region",
            series::by_region(run, |sample| sample.outbox as f64, |a, b| a + b),
            10.0,
            any,
        ),
        chart(
            "hints kept for nodes of the same region, by region",
            series::by_region(run, |sample| sample.hints as f64, |a, b| a + b),
            10.0,
            any,
        ),
        chart(
            "phi: the largest suspicion that any node of a region has of another (drawn up to 20)",
            series::by_region(run, |sample| sample.phi, f64::max),
            12.0,
            PHI_DRAWN_MAX,
        ),
    ];
    let mut html = format!("<h2>Faults</h2>{}", charts::timeline(&bands, seconds)?);
    for chart in charts {
        let _ = write!(html, "<h2>{}{}</h2>", escaped(chart.title), legend(&chart));
        html.push_str(&charts::lines(&chart, &bands)?);
    }
    Ok(html)
}

fn legend(chart: &Chart<'_>) -> String {
    let names = chart.series.iter().enumerate().map(|(index, series)| {
        format!(
            "<span class=\"key\" style=\"color:{}\">&#9632; {}</span>",
            charts::colour(index),
            escaped(&series.name)
        )
    });
    names.collect()
}

/// Until the last that is known.
fn seconds(run: &Run) -> f64 {
    let sampled = run
        .samples
        .last()
        .map_or(Duration::ZERO, |sample| sample.at);
    sampled.max(run.scenario.duration).as_secs_f64()
}

fn bands(run: &Run) -> Vec<Band> {
    let end = seconds(run);
    let band = |wound: &crate::chaos::storm::Wound| Band {
        name: wound.fault.to_string(),
        from: wound.began.as_secs_f64(),
        to: wound.ended.map_or(end, |ended| ended.as_secs_f64()),
    };
    run.wounds.iter().map(band).collect()
}

fn faults(run: &Run) -> String {
    let mut rows = String::new();
    for wound in &run.wounds {
        let ended = wound.ended.map_or(String::new(), |ended| {
            format!("{:.1} s", ended.as_secs_f64())
        });
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{:.1} s</td><td>{ended}</td><td class=\"broken\">{}</td></tr>",
            escaped(&wound.fault.to_string()),
            wound.began.as_secs_f64(),
            escaped(wound.error.as_deref().unwrap_or_default())
        );
    }
    format!(
        "<h2>Faults, as they were</h2><p>A fault is over when it is put right: a node that was killed, when it is ready again.</p>\
         <table><tr><th>fault</th><th>from</th><th>to</th><th></th></tr>{rows}</table>"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const VIOLATIONS_MAX: usize = 50;
const PHI_DRAWN_MAX: f64 = 20.0;
const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#28282f;max-width:1020px;margin:2em auto;padding:0 1em}\
h1{font-size:1.5em}h2{font-size:1em;margin:1.6em 0 .2em}code,pre{font:13px/1.4 ui-monospace,monospace}\
code{background:#f2f2f5;padding:.1em .3em}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0}\
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;border-bottom:1px solid #e6e6ea}\
.held{color:#00795c}.broken{color:#b3321b;font-weight:600}.broken pre,.broken li{font-weight:400}.key{margin-left:1em;font-weight:400}svg{max-width:100%;height:auto}";
