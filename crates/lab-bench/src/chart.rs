//! A bar chart as SVG: TCP and UDP of all cases, both ways.

use std::fmt::Write as _;

use super::figures::{
    Row, TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN, TCP_4_UP, UDP_64_DOWN, UDP_64_UP, UDP_1200_DOWN,
    UDP_1200_UP,
};
use super::table::Results;

const BAR: f64 = 14.0;
const LABEL: f64 = 210.0;
const WIDTH: f64 = 720.0;
const COLOURS: [&str; 4] = ["#4477aa", "#66ccee", "#ccbb44", "#ee6677"];

/// The chart.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let tcp = [TCP_1_DOWN, TCP_1_UP, TCP_4_DOWN, TCP_4_UP].map(|tcp| tcp.rate);
    let udp = [UDP_64_DOWN, UDP_64_UP, UDP_1200_DOWN, UDP_1200_UP].map(|udp| udp.per_cpu);
    let middle = panel(&mut body, results, tcp, 10.0);
    let end = panel(&mut body, results, udp, middle + 20.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{end}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Bars of the cases that have one of these figures, from `top` on, and what they are; where they
/// end.
fn panel(text: &mut String, results: &Results, rows: [Row; 4], mut top: f64) -> f64 {
    let values = |case: &str| rows.map(|row| results.median(case, row));
    let most = results.cases().flat_map(values).flatten();
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    for case in results.cases() {
        let values = values(case);
        if values.iter().all(Option::is_none) {
            continue;
        }
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{case}</text>",
            LABEL - 10.0,
            top + 2.0 * BAR + 4.0
        );
        for (value, colour) in values.into_iter().zip(COLOURS) {
            let value = value.unwrap_or(0.0);
            let width = value / most * (WIDTH - LABEL - 70.0);
            let _ = writeln!(
                text,
                "<rect x=\"{LABEL}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"11\">{}</text>",
                BAR - 2.0,
                LABEL + width + 6.0,
                top + BAR - 4.0,
                short(value)
            );
            top += BAR;
        }
        top += 12.0;
    }
    for (number, (row, colour)) in rows.iter().zip(COLOURS).enumerate() {
        let (column, line) = (number % 2, number / 2);
        let x = 20.0 + column as f64 * 350.0;
        let y = top + line as f64 * 20.0;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            x + 18.0,
            y + 11.0,
            row.name
        );
    }
    top + 50.0
}

fn short(value: f64) -> String {
    match value >= 100.0 {
        true => format!("{value:.0}"),
        false => format!("{value:.1}"),
    }
}
