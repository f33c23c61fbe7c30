//! Delays per airport of departure, per hour and per month.

use super::airports::{Airport, Airports};
use super::flights::{Flight, Flights, Period};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A flight counts as delayed if it is more than this many minutes late.
///
/// The threshold of the US Department of Transportation's on-time statistics is 15 minutes.
pub const DELAYED_AFTER_MINUTES: i32 = 15;

/// Figures about the delays of a group of flights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelayFigures {
    /// Number of flights in the group; at least 1.
    pub flights: usize,
    /// How many were more than [`DELAYED_AFTER_MINUTES`] late.
    pub delayed: usize,
    /// `delayed` as a share of `flights`, in percent.
    pub delayed_percent: f64,
    /// Mean delay in minutes, early flights counting as negative.
    pub mean_delay: f64,
    /// Median delay in minutes; of an even number of flights, the mean of the middle two.
    pub median_delay: f64,
    /// 90th percentile in minutes by nearest rank: the smallest delay of the group that at least
    /// 90 % of its flights do not exceed, i.e. number ⌈0.9 × flights⌉ in ascending order.
    pub p90_delay: i32,
    /// The longest delay in minutes.
    pub worst_delay: i32,
}

impl DelayFigures {
    /// The figures of a group, or `None` if it is empty.
    fn of(mut delays: Vec<i32>) -> Option<Self> {
        delays.sort_unstable();
        let worst_delay = *delays.last()?;
        let flights = delays.len();
        let delayed = delays
            .iter()
            .filter(|delay| **delay > DELAYED_AFTER_MINUTES)
            .count();
        let total: i64 = delays.iter().copied().map(i64::from).sum();
        let middle = f64::midpoint(
            f64::from(delays[(flights - 1) / 2]),
            f64::from(delays[flights / 2]),
        );
        Some(Self {
            flights,
            delayed,
            delayed_percent: percent(delayed, flights),
            mean_delay: total as f64 / flights as f64,
            median_delay: middle,
            p90_delay: delays[(flights * 9).div_ceil(10) - 1],
            worst_delay,
        })
    }
}

/// `part` of `whole` in percent.
pub(super) fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// Name and place of an airport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the airport, as in the source.
    pub name: String,
    /// City, if the source gives one.
    pub city: Option<String>,
    /// Two-letter US state, if the source gives one.
    pub state: Option<String>,
}

impl From<&Airport> for Place {
    fn from(airport: &Airport) -> Self {
        let Airport {
            name, city, state, ..
        } = airport.clone();
        Self { name, city, state }
    }
}

/// The delays of the flights that departed from one airport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AirportDelays {
    /// Code of the airport.
    pub code: String,
    /// Its name and place; `None` if the airport table does not have it.
    pub place: Option<Place>,
    /// Its departures.
    #[serde(flatten)]
    pub departures: DelayFigures,
}

/// An airport that occurs in the flights but not in the airport table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownAirport {
    /// Code of the airport.
    pub code: String,
    /// Flights that depart from it.
    pub departures: usize,
    /// Flights that arrive at it.
    pub arrivals: usize,
}

/// The delays of the flights that departed in one local hour of the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourDelays {
    /// The hour, 0 to 23.
    pub hour: u8,
    /// Its departures.
    #[serde(flatten)]
    pub departures: DelayFigures,
}

/// The delays of the flights that departed in one calendar month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonthDelays {
    /// The month, 1 to 12.
    pub month: u8,
    /// Its departures.
    #[serde(flatten)]
    pub departures: DelayFigures,
}

/// Delays of all flights, per airport of departure, per hour and per month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AirportMetrics {
    /// The first and the last departure.
    pub period: Period,
    /// All flights together.
    pub overall: DelayFigures,
    /// Every airport with a departure, by ascending code, also those without a name.
    pub airports: Vec<AirportDelays>,
    /// Airports of the flights that the airport table lacks, by ascending code.
    pub unknown: Vec<UnknownAirport>,
    /// Hours with a departure, ascending.
    pub by_hour: Vec<HourDelays>,
    /// Months with a departure, ascending.
    pub by_month: Vec<MonthDelays>,
}

/// Computes the delays per airport of departure, per hour and per month.
///
/// An airport that `airports` lacks keeps its figures and is listed in
/// [`AirportMetrics::unknown`] besides.
pub fn airport_metrics(flights: &Flights, airports: &Airports) -> AirportMetrics {
    AirportMetrics {
        period: flights.period().clone(),
        overall: DelayFigures::of(flights.iter().map(|flight| flight.delay).collect())
            .expect("flights are never empty"),
        airports: figures_by(flights, |flight| flight.origin)
            .map(|(code, departures)| AirportDelays {
                code: code.to_owned(),
                place: airports.get(code).map(Place::from),
                departures,
            })
            .collect(),
        unknown: unknown_airports(flights, airports),
        by_hour: figures_by(flights, |flight| flight.hour)
            .map(|(hour, departures)| HourDelays { hour, departures })
            .collect(),
        by_month: figures_by(flights, |flight| flight.month)
            .map(|(month, departures)| MonthDelays { month, departures })
            .collect(),
    }
}

/// The figures of the flights of each key, by ascending key.
fn figures_by<'f, K: Ord>(
    flights: &'f Flights,
    key: impl Fn(&Flight<'f>) -> K,
) -> impl Iterator<Item = (K, DelayFigures)> {
    let mut groups: BTreeMap<K, Vec<i32>> = BTreeMap::new();
    for flight in flights.iter() {
        groups.entry(key(&flight)).or_default().push(flight.delay);
    }
    groups
        .into_iter()
        .filter_map(|(key, delays)| Some((key, DelayFigures::of(delays)?)))
}

fn unknown_airports(flights: &Flights, airports: &Airports) -> Vec<UnknownAirport> {
    let missing: BTreeSet<&str> = flights
        .codes()
        .iter()
        .map(String::as_str)
        .filter(|code| airports.get(code).is_none())
        .collect();
    missing
        .into_iter()
        .map(|code| UnknownAirport {
            code: code.to_owned(),
            departures: flights
                .iter()
                .filter(|flight| flight.origin == code)
                .count(),
            arrivals: flights
                .iter()
                .filter(|flight| flight.destination == code)
                .count(),
        })
        .collect()
}
