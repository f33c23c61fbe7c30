//! The findings: rankings and overall figures.

use super::delays::{
    AirportDelays, AirportMetrics, DelayFigures, HourDelays, MonthDelays, UnknownAirport,
};
use super::flights::Period;
use super::routes::{Route, RouteMetrics};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How many entries a ranking has at most.
pub const TOP: usize = 10;

/// Airports with fewer departures are not ranked: one bad day would decide their place.
pub const MIN_DEPARTURES: usize = 30;

/// Routes with fewer flights are not ranked.
pub const MIN_ROUTE_FLIGHTS: usize = 8;

/// How many routes [`DistanceCheck::largest`] lists at most.
const LARGEST_DIFFERENCES: usize = 5;

/// A route in a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteInsight {
    /// Code of the airport of departure.
    pub origin: String,
    /// Code of the airport of arrival.
    pub destination: String,
    /// City of departure, if known.
    pub origin_city: Option<String>,
    /// City of arrival, if known from a departure of the same airport.
    pub destination_city: Option<String>,
    /// Number of flights.
    pub flights: usize,
    /// Mean delay in minutes.
    pub mean_delay: f64,
    /// Share of the flights that were delayed, in percent.
    pub delayed_percent: f64,
    /// Recorded distance in miles (the mean, should flights differ).
    pub distance: f64,
    /// Great-circle distance in miles, if both airports are known.
    pub great_circle: Option<f64>,
}

/// How well the recorded distances agree with the coordinates of the airports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistanceCheck {
    /// Routes with a known great-circle distance.
    pub compared: usize,
    /// Routes without, because an airport is unknown.
    pub not_compared: usize,
    /// Mean over the compared routes of the absolute difference in miles; `None` without any.
    pub mean_difference: Option<f64>,
    /// The routes that differ most, in descending order of the absolute difference.
    pub largest: Vec<RouteInsight>,
}

/// The findings of the whole analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Insights {
    /// The first and the last departure.
    pub period: Period,
    /// All flights together.
    pub overall: DelayFigures,
    /// Airports with at least one departure.
    pub airports: usize,
    /// Routes flown.
    pub routes: usize,
    /// Departures an airport needs to be ranked.
    pub min_departures: usize,
    /// Airports with that many departures.
    pub ranked_airports: usize,
    /// Flights a route needs to be ranked.
    pub min_route_flights: usize,
    /// Routes with that many flights.
    pub ranked_routes: usize,
    /// Ranked airports by descending mean delay.
    pub most_delayed: Vec<AirportDelays>,
    /// Ranked airports by ascending share of delayed departures.
    pub most_reliable: Vec<AirportDelays>,
    /// Ranked routes by descending mean delay.
    pub worst_routes: Vec<RouteInsight>,
    /// Delays by local hour of departure, ascending.
    pub by_hour: Vec<HourDelays>,
    /// Delays by month, ascending.
    pub by_month: Vec<MonthDelays>,
    /// Pearson correlation of distance and delay over all flights, -1 to 1, if defined.
    pub distance_delay_correlation: Option<f64>,
    /// Recorded against great-circle distances.
    pub distance_check: DistanceCheck,
    /// Airports of the flights that the airport table lacks, by ascending code.
    pub unknown_airports: Vec<UnknownAirport>,
}

/// Derives the findings. Equal entries of a ranking are in order of their codes.
pub fn insights(airports: &AirportMetrics, routes: &RouteMetrics) -> Insights {
    let cities = Cities::of(airports);
    let ranked: Vec<&AirportDelays> = airports
        .airports
        .iter()
        .filter(|airport| airport.departures.flights >= MIN_DEPARTURES)
        .collect();
    let ranked_routes: Vec<&Route> = routes
        .routes
        .iter()
        .filter(|route| route.flights >= MIN_ROUTE_FLIGHTS)
        .collect();
    let delay = |airport: &&AirportDelays| -airport.departures.mean_delay;
    let unreliability = |airport: &&AirportDelays| airport.departures.delayed_percent;
    let worst = top(&ranked_routes, TOP, |route| -route.mean_delay());
    Insights {
        period: airports.period.clone(),
        overall: airports.overall.clone(),
        airports: airports.airports.len(),
        routes: routes.routes.len(),
        min_departures: MIN_DEPARTURES,
        ranked_airports: ranked.len(),
        min_route_flights: MIN_ROUTE_FLIGHTS,
        ranked_routes: ranked_routes.len(),
        most_delayed: top(&ranked, TOP, delay).into_iter().cloned().collect(),
        most_reliable: top(&ranked, TOP, unreliability)
            .into_iter()
            .cloned()
            .collect(),
        worst_routes: worst
            .into_iter()
            .map(|route| cities.describe(route))
            .collect(),
        by_hour: airports.by_hour.clone(),
        by_month: airports.by_month.clone(),
        distance_delay_correlation: routes.distance_delay_correlation,
        distance_check: distance_check(&routes.routes, &cities),
        unknown_airports: airports.unknown.clone(),
    }
}

/// The `count` entries with the smallest keys, in ascending order.
///
/// The sort is stable and the entries come in order of their codes, so that ties stay so.
fn top<T: Copy>(entries: &[T], count: usize, key: impl Fn(&T) -> f64) -> Vec<T> {
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| compare(key(a), key(b)));
    sorted.truncate(count);
    sorted
}

/// Total order of finite numbers in which 0 and -0 are equal, as ties must be.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

fn distance_check(routes: &[Route], cities: &Cities<'_>) -> DistanceCheck {
    let difference = |route: &Route| route.distance_difference().map(f64::abs);
    let compared: Vec<&Route> = routes
        .iter()
        .filter(|route| route.great_circle.is_some())
        .collect();
    let total: f64 = routes.iter().filter_map(difference).sum();
    let largest = top(&compared, LARGEST_DIFFERENCES, |route| {
        -difference(route).unwrap_or(0.0)
    });
    DistanceCheck {
        compared: compared.len(),
        not_compared: routes.len() - compared.len(),
        mean_difference: (!compared.is_empty()).then(|| total / compared.len() as f64),
        largest: largest
            .into_iter()
            .map(|route| cities.describe(route))
            .collect(),
    }
}

/// The cities of the airports with departures, by code.
struct Cities<'m>(BTreeMap<&'m str, &'m str>);

impl<'m> Cities<'m> {
    fn of(metrics: &'m AirportMetrics) -> Self {
        let city = |airport: &'m AirportDelays| {
            Some((
                airport.code.as_str(),
                airport.place.as_ref()?.city.as_deref()?,
            ))
        };
        Self(metrics.airports.iter().filter_map(city).collect())
    }

    fn describe(&self, route: &Route) -> RouteInsight {
        let city = |code: &str| self.0.get(code).map(|city| (*city).to_owned());
        RouteInsight {
            origin: route.origin.clone(),
            destination: route.destination.clone(),
            origin_city: city(&route.origin),
            destination_city: city(&route.destination),
            flights: route.flights,
            mean_delay: route.mean_delay(),
            delayed_percent: route.delayed_percent(),
            distance: route.distance(),
            great_circle: route.great_circle,
        }
    }
}
