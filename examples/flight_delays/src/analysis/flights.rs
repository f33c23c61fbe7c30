//! The flights: parsing, and their compact form.

use super::table::{DataError, Row, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const COLUMNS: &[&str] = &["date", "delay", "distance", "origin", "destination"];
const DATE: usize = 0;
const DELAY: usize = 1;
const DISTANCE: usize = 2;
const ORIGIN: usize = 3;
const DESTINATION: usize = 4;

/// A span of time, as `YYYY/MM/DD HH:MM` in local time of the airports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// The earliest departure.
    pub first: String,
    /// The latest departure.
    pub last: String,
}

impl Period {
    pub(super) fn at(date: &str) -> Self {
        Self {
            first: date.to_owned(),
            last: date.to_owned(),
        }
    }

    pub(super) fn include(&mut self, date: &str) {
        if date < self.first.as_str() {
            date.clone_into(&mut self.first);
        }
        if date > self.last.as_str() {
            date.clone_into(&mut self.last);
        }
    }
}

/// Validated flights, stored by column: the result of the extraction step.
///
/// The JSON form is that of [`FlightColumns`]; reading it back checks that the columns fit
/// together, so a damaged stored result is an error and not a panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlightColumns")]
pub struct Flights(FlightColumns);

/// The columns of [`Flights`]: entry `n` of each list belongs to flight `n`, in file order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlightColumns {
    /// Number of flights.
    pub count: usize,
    /// The first and the last departure.
    pub period: Period,
    /// The airport codes that occur, ascending; the other columns refer to them by index.
    pub codes: Vec<String>,
    /// Index of the origin in `codes`.
    pub origins: Vec<u16>,
    /// Index of the destination in `codes`.
    pub destinations: Vec<u16>,
    /// Delay in minutes; negative = early.
    pub delays: Vec<i32>,
    /// Recorded distance in miles.
    pub distances: Vec<u32>,
    /// Month of the departure, 1 to 12.
    pub months: Vec<u8>,
    /// Local hour of the departure, 0 to 23.
    pub hours: Vec<u8>,
}

/// One flight, as [`Flights::iter`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight<'f> {
    /// Code of the airport of departure.
    pub origin: &'f str,
    /// Code of the airport of arrival.
    pub destination: &'f str,
    /// Delay in minutes; negative = early.
    pub delay: i32,
    /// Recorded distance in miles.
    pub distance: u32,
    /// Month of the departure, 1 to 12.
    pub month: u8,
    /// Local hour of the departure, 0 to 23.
    pub hour: u8,
}

impl Flights {
    /// The number of flights; never 0.
    #[expect(clippy::len_without_is_empty, reason = "flights are never empty")]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// The first and the last departure.
    pub fn period(&self) -> &Period {
        &self.0.period
    }

    /// The airport codes that occur as origin or destination, ascending.
    pub fn codes(&self) -> &[String] {
        &self.0.codes
    }

    /// The flights in file order.
    pub fn iter(&self) -> impl Iterator<Item = Flight<'_>> {
        let columns = &self.0;
        (0..columns.count).map(|n| Flight {
            origin: &columns.codes[usize::from(columns.origins[n])],
            destination: &columns.codes[usize::from(columns.destinations[n])],
            delay: columns.delays[n],
            distance: columns.distances[n],
            month: columns.months[n],
            hour: columns.hours[n],
        })
    }
}

impl TryFrom<FlightColumns> for Flights {
    type Error = DataError;

    fn try_from(columns: FlightColumns) -> Result<Self, DataError> {
        let lengths = [
            columns.origins.len(),
            columns.destinations.len(),
            columns.delays.len(),
            columns.distances.len(),
            columns.months.len(),
            columns.hours.len(),
        ];
        let codes = columns.codes.len();
        let has_code = |index: &u16| usize::from(*index) < codes;
        let problem = if columns.count == 0 {
            "there are no flights"
        } else if lengths.iter().any(|length| *length != columns.count) {
            "not every column has one entry per flight"
        } else if !columns
            .origins
            .iter()
            .chain(&columns.destinations)
            .all(has_code)
        {
            "an airport index is beyond the code table"
        } else if !columns.months.iter().all(|month| (1..=12).contains(month)) {
            "a month is not from 1 to 12"
        } else if columns.hours.iter().any(|hour| *hour > 23) {
            "an hour is not from 0 to 23"
        } else {
            return Ok(Self(columns));
        };
        Err(DataError::Columns {
            problem: problem.to_owned(),
        })
    }
}

/// Parses flights from CSV text with the columns date, delay, distance, origin, destination.
///
/// Strict: the first line or value that is not as expected is an error, nothing is skipped. The
/// date is `YYYY/MM/DD HH:MM` and must exist in the calendar.
pub fn parse_flights(text: &str) -> Result<Flights, DataError> {
    let table = Table {
        name: "flights",
        columns: COLUMNS,
        text,
    };
    let mut builder = Builder::default();
    table.for_each(|row| builder.add(row))?;
    builder.finish()
}

