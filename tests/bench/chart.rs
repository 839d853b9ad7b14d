//! Bars and lines, as SVG.

use std::fmt::Write as _;

use crate::report::readable;

pub(crate) struct Bar {
    pub(crate) name: &'static str,
    /// `None` when it failed.
    pub(crate) value: Option<f64>,
    pub(crate) is_ours: bool,
}

const WIDTH: f64 = 860.0;
const NAMES: f64 = 330.0;
const VALUES: f64 = 90.0;
const LINE: f64 = 34.0;
const HEAD: f64 = 62.0;
/// Beyond this, the smallest bar would not be seen.
const LINEAR_MAX: f64 = 200.0;

/// One bar under the other. Linear, unless the longest is hundreds of times the shortest; then it says so.
pub(crate) fn bars(title: &str, subtitle: &str, bars: &[Bar]) -> String {
    let values = || bars.iter().filter_map(|bar| bar.value).filter(|value| *value > 0.0);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let is_logarithmic = most / least > LINEAR_MAX;
    let length = |value: f64| {
        let share = if is_logarithmic {
            // The shortest one has a tenth of the width.
            0.1 + 0.9 * (value / least).ln() / (most / least).ln()
        } else {
            value / most
        };
        if value > 0.0 { share * (WIDTH - NAMES - VALUES) } else { 0.0 }
    };
    let height = HEAD + LINE * bars.len() as f64 + 10.0;
    let note = if is_logarithmic { ", logarithmic scale" } else { "" };
    let mut svg = head(title, &format!("{subtitle}{note}"), height);
    for (n, bar) in bars.iter().enumerate() {
        let top = HEAD + LINE * n as f64;
        let (wide, words) = match bar.value {
            Some(value) => (length(value), readable(value)),
            None => (0.0, "failed".to_owned()),
        };
        let colour = if bar.is_ours { "#1f6f8b" } else { "#b9c0c7" };
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" font-size=\"13\" text-anchor=\"end\" fill=\"#111111\">{}</text>\n\
             <rect x=\"{NAMES}\" y=\"{:.0}\" width=\"{wide:.1}\" height=\"20\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.0}\" font-size=\"13\" fill=\"#111111\">{words}</text>\n",
            NAMES - 10.0,
            top + 18.0,
            escaped(bar.name),
            top + 4.0,
            NAMES + wide + 8.0,
            top + 18.0,
        );
    }
    svg + "</svg>\n"
}

/// What was sampled at a steady pace, from zero up.
pub(crate) fn line(title: &str, subtitle: &str, samples: &[f64]) -> String {
    let (height, left, foot) = (320.0, 70.0, 24.0);
    let most = samples.iter().copied().fold(1.0, f64::max);
    let across = |n: usize| left + (WIDTH - left - 20.0) * n as f64 / (samples.len() - 1).max(1) as f64;
    let up = |value: f64| height - foot - (height - HEAD - foot) * value / most;
    let points: Vec<String> =
        samples.iter().enumerate().map(|(n, value)| format!("{:.1},{:.1}", across(n), up(*value))).collect();
    let mut svg = head(title, subtitle, height);
    for value in [0.0, most / 2.0, most] {
        let _ = write!(
            svg,
            "<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{1}\" y2=\"{0:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{2}\" y=\"{3:.1}\" font-size=\"13\" text-anchor=\"end\" fill=\"#111111\">{4}</text>\n",
            up(value),
            WIDTH - 20.0,
            left - 8.0,
            up(value) + 4.0,
            readable(value),
        );
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6f8b\" stroke-width=\"2\"/>",
        points.join(" ")
    );
    svg + "</svg>\n"
}

fn head(title: &str, subtitle: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"14\" y=\"26\" font-size=\"16\" fill=\"#111111\">{}</text>\n\
         <text x=\"14\" y=\"47\" font-size=\"13\" fill=\"#555555\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
