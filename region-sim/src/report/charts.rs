//! Charts as inline SVG: lines over time, with the faults as bands behind them.

use std::{fmt, io};

use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    drawing::IntoDrawingArea,
    element::{Rectangle, Text},
    series::LineSeries,
    style::{Color, IntoFont, RGBColor, ShapeStyle, WHITE},
};

use super::series::Series;

/// A chart over time.
#[derive(Debug)]
pub struct Chart<'a> {
    /// What its values are, with their unit.
    pub title: &'a str,
    /// The lines.
    pub series: Vec<Series>,
    /// The end of the time axis, in seconds.
    pub seconds: f64,
    /// The least that the value axis reaches.
    pub top_min: f64,
    /// Values above are drawn at it.
    pub top_max: f64,
}

/// A fault as it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// What it was.
    pub name: String,
    /// From when, in seconds.
    pub from: f64,
    /// To when.
    pub to: f64,
}

/// Draws lines.
///
/// # Errors
/// What the library says; it writes into memory, so there is none in practice.
pub fn lines(chart: &Chart<'_>, bands: &[Band]) -> io::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let highest = chart
            .series
            .iter()
            .flat_map(|series| series.pieces.iter().flatten());
        let highest = highest
            .map(|(_, value)| *value)
            .fold(chart.top_min, f64::max);
        let top = highest.min(chart.top_max);
        let mut area = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..chart.seconds, 0.0..top * 1.05)
            .map_err(failed)?;
        area.configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", FONT))
            .x_label_formatter(&|x| format!("{x:.0} s"))
            .y_label_formatter(&|y| number(*y))
            .y_labels(5)
            .draw()
            .map_err(failed)?;
        let shade = bands.iter().map(|band| {
            let corners = [(band.from, 0.0), (band.to, top * 1.05)];
            Rectangle::new(corners, FAULT.mix(0.12).filled())
        });
        area.draw_series(shade).map_err(failed)?;
        for (index, series) in chart.series.iter().enumerate() {
            let style = stroke(index);
            for piece in &series.pieces {
                let points = piece.iter().map(|&(at, value)| (at, value.min(top)));
                area.draw_series(LineSeries::new(points, style))
                    .map_err(failed)?;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Draws when which fault lasted, each with its name, in as few rows as they fit into.
///
/// # Errors
/// As [`lines`].
pub fn timeline(bands: &[Band], seconds: f64) -> io::Result<String> {
    let rows = rows(bands, seconds);
    let count = rows.iter().max().map_or(1, |row| row + 1);
    let height = count as u32 * ROW + 44;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut area = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..seconds, 0.0..count as f64)
            .map_err(failed)?;
        area.configure_mesh()
            .disable_mesh()
            .axis_style(GRID)
            .label_style(("sans-serif", FONT))
            .x_label_formatter(&|x| format!("{x:.0} s"))
            .y_labels(0)
            .draw()
            .map_err(failed)?;
        for (band, row) in bands.iter().zip(&rows) {
            let floor = (count - row - 1) as f64;
            let corners = [(band.from, floor + 0.1), (band.to, floor + 0.9)];
            let bar = Rectangle::new(corners, FAULT.mix(0.35).filled());
            area.draw_series([bar]).map_err(failed)?;
            let font = ("sans-serif", FONT).into_font().color(&INK);
            let name = Text::new(
                band.name.clone(),
                (name_from(band, seconds), floor + 0.75),
                font,
            );
            area.draw_series([name]).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The row of each band: the first in which nothing, not even a name, stands in its way.
fn rows(bands: &[Band], seconds: f64) -> Vec<usize> {
    let mut free_from: Vec<f64> = Vec::new();
    let row = |band: &Band| {
        let begin = name_from(band, seconds);
        let end = band.to.max(begin + name_width(band, seconds));
        let found = free_from.iter().position(|free| *free <= begin);
        let row = found.unwrap_or(free_from.len());
        match found {
            Some(row) => free_from[row] = end,
            None => free_from.push(end),
        }
        row
    };
    bands.iter().map(row).collect()
}

/// Where a band's name begins: with it, or so that it ends within the chart.
fn name_from(band: &Band, seconds: f64) -> f64 {
    band.from.min(seconds - name_width(band, seconds)).max(0.0)
}

fn name_width(band: &Band, seconds: f64) -> f64 {
    band.name.chars().count() as f64 * seconds * LETTER / f64::from(WIDTH - LABELS)
}

/// The colour of a line, for legends.
pub fn colour(index: usize) -> String {
    let RGBColor(r, g, b) = COLOURS[index % COLOURS.len()];
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn stroke(index: usize) -> ShapeStyle {
    COLOURS[index % COLOURS.len()].stroke_width(2)
}

fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn failed(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 190;
const LABELS: u32 = 52;
const ROW: u32 = 18;
/// The library takes this for the height of a line; letters are four fifths of it.
const FONT: u32 = 15;
/// About as wide as a letter, in pixels.
const LETTER: f64 = 6.5;
const GRID: RGBColor = RGBColor(224, 224, 230);
const INK: RGBColor = RGBColor(40, 40, 50);
const FAULT: RGBColor = RGBColor(205, 70, 50);
/// Told apart also by those who do not see red and green.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 100, 170),
    RGBColor(220, 140, 0),
    RGBColor(0, 150, 115),
    RGBColor(160, 80, 150),
    RGBColor(90, 90, 100),
    RGBColor(80, 180, 230),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn band(name: &str, from: f64, to: f64) -> Band {
        Band {
            name: name.to_owned(),
            from,
            to,
        }
    }

    #[test]
    fn bands_that_meet_stand_in_rows_of_their_own() {
        let bands = [
            band("a", 0.0, 5.0),
            band("b", 3.0, 4.0),
            band("c", 6.0, 7.0),
        ];
        assert_eq!(rows(&bands, 60.0), [0, 1, 0]);
        let late = band("a fault with a long name", 59.0, 60.0);
        assert!(name_from(&late, 60.0) < 55.0);
        let bands = [
            band("a fault with a long name", 0.0, 0.1),
            band("b", 1.0, 2.0),
        ];
        assert_eq!(rows(&bands, 60.0), [0, 1]);
    }

    #[test]
    fn a_chart_is_svg_with_its_bands_and_lines() {
        let chart = Chart {
            title: "x",
            series: vec![Series {
                name: "s".to_owned(),
                pieces: vec![vec![(0.0, 1.0), (1.0, 2.0)]],
            }],
            seconds: 10.0,
            top_min: 1.0,
            top_max: f64::MAX,
        };
        let svg = lines(&chart, &[band("kill", 1.0, 2.0)]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<polyline") && svg.contains("<rect"));
        let svg = timeline(&[band("kill us-1", 1.0, 2.0)], 10.0).unwrap();
        assert!(svg.contains("kill us-1"));
        assert!(timeline(&[], 10.0).is_ok());
    }
}