/// Collects columns; `seen` numbers the codes in order of appearance.
#[derive(Default)]
struct Builder {
    seen: BTreeMap<String, u16>,
    origins: Vec<u16>,
    destinations: Vec<u16>,
    delays: Vec<i32>,
    distances: Vec<u32>,
    months: Vec<u8>,
    hours: Vec<u8>,
    period: Option<Period>,
}

impl Builder {
    fn add(&mut self, row: &Row<'_>) -> Result<(), DataError> {
        let (month, hour) = departure(row)?;
        let delay = row
            .text(DELAY)
            .parse()
            .map_err(|_| row.error(DELAY, "is not a whole number of minutes"))?;
        let distance = distance(row)?;
        let origin = self.code(row, ORIGIN)?;
        let destination = self.code(row, DESTINATION)?;
        // The fixed-width date sorts as text.
        let date = row.text(DATE);
        let period = self.period.get_or_insert_with(|| Period::at(date));
        period.include(date);
        self.origins.push(origin);
        self.destinations.push(destination);
        self.delays.push(delay);
        self.distances.push(distance);
        self.months.push(month);
        self.hours.push(hour);
        Ok(())
    }

    fn code(&mut self, row: &Row<'_>, column: usize) -> Result<u16, DataError> {
        let code = row.code(column)?;
        if let Some(index) = self.seen.get(code) {
            return Ok(*index);
        }
        let index = u16::try_from(self.seen.len())
            .map_err(|_| row.error(column, "is one airport code more than the 65,536 allowed"))?;
        self.seen.insert(code.to_owned(), index);
        Ok(index)
    }

    /// Renumbers the codes so that their table is ascending, whatever the order of the file.
    fn finish(self) -> Result<Flights, DataError> {
        let period = self.period.ok_or(DataError::Empty { table: "flights" })?;
        let mut rank = vec![0_u16; self.seen.len()];
        for (position, index) in (0_u16..=u16::MAX).zip(self.seen.values()) {
            rank[usize::from(*index)] = position;
        }
        let ranked = |indices: Vec<u16>| -> Vec<u16> {
            indices
                .into_iter()
                .map(|index| rank[usize::from(index)])
                .collect()
        };
        Flights::try_from(FlightColumns {
            count: self.delays.len(),
            period,
            origins: ranked(self.origins),
            destinations: ranked(self.destinations),
            delays: self.delays,
            distances: self.distances,
            months: self.months,
            hours: self.hours,
            codes: self.seen.into_keys().collect(),
        })
    }
}

fn distance(row: &Row<'_>) -> Result<u32, DataError> {
    let miles: i64 = row
        .text(DISTANCE)
        .parse()
        .map_err(|_| row.error(DISTANCE, "is not a whole number of miles"))?;
    if miles < 0 {
        return Err(row.error(DISTANCE, "is a negative distance"));
    }
    u32::try_from(miles).map_err(|_| row.error(DISTANCE, "is too large a distance"))
}

/// The month and the hour of a `YYYY/MM/DD HH:MM` date.
fn departure(row: &Row<'_>) -> Result<(u8, u8), DataError> {
    let text = row.text(DATE);
    let [year, month, day, hour, minute] = date_numbers(text)
        .ok_or_else(|| row.error(DATE, "is not a date of the form 2001/01/31 23:59"))?;
    let problem = if !(1..=12).contains(&month) {
        format!("has the month {month}; months are 1 to 12")
    } else if !(1..=days_in_month(year, month)).contains(&day) {
        format!(
            "has the day {day}; that month has {} days",
            days_in_month(year, month)
        )
    } else if hour > 23 {
        format!("has the hour {hour}; hours are 0 to 23")
    } else if minute > 59 {
        format!("has the minute {minute}; minutes are 0 to 59")
    } else {
        let small = |number| u8::try_from(number).map_err(|_| row.error(DATE, "is out of range"));
        return Ok((small(month)?, small(hour)?));
    };
    Err(row.error(DATE, problem))
}

/// Year, month, day, hour and minute, if the text has exactly the fixed-width form.
fn date_numbers(text: &str) -> Option<[u16; 5]> {
    const FORM: &[u8] = b"0000/00/00 00:00";
    let fits = |(form, byte): (&u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        separator => byte == *separator,
    };
    if text.len() != FORM.len() || !FORM.iter().zip(text.bytes()).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse().ok();
    Some([
        number(0, 4)?,
        number(5, 7)?,
        number(8, 10)?,
        number(11, 13)?,
        number(14, 16)?,
    ])
}

/// The number of days of a month (1 to 12) in the Gregorian calendar.
fn days_in_month(year: u16, month: u16) -> u16 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
