//! What the parsers refuse, and what the report does with odd but valid data.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

use flight_delays::analysis::{
    FlightColumns, Flights, airport_metrics, insights, parse_airports, parse_flights, route_metrics,
};
use flight_delays::report::{html_report, json_summary};
use flight_delays::{AIRPORTS_CSV, FLIGHTS_CSV};
use std::collections::BTreeSet;

const FLIGHT_COLUMNS: &str = "date,delay,distance,origin,destination";
const AIRPORT_COLUMNS: &str = "iata,name,city,state,country,latitude,longitude";

/// The error text for a good flight followed by `line`, which is line 3 of the file.
#[track_caller]
fn flight_error(line: &str) -> String {
    let text = format!("{FLIGHT_COLUMNS}\n2001/01/31 00:00,-5,100,AAA,BBB\n{line}\n");
    parse_flights(&text).unwrap_err().to_string()
}

#[track_caller]
fn airport_error(line: &str) -> String {
    let text = format!("{AIRPORT_COLUMNS}\nAAA,A field,A,AA,USA,1.5,-90\n{line}\n");
    parse_airports(&text, None).unwrap_err().to_string()
}

#[test]
fn empty_input_is_refused() {
    let error = |text: &str| parse_flights(text).unwrap_err().to_string();
    assert_eq!(error(""), "flights: there are no records");
    assert_eq!(error("\n\n"), "flights: there are no records");
    assert_eq!(
        error(&format!("{FLIGHT_COLUMNS}\n")),
        "flights: there are no records"
    );
    let error = parse_airports(AIRPORT_COLUMNS, None)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "airports: there are no records");
}

#[test]
fn another_header_is_refused() {
    let error = parse_flights("date,delay\n1,2\n").unwrap_err().to_string();
    let expected = "flights line 1: expected the columns \
                    \"date,delay,distance,origin,destination\", found \"date,delay\"";
    assert_eq!(error, expected);
    let error = parse_airports(FLIGHTS_CSV, None).unwrap_err().to_string();
    assert!(
        error.starts_with("airports line 1: expected the columns"),
        "{error}"
    );
}

#[test]
fn a_wrong_number_of_fields_is_refused() {
    let error = flight_error("2001/01/01 01:10,95,2399,HNL");
    assert_eq!(error, "flights line 3: expected 5 fields, found 4");
    let error = airport_error("BBB,B,B,BB,USA,1,2,3");
    assert_eq!(error, "airports line 3: expected 7 fields, found 8");
}

#[test]
fn bad_dates_are_refused() {
    let form = "is not a date of the form 2001/01/31 23:59";
    for (date, problem) in [
        ("", form),
        ("2001-01-01 01:10", form),
        ("2001/1/1 01:10", form),
        ("2001/01/01", form),
        ("2001/01/01 01:1é", form),
        ("2001/01/01 +1:10", form),
        ("2001/00/01 01:10", "has the month 0; months are 1 to 12"),
        ("2001/13/01 01:10", "has the month 13; months are 1 to 12"),
        ("2001/01/00 01:10", "has the day 0; that month has 31 days"),
        ("2001/04/31 01:10", "has the day 31; that month has 30 days"),
        ("2001/02/29 01:10", "has the day 29; that month has 28 days"),
        ("1900/02/29 01:10", "has the day 29; that month has 28 days"),
        ("2000/02/30 01:10", "has the day 30; that month has 29 days"),
        ("2001/01/01 24:00", "has the hour 24; hours are 0 to 23"),
        ("2001/01/01 23:60", "has the minute 60; minutes are 0 to 59"),
    ] {
        let error = flight_error(&format!("{date},95,2399,HNL,SFO"));
        assert_eq!(
            error,
            format!("flights line 3, column date: \"{date}\" {problem}")
        );
    }
}

