//! The airports: names, places and coordinates.

use super::table::{DataError, Row, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const COLUMNS: &[&str] = &[
    "iata",
    "name",
    "city",
    "state",
    "country",
    "latitude",
    "longitude",
];
const CODE: usize = 0;
const NAME: usize = 1;
const CITY: usize = 2;
const STATE: usize = 3;
const LATITUDE: usize = 5;
const LONGITUDE: usize = 6;

/// What the source writes for a city or a state that is not available.
const NOT_AVAILABLE: &str = "NA";

/// Airports by code: the result of the second extraction step.
///
/// As JSON, an object of code to `[name, city, state, latitude, longitude]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Airports(BTreeMap<String, Airport>);

/// Name, place and position of an airport. As JSON an array, to keep 3,376 of them compact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "AirportRow", into = "AirportRow")]
pub struct Airport {
    /// Name of the airport, as in the source.
    pub name: String,
    /// City, if the source gives one.
    pub city: Option<String>,
    /// Two-letter US state, if the source gives one.
    pub state: Option<String>,
    /// Degrees north of the equator, -90 to 90.
    pub latitude: f64,
    /// Degrees east of Greenwich, -180 to 180.
    pub longitude: f64,
}

type AirportRow = (String, Option<String>, Option<String>, f64, f64);

impl From<AirportRow> for Airport {
    fn from((name, city, state, latitude, longitude): AirportRow) -> Self {
        Self {
            name,
            city,
            state,
            latitude,
            longitude,
        }
    }
}

impl From<Airport> for AirportRow {
    fn from(airport: Airport) -> Self {
        (
            airport.name,
            airport.city,
            airport.state,
            airport.latitude,
            airport.longitude,
        )
    }
}

impl Airports {
    /// The airport with this code.
    pub fn get(&self, code: &str) -> Option<&Airport> {
        self.0.get(code)
    }

    /// The number of airports; 0 only if a selection left none.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a selection left no airport.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Codes and airports, by ascending code.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Airport)> {
        self.0
            .iter()
            .map(|(code, airport)| (code.as_str(), airport))
    }
}

/// Parses airports from CSV text with the columns iata, name, city, state, country, latitude,
/// longitude; keeps those in `only`, or all of them if it is `None`.
///
/// Strict in every line, kept or not: a code that occurs twice is an error too. The country is
/// not kept: no figure uses it.
pub fn parse_airports(text: &str, only: Option<&BTreeSet<String>>) -> Result<Airports, DataError> {
    let table = Table {
        name: "airports",
        columns: COLUMNS,
        text,
    };
    let mut airports = BTreeMap::new();
    table.for_each(|row| {
        let airport = airport(row)?;
        match airports.insert(row.code(CODE)?.to_owned(), airport) {
            Some(_) => Err(row.error(CODE, "occurs twice")),
            None => Ok(()),
        }
    })?;
    if let Some(only) = only {
        airports.retain(|code, _| only.contains(code));
    }
    Ok(Airports(airports))
}

fn airport(row: &Row<'_>) -> Result<Airport, DataError> {
    if row.text(NAME).is_empty() {
        return Err(row.error(NAME, "is not a name"));
    }
    Ok(Airport {
        name: row.text(NAME).to_owned(),
        city: available(row.text(CITY)),
        state: available(row.text(STATE)),
        latitude: degrees(row, LATITUDE, 90.0)?,
        longitude: degrees(row, LONGITUDE, 180.0)?,
    })
}

fn available(text: &str) -> Option<String> {
    (!text.is_empty() && text != NOT_AVAILABLE).then(|| text.to_owned())
}

fn degrees(row: &Row<'_>, column: usize, limit: f64) -> Result<f64, DataError> {
    let problem = || row.error(column, format!("is not a number from -{limit} to {limit}"));
    // The range also refuses "NaN" and "inf", which Rust parses as numbers.
    let degrees: f64 = row.text(column).parse().map_err(|_| problem())?;
    if (-limit..=limit).contains(&degrees) {
        Ok(degrees)
    } else {
        Err(problem())
    }
}
