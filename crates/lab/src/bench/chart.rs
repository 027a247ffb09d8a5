//! A bar chart as SVG: TCP throughput of all cases.

use std::fmt::Write as _;

use super::load::{TCP_1_DOWN, TCP_4_DOWN};
use super::table::Results;

const BAR: f64 = 18.0;
const LABEL: f64 = 190.0;
const WIDTH: f64 = 720.0;

/// The chart.
pub(crate) fn svg(results: &Results) -> String {
    let figures = [(TCP_1_DOWN, "#4477aa"), (TCP_4_DOWN, "#ccbb44")];
    let most = results.cases().iter().flat_map(|case| {
        figures
            .iter()
            .filter_map(|(figure, _)| results.median(case, figure))
    });
    let most = most.fold(1.0, f64::max);
    let height = results.cases().len() as f64 * (2.0 * BAR + 14.0) + 50.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut top = 10.0;
    for case in results.cases() {
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{case}</text>",
            LABEL - 10.0,
            top + BAR + 4.0
        );
        for (figure, colour) in figures {
            let value = results.median(case, figure).unwrap_or(0.0);
            let width = value / most * (WIDTH - LABEL - 70.0);
            let _ = writeln!(
                text,
                "<rect x=\"{LABEL}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value:.1}</text>",
                BAR - 2.0,
                LABEL + width + 6.0,
                top + BAR - 5.0
            );
            top += BAR;
        }
        top += 14.0;
    }
    for (number, (figure, colour)) in figures.iter().enumerate() {
        let x = LABEL + number as f64 * 220.0;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{figure}</text>",
            top + 6.0,
            x + 18.0,
            top + 17.0
        );
    }
    text + "</svg>\n"
}