#[test]
fn leap_days_are_accepted() {
    for date in ["2000/02/29 23:59", "2004/02/29 00:00"] {
        let text = format!("{FLIGHT_COLUMNS}\n{date},0,0,AAA,BBB\n");
        assert_eq!(parse_flights(&text).unwrap().period().first, date);
    }
}

#[test]
fn bad_numbers_are_refused() {
    for (column, value, problem) in [
        ("delay", "", "is not a whole number of minutes"),
        ("delay", "late", "is not a whole number of minutes"),
        ("delay", "1.5", "is not a whole number of minutes"),
        ("delay", "99999999999", "is not a whole number of minutes"),
        ("distance", "far", "is not a whole number of miles"),
        ("distance", "-1", "is a negative distance"),
        ("distance", "4294967296", "is too large a distance"),
    ] {
        let (delay, distance) = if column == "delay" {
            (value, "1")
        } else {
            ("1", value)
        };
        let error = flight_error(&format!("2001/01/01 01:10,{delay},{distance},HNL,SFO"));
        assert_eq!(
            error,
            format!("flights line 3, column {column}: \"{value}\" {problem}")
        );
    }
}

#[test]
fn bad_codes_are_refused() {
    let problem = "is not an airport code (3 or 4 capitals or digits)";
    for code in ["", "LA", "LAXXX", "lax", "L X", "LÄX", "<b>"] {
        let error = flight_error(&format!("2001/01/01 01:10,1,1,{code},SFO"));
        assert_eq!(
            error,
            format!("flights line 3, column origin: \"{code}\" {problem}")
        );
        let error = flight_error(&format!("2001/01/01 01:10,1,1,SFO,{code}"));
        assert_eq!(
            error,
            format!("flights line 3, column destination: \"{code}\" {problem}")
        );
        let error = airport_error(&format!("{code},B,B,BB,USA,1,2"));
        assert_eq!(
            error,
            format!("airports line 3, column iata: \"{code}\" {problem}")
        );
    }
}

#[test]
fn bad_airports_are_refused() {
    for (line, expected) in [
        ("AAA,Again,A,AA,USA,1,2", "iata: \"AAA\" occurs twice"),
        ("BBB,,B,BB,USA,1,2", "name: \"\" is not a name"),
        (
            "BBB,B,B,BB,USA,north,2",
            "latitude: \"north\" is not a number from -90 to 90",
        ),
        (
            "BBB,B,B,BB,USA,90.1,2",
            "latitude: \"90.1\" is not a number from -90 to 90",
        ),
        (
            "BBB,B,B,BB,USA,NaN,2",
            "latitude: \"NaN\" is not a number from -90 to 90",
        ),
        (
            "BBB,B,B,BB,USA,1,-181",
            "longitude: \"-181\" is not a number from -180 to 180",
        ),
    ] {
        assert_eq!(
            airport_error(line),
            format!("airports line 3, column {expected}")
        );
    }
}

#[test]
fn error_lines_count_blank_lines_and_both_line_ends() {
    let text = format!("{FLIGHT_COLUMNS}\r\n\r\n2001/01/01 01:10,1,1,AAA,BBB\r\n\r\n\r\nbad\r\n");
    let error = parse_flights(&text).unwrap_err().to_string();
    assert_eq!(error, "flights line 6: expected 5 fields, found 1");
    // A quoted field may hold line ends.
    let text = format!("{AIRPORT_COLUMNS}\nAAA,\"A\nfield\",A,AA,USA,1,2\nbad\n");
    let error = parse_airports(&text, None).unwrap_err().to_string();
    assert_eq!(error, "airports line 4: expected 7 fields, found 1");
}

#[test]
fn a_selection_keeps_only_its_airports() {
    let wanted = BTreeSet::from(["HNL".to_owned(), "SFO".to_owned(), "???".to_owned()]);
    let airports = parse_airports(AIRPORTS_CSV, Some(&wanted)).unwrap();
    let codes: Vec<&str> = airports.iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["HNL", "SFO"]);
}

