//! An analytics pipeline over real flight records, run as a durable workflow.
//!
//! [`analysis`] turns two CSV texts into typed figures and [`report`] turns the figures into an
//! HTML page and a JSON summary. Both are pure: they do no input or output, so a step that is
//! retried after a crash computes the same result again.

pub mod analysis;
pub mod report;
pub mod workflow;

/// The flights the demo analyses: 5,000 US domestic flights of early 2001, as CSV text.
///
/// Embedded so that the demo runs from any directory. Source: US Department of Transportation,
/// Bureau of Transportation Statistics (see `data/SOURCES.md`).
pub const FLIGHTS_CSV: &str = include_str!("../data/flights.csv");

/// The airports of the same source, as CSV text: code, name, place and coordinates.
pub const AIRPORTS_CSV: &str = include_str!("../data/airports.csv");
