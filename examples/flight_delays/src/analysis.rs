//! The computations: from two CSV texts to figures about airports, routes and hours.
//!
//! Every result is stored as the JSON result of a workflow step, so results are kept compact:
//! columns instead of 5,000 records, rows as arrays where there are thousands of them.
//!
//! Units: delays in minutes (negative = early), distances in statute miles, shares in percent.
//! Figures are not rounded here; [`crate::report`] rounds what it shows.

mod table;
mod flights;
mod airports;
mod delays;
mod routes;
mod insights;

pub use self::airports::{Airport, Airports, parse_airports};
pub use self::delays::{
    AirportDelays, AirportMetrics, DELAYED_AFTER_MINUTES, DelayFigures, HourDelays, MonthDelays,
    Place, UnknownAirport, airport_metrics,
};
pub use self::flights::{Flight, FlightColumns, Flights, Period, parse_flights};
pub use self::insights::{
    DistanceCheck, Insights, MIN_DEPARTURES, MIN_ROUTE_FLIGHTS, RouteInsight, TOP, insights,
};
pub use self::routes::{Route, RouteMetrics, great_circle_miles, route_metrics};
pub use self::table::DataError;
