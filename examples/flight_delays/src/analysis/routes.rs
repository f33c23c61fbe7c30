//! Delays and distances per route.

use super::airports::{Airport, Airports};
use super::delays::{DELAYED_AFTER_MINUTES, percent};
use super::flights::Flights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Mean radius of the Earth in statute miles: 6,371.0088 km of 1.609344 km a mile.
const EARTH_RADIUS_MILES: f64 = 6_371.008_8 / 1.609_344;

/// The flights of one route, from origin to destination; the way back is another route.
///
/// Holds exact sums; the means and the share are derived from them. As JSON an array of the
/// fields in this order, because there are thousands of routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "RouteRow", into = "RouteRow")]
pub struct Route {
    /// Code of the airport of departure.
    pub origin: String,
    /// Code of the airport of arrival.
    pub destination: String,
    /// Number of flights; at least 1.
    pub flights: usize,
    /// How many were more than [`DELAYED_AFTER_MINUTES`] late.
    pub delayed: usize,
    /// Sum of the delays in minutes, early flights counting as negative.
    pub total_delay: i64,
    /// Sum of the recorded distances in miles.
    pub total_distance: u64,
    /// Great-circle distance in miles from the coordinates of the two airports, by
    /// [`great_circle_miles`]; `None` if the airport table lacks one of them.
    pub great_circle: Option<f64>,
}

type RouteRow = (String, String, usize, usize, i64, u64, Option<f64>);

impl From<RouteRow> for Route {
    fn from(row: RouteRow) -> Self {
        let (origin, destination, flights, delayed, total_delay, total_distance, great_circle) =
            row;
        Self {
            origin,
            destination,
            flights,
            delayed,
            total_delay,
            total_distance,
            great_circle,
        }
    }
}

impl From<Route> for RouteRow {
    fn from(route: Route) -> Self {
        (
            route.origin,
            route.destination,
            route.flights,
            route.delayed,
            route.total_delay,
            route.total_distance,
            route.great_circle,
        )
    }
}

impl Route {
    /// Mean delay in minutes, early flights counting as negative.
    pub fn mean_delay(&self) -> f64 {
        self.total_delay as f64 / self.flights as f64
    }

    /// Share of the flights that were delayed, in percent.
    pub fn delayed_percent(&self) -> f64 {
        percent(self.delayed, self.flights)
    }

    /// Mean recorded distance in miles; the recorded distance if all flights agree on it.
    pub fn distance(&self) -> f64 {
        self.total_distance as f64 / self.flights as f64
    }

    /// Recorded minus great-circle distance in miles, if the latter is known.
    pub fn distance_difference(&self) -> Option<f64> {
        Some(self.distance() - self.great_circle?)
    }
}

/// All routes, and how delay and distance go together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteMetrics {
    /// Every route flown, by ascending origin, then destination.
    pub routes: Vec<Route>,
    /// Pearson correlation of distance and delay over all flights, -1 to 1; `None` if all
    /// distances or all delays are equal.
    pub distance_delay_correlation: Option<f64>,
}

/// Computes flights, delays and distances per route.
pub fn route_metrics(flights: &Flights, airports: &Airports) -> RouteMetrics {
    let mut routes: BTreeMap<(&str, &str), Route> = BTreeMap::new();
    for flight in flights.iter() {
        let route = routes
            .entry((flight.origin, flight.destination))
            .or_insert_with(|| new_route(flight.origin, flight.destination, airports));
        route.flights += 1;
        route.delayed += usize::from(flight.delay > DELAYED_AFTER_MINUTES);
        route.total_delay += i64::from(flight.delay);
        route.total_distance += u64::from(flight.distance);
    }
    RouteMetrics {
        routes: routes.into_values().collect(),
        distance_delay_correlation: correlation(flights),
    }
}

fn new_route(origin: &str, destination: &str, airports: &Airports) -> Route {
    let ends = airports.get(origin).zip(airports.get(destination));
    Route {
        origin: origin.to_owned(),
        destination: destination.to_owned(),
        flights: 0,
        delayed: 0,
        total_delay: 0,
        total_distance: 0,
        great_circle: ends.map(|(from, to)| great_circle_miles(from, to)),
    }
}

/// The shortest distance over the Earth's surface in statute miles, by the haversine formula.
///
/// With latitudes φ and longitudes λ in radians and the mean Earth radius R ≈ 3,958.76 miles:
/// h = sin²(Δφ/2) + cos φ₁ · cos φ₂ · sin²(Δλ/2), distance = 2 R · asin √h. The Earth is taken as
/// a sphere, which is wrong by up to 0.6 %.
pub fn great_circle_miles(from: &Airport, to: &Airport) -> f64 {
    let half_latitude = (to.latitude - from.latitude).to_radians() / 2.0;
    let half_longitude = (to.longitude - from.longitude).to_radians() / 2.0;
    let cosines = from.latitude.to_radians().cos() * to.latitude.to_radians().cos();
    let haversine = half_latitude.sin().powi(2) + cosines * half_longitude.sin().powi(2);
    // Rounding may lift the value of antipodes above 1, where the arc sine is not defined.
    2.0 * EARTH_RADIUS_MILES * haversine.min(1.0).sqrt().asin()
}

/// Pearson correlation of distance and delay, in two passes: the one-pass formula with sums of
/// squares loses digits when the means are large.
fn correlation(flights: &Flights) -> Option<f64> {
    let count = flights.len() as f64;
    let mean_distance = flights.iter().map(|f| f64::from(f.distance)).sum::<f64>() / count;
    let mean_delay = flights.iter().map(|f| f64::from(f.delay)).sum::<f64>() / count;
    let (mut together, mut distances, mut delays) = (0.0, 0.0, 0.0);
    for flight in flights.iter() {
        let distance = f64::from(flight.distance) - mean_distance;
        let delay = f64::from(flight.delay) - mean_delay;
        together += distance * delay;
        distances += distance * distance;
        delays += delay * delay;
    }
    let spread = f64::sqrt(distances) * f64::sqrt(delays);
    (spread > 0.0).then(|| together / spread)
}