#[test]
fn damaged_stored_columns_are_refused() {
    fn error(damage: impl Fn(&mut FlightColumns)) -> String {
        let stored = serde_json::to_string(&parse_flights(FLIGHTS_CSV).unwrap()).unwrap();
        let mut columns: FlightColumns = serde_json::from_str(&stored).unwrap();
        damage(&mut columns);
        let damaged = serde_json::to_string(&columns).unwrap();
        serde_json::from_str::<Flights>(&damaged)
            .unwrap_err()
            .to_string()
    }
    let columns = "stored flight columns:";
    let text = error(|stored| stored.delays.truncate(7));
    assert_eq!(
        text,
        format!("{columns} not every column has one entry per flight")
    );
    let text = error(|stored| stored.destinations[3] = u16::MAX);
    assert_eq!(
        text,
        format!("{columns} an airport index is beyond the code table")
    );
    let text = error(|stored| stored.months[3] = 0);
    assert_eq!(text, format!("{columns} a month is not from 1 to 12"));
    let text = error(|stored| stored.hours[3] = 24);
    assert_eq!(text, format!("{columns} an hour is not from 0 to 23"));
    let text = error(|stored| stored.count = 0);
    assert_eq!(text, format!("{columns} there are no flights"));
}

/// Enough flights from `AAA` to the unlisted `ZZZ` and back for both to be ranked.
fn odd_report() -> (String, serde_json::Value) {
    let out = "2001/01/01 08:00,-1,100,AAA,ZZZ\n".repeat(40);
    let back = "2001/01/01 09:00,-1,100,ZZZ,AAA\n".repeat(30);
    let flights = parse_flights(&format!("{FLIGHT_COLUMNS}\n{out}{back}")).unwrap();
    let name = "<script>alert('x')</script> & \"\"Sons\"\"";
    let airports = format!("{AIRPORT_COLUMNS}\nAAA,\"{name}\",NA,NA,USA,1.5,-90\n");
    let airports = parse_airports(&airports, None).unwrap();
    let metrics = airport_metrics(&flights, &airports);
    let insights = insights(&metrics, &route_metrics(&flights, &airports));
    (
        html_report(&insights, "task <1>"),
        json_summary(&insights).unwrap(),
    )
}

#[test]
fn unknown_airports_are_listed_and_counted() {
    let (html, summary) = odd_report();
    let unknown = serde_json::json!([{"code": "ZZZ", "departures": 30, "arrivals": 40}]);
    assert_eq!(summary["unknown_airports"], unknown);
    assert_eq!(summary["overall"]["flights"], 70);
    assert_eq!(summary["distance_check"]["not_compared"], 2);
    assert!(html.contains("Airports without a name"));
}

#[test]
fn ties_are_in_order_of_codes_and_undefined_figures_are_null() {
    let (_, summary) = odd_report();
    let code = |place: usize| summary["most_delayed"][place]["code"].clone();
    assert_eq!([code(0), code(1)], ["AAA", "ZZZ"]);
    assert!(summary["distance_delay_correlation"].is_null());
    assert!(summary["distance_check"]["mean_difference"].is_null());
}

#[test]
fn the_page_escapes_its_data_and_needs_nothing_else() {
    let (html, _) = odd_report();
    let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;Sons&quot;";
    assert!(html.contains(escaped));
    assert!(html.contains("task &lt;1&gt;"));
    for outside in [
        "<script", "http:", "https:", " src=", "<link", "@import", "url(", "NaN",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let (html, _) = odd_report();
    let mut tables = 0;
    for table in html.split("<table>").skip(1) {
        let rows = table
            .split("</table>")
            .next()
            .unwrap()
            .split("<tr>")
            .skip(1);
        let cells = |row: &str| row.matches("</th>").count() + row.matches("</td>").count();
        let counts: Vec<usize> = rows.map(cells).collect();
        assert!(
            counts.iter().all(|count| *count == counts[0]),
            "{counts:?} in {table}"
        );
        tables += 1;
    }
    assert!(tables > 0);
}
