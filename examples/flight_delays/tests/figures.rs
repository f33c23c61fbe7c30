//! Checks every figure of the analysis against a second computation, in SQL, from the same text.
//!
//! No expected figure is written down here: both sides compute it from the data files. The SQL
//! side reads the files by plain splitting and finds percentiles by window functions, so that it
//! shares neither code nor method with the crate.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

use flight_delays::analysis::{
    AirportMetrics, Airports, DELAYED_AFTER_MINUTES, DelayFigures, Flights, Insights,
    MIN_DEPARTURES, MIN_ROUTE_FLIGHTS, RouteMetrics, TOP, airport_metrics, insights,
    parse_airports, parse_flights, route_metrics,
};
use flight_delays::report::{html_report, json_summary};
use flight_delays::{AIRPORTS_CSV, FLIGHTS_CSV};
use rusqlite::{Connection, Row, params};
use serde_json::Value;
use std::cmp::Ordering;

const TOLERANCE: f64 = 1e-9;

#[track_caller]
fn assert_close(what: &str, ours: f64, expected: f64) {
    let allowed = TOLERANCE * expected.abs().max(1.0);
    assert!(
        (ours - expected).abs() <= allowed,
        "{what}: {ours} is not {expected}"
    );
}

/// The results of the four steps.
struct Analysis {
    flights: Flights,
    airports: Airports,
    metrics: AirportMetrics,
    routes: RouteMetrics,
    insights: Insights,
}

fn analysis() -> Analysis {
    let flights = parse_flights(FLIGHTS_CSV).unwrap();
    let airports = parse_airports(AIRPORTS_CSV, None).unwrap();
    let metrics = airport_metrics(&flights, &airports);
    let routes = route_metrics(&flights, &airports);
    let insights = insights(&metrics, &routes);
    Analysis {
        flights,
        airports,
        metrics,
        routes,
        insights,
    }
}

fn database() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE flights (date TEXT, delay INT, distance INT, origin TEXT, destination TEXT);
         CREATE TABLE airports (code TEXT PRIMARY KEY, name TEXT, city TEXT, state TEXT,
                                latitude REAL, longitude REAL);",
    )
    .unwrap();
    for line in FLIGHTS_CSV.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [date, delay, distance, origin, destination] = fields[..] else {
            panic!("{line}")
        };
        let row = params![date, delay, distance, origin, destination];
        db.execute("INSERT INTO flights VALUES (?, ?, ?, ?, ?)", row)
            .unwrap();
    }
    for line in AIRPORTS_CSV.lines().skip(1) {
        let fields = split_quoted(line);
        let [code, name, city, state, _, latitude, longitude] = &fields[..] else {
            panic!("{line}")
        };
        let row = params![code, name, city, state, latitude, longitude];
        db.execute("INSERT INTO airports VALUES (?, ?, ?, ?, ?, ?)", row)
            .unwrap();
    }
    db
}

/// Splits at the commas outside quotes; a doubled quote within quotes stands for one.
fn split_quoted(line: &str) -> Vec<String> {
    const DOUBLED: &str = "\u{1}";
    let line = line.replace("\"\"", DOUBLED);
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
        .iter()
        .map(|field| field.replace(DOUBLED, "\""))
        .collect()
}

fn query<T>(db: &Connection, sql: &str, read: impl Fn(&Row<'_>) -> T) -> Vec<T> {
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok(read(row))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn codes(db: &Connection, sql: &str) -> Vec<String> {
    query(db, sql, |row| row.get(0).unwrap())
}

/// The figures of every group of flights with the same value of the SQL expression `key`.
fn figures_in_sql(db: &Connection, key: &str) -> Vec<(String, DelayFigures)> {
    let sql = format!(
        "WITH ranked AS (
             SELECT {key} AS key, delay,
                    row_number() OVER (PARTITION BY {key} ORDER BY delay) AS place,
                    count(*) OVER (PARTITION BY {key}) AS size,
                    cume_dist() OVER (PARTITION BY {key} ORDER BY delay) AS reached
             FROM flights)
         SELECT key, count(*), sum(delay > {DELAYED_AFTER_MINUTES}),
                100.0 * sum(delay > {DELAYED_AFTER_MINUTES}) / count(*), avg(delay),
                avg(delay) FILTER (WHERE place IN ((size + 1) / 2, (size + 2) / 2)),
                min(delay) FILTER (WHERE reached >= 0.9), max(delay)
         FROM ranked GROUP BY key ORDER BY key"
    );
    query(db, &sql, |row| {
        let count = |column| usize::try_from(row.get::<_, i64>(column).unwrap()).unwrap();
        let figures = DelayFigures {
            flights: count(1),
            delayed: count(2),
            delayed_percent: row.get(3).unwrap(),
            mean_delay: row.get(4).unwrap(),
            median_delay: row.get(5).unwrap(),
            p90_delay: row.get(6).unwrap(),
            worst_delay: row.get(7).unwrap(),
        };
        (row.get(0).unwrap(), figures)
    })
}

#[track_caller]
fn assert_figures(ours: &[(String, &DelayFigures)], expected: &[(String, DelayFigures)]) {
    assert!(!expected.is_empty());
    let our_keys: Vec<&String> = ours.iter().map(|(key, _)| key).collect();
    let expected_keys: Vec<&String> = expected.iter().map(|(key, _)| key).collect();
    assert_eq!(our_keys, expected_keys);
    for ((key, ours), (_, expected)) in ours.iter().zip(expected) {
        let whole = |f: &DelayFigures| (f.flights, f.delayed, f.p90_delay, f.worst_delay);
        assert_eq!(whole(ours), whole(expected), "{key}");
        assert_close(key, ours.delayed_percent, expected.delayed_percent);
        assert_close(key, ours.mean_delay, expected.mean_delay);
        assert_close(key, ours.median_delay, expected.median_delay);
    }
}

#[test]
fn flights_hold_every_record() {
    let flights = analysis().flights;
    let flight = |row: &Row<'_>| {
        format!(
            "{} {} {} {} {} {}",
            row.get::<_, String>(0).unwrap(),
            row.get::<_, String>(1).unwrap(),
            row.get::<_, i64>(2).unwrap(),
            row.get::<_, i64>(3).unwrap(),
            row.get::<_, i64>(4).unwrap(),
            row.get::<_, i64>(5).unwrap(),
        )
    };
    let expected = query(
        &database(),
        "SELECT origin, destination, delay, distance, CAST(substr(date, 6, 2) AS INT),
                CAST(substr(date, 12, 2) AS INT) FROM flights ORDER BY rowid",
        flight,
    );
    let ours: Vec<String> = flights
        .iter()
        .map(|f| {
            let (origin, destination, delay) = (f.origin, f.destination, f.delay);
            format!(
                "{origin} {destination} {delay} {} {} {}",
                f.distance, f.month, f.hour
            )
        })
        .collect();
    assert_eq!(ours, expected);
    assert_eq!(flights.len(), expected.len());
}

#[test]
fn overall_figures_and_period_agree() {
    let metrics = analysis().metrics;
    let db = database();
    assert_figures(
        &[("all".into(), &metrics.overall)],
        &figures_in_sql(&db, "'all'"),
    );
    let period = query(&db, "SELECT min(date), max(date) FROM flights", |row| {
        (
            row.get::<_, String>(0).unwrap(),
            row.get::<_, String>(1).unwrap(),
        )
    });
    assert_eq!([(metrics.period.first, metrics.period.last)], period[..]);
}

#[test]
fn airport_figures_agree() {
    let metrics = analysis().metrics;
    let ours: Vec<_> = metrics
        .airports
        .iter()
        .map(|a| (a.code.clone(), &a.departures))
        .collect();
    assert_figures(&ours, &figures_in_sql(&database(), "origin"));
}

#[test]
fn airport_names_and_places_agree() {
    type Place = (String, Option<String>, Option<String>);
    let expected: Vec<(String, Option<Place>)> = query(
        &database(),
        "SELECT DISTINCT origin, name, nullif(city, 'NA'), nullif(state, 'NA')
         FROM flights LEFT JOIN airports ON code = origin ORDER BY origin",
        |row| {
            let name: Option<String> = row.get(1).unwrap();
            let place = name.map(|name| (name, row.get(2).unwrap(), row.get(3).unwrap()));
            (row.get(0).unwrap(), place)
        },
    );
    let metrics = analysis().metrics;
    let ours: Vec<(String, Option<Place>)> = metrics
        .airports
        .into_iter()
        .map(|a| {
            (
                a.code,
                a.place.map(|place| (place.name, place.city, place.state)),
            )
        })
        .collect();
    assert_eq!(ours, expected);
}

#[test]
fn hour_and_month_figures_agree() {
    let metrics = analysis().metrics;
    let db = database();
    let hours: Vec<_> = metrics
        .by_hour
        .iter()
        .map(|h| (format!("{:02}", h.hour), &h.departures))
        .collect();
    assert_figures(&hours, &figures_in_sql(&db, "substr(date, 12, 2)"));
    let months: Vec<_> = metrics
        .by_month
        .iter()
        .map(|m| (format!("{:02}", m.month), &m.departures))
        .collect();
    assert_figures(&months, &figures_in_sql(&db, "substr(date, 6, 2)"));
}

#[test]
fn unknown_airports_agree() {
    let expected = codes(
        &database(),
        "SELECT origin FROM flights UNION SELECT destination FROM flights
         EXCEPT SELECT code FROM airports ORDER BY 1",
    );
    let ours: Vec<String> = analysis()
        .metrics
        .unknown
        .into_iter()
        .map(|a| a.code)
        .collect();
    assert_eq!(ours, expected);
}

#[test]
fn route_figures_agree() {
    let routes = analysis().routes.routes;
    let expected = figures_in_sql(&database(), "origin || ' ' || destination");
    let distances = query(
        &database(),
        "SELECT avg(distance) FROM flights GROUP BY origin, destination
         ORDER BY origin || ' ' || destination",
        |row| row.get::<_, f64>(0).unwrap(),
    );
    assert_eq!(routes.len(), expected.len());
    for ((route, (key, figures)), distance) in routes.iter().zip(&expected).zip(distances) {
        assert_eq!(&format!("{} {}", route.origin, route.destination), key);
        assert_eq!(
            (route.flights, route.delayed),
            (figures.flights, figures.delayed),
            "{key}"
        );
        assert_close(key, route.mean_delay(), figures.mean_delay);
        assert_close(key, route.delayed_percent(), figures.delayed_percent);
        assert_close(key, route.distance(), distance);
    }
}

/// The angle between the airports' position vectors, times the Earth's radius: another formula
/// than the crate's.
fn arc_miles([lat1, lon1, lat2, lon2]: [f64; 4]) -> f64 {
    let vector = |lat: f64, lon: f64| {
        let (lat, lon) = (lat.to_radians(), lon.to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    };
    let (a, b) = (vector(lat1, lon1), vector(lat2, lon2));
    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let cross = [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ];
    let length = cross.iter().map(|part| part * part).sum::<f64>().sqrt();
    let radius_km = 6_371.008_8;
    length.atan2(dot) * radius_km / 1.609_344
}

/// Route, recorded distance and great-circle distance, by ascending codes.
fn distances(db: &Connection) -> Vec<(String, f64, f64)> {
    query(
        db,
        "SELECT DISTINCT origin || ' ' || destination, distance,
                a.latitude, a.longitude, b.latitude, b.longitude
         FROM flights JOIN airports a ON a.code = origin JOIN airports b ON b.code = destination
         ORDER BY 1",
        |row| {
            let number = |column| row.get::<_, f64>(column).unwrap();
            let arc = arc_miles([number(2), number(3), number(4), number(5)]);
            (row.get(0).unwrap(), number(1), arc)
        },
    )
}

#[test]
fn great_circle_distances_agree() {
    let Analysis {
        routes, insights, ..
    } = analysis();
    let mut expected = distances(&database());
    let known = routes
        .routes
        .iter()
        .filter_map(|route| Some((route, route.great_circle?)));
    for ((route, ours), (key, _, arc)) in known.clone().zip(&expected) {
        assert_eq!(&format!("{} {}", route.origin, route.destination), key);
        assert_close(key, ours, *arc);
    }
    assert_eq!(known.count(), expected.len());
    let check = insights.distance_check;
    assert_eq!(check.compared, expected.len());
    assert_eq!(check.compared + check.not_compared, insights.routes);
    let total: f64 = expected
        .iter()
        .map(|(_, recorded, arc)| (recorded - arc).abs())
        .sum();
    let mean = total / expected.len() as f64;
    assert_close("mean difference", check.mean_difference.unwrap(), mean);
    let size = |entry: &(String, f64, f64)| (entry.1 - entry.2).abs();
    expected.sort_by(|a, b| {
        // Both directions of a route differ equally, but for the last digits.
        if (size(a) - size(b)).abs() < TOLERANCE {
            Ordering::Equal
        } else {
            size(b).total_cmp(&size(a))
        }
    });
    let ours: Vec<String> = check
        .largest
        .iter()
        .map(|r| format!("{} {}", r.origin, r.destination))
        .collect();
    let expected: Vec<String> = expected.into_iter().take(ours.len()).map(|e| e.0).collect();
    assert_eq!(ours, expected);
}

#[test]
fn correlation_agrees() {
    let sums = query(
        &database(),
        "WITH means AS (SELECT avg(distance) AS x, avg(delay) AS y FROM flights)
         SELECT sum((distance - x) * (delay - y)), sum((distance - x) * (distance - x)),
                sum((delay - y) * (delay - y)) FROM flights, means",
        |row| [0, 1, 2].map(|column| row.get::<_, f64>(column).unwrap()),
    );
    let [together, distances, delays] = sums[0];
    let ours = analysis().insights.distance_delay_correlation.unwrap();
    assert_close("correlation", ours, together / (distances * delays).sqrt());
}

#[test]
fn rankings_agree() {
    let db = database();
    let insights = analysis().insights;
    let ranking = |order: &str| {
        codes(
            &db,
            &format!(
                "SELECT origin FROM flights GROUP BY origin HAVING count(*) >= {MIN_DEPARTURES}
                 ORDER BY {order}, origin LIMIT {TOP}"
            ),
        )
    };
    let most_delayed: Vec<_> = insights
        .most_delayed
        .iter()
        .map(|a| a.code.clone())
        .collect();
    assert_eq!(most_delayed, ranking("avg(delay) DESC"));
    let most_reliable: Vec<_> = insights
        .most_reliable
        .iter()
        .map(|a| a.code.clone())
        .collect();
    let share = format!("avg(delay > {DELAYED_AFTER_MINUTES})");
    assert_eq!(most_reliable, ranking(&share));
    let worst: Vec<String> = insights
        .worst_routes
        .iter()
        .map(|route| format!("{} {}", route.origin, route.destination))
        .collect();
    let expected = codes(
        &db,
        &format!(
            "SELECT origin || ' ' || destination FROM flights GROUP BY origin, destination
             HAVING count(*) >= {MIN_ROUTE_FLIGHTS}
             ORDER BY avg(delay) DESC, origin, destination LIMIT {TOP}"
        ),
    );
    assert_eq!(worst, expected);
}

#[test]
fn counts_agree() {
    let insights = analysis().insights;
    let expected = query(
        &database(),
        &format!(
            "SELECT (SELECT count(DISTINCT origin) FROM flights),
                    (SELECT count(DISTINCT origin || ' ' || destination) FROM flights),
                    (SELECT count(*) FROM (SELECT 1 FROM flights GROUP BY origin
                     HAVING count(*) >= {MIN_DEPARTURES})),
                    (SELECT count(*) FROM (SELECT 1 FROM flights GROUP BY origin, destination
                     HAVING count(*) >= {MIN_ROUTE_FLIGHTS}))"
        ),
        |row| [0, 1, 2, 3].map(|n| usize::try_from(row.get::<_, i64>(n).unwrap()).unwrap()),
    );
    let ours = [
        insights.airports,
        insights.routes,
        insights.ranked_airports,
        insights.ranked_routes,
    ];
    assert_eq!([ours], expected[..]);
}

/// The summary's ranked airports against SQL's own rounding of the same figures.
#[test]
fn summary_is_rounded_to_two_decimals() {
    let summary = json_summary(&analysis().insights).unwrap();
    let rounded: Vec<(String, f64, f64)> = query(
        &database(),
        &format!(
            "SELECT origin, round(avg(delay), 2),
                    round(100 * avg(delay > {DELAYED_AFTER_MINUTES}), 2)
             FROM flights GROUP BY origin HAVING count(*) >= {MIN_DEPARTURES}
             ORDER BY avg(delay) DESC, origin LIMIT {TOP}"
        ),
        |row| {
            (
                row.get(0).unwrap(),
                row.get(1).unwrap(),
                row.get(2).unwrap(),
            )
        },
    );
    let ours = summary["most_delayed"].as_array().unwrap();
    assert_eq!(ours.len(), rounded.len());
    for (ours, (code, mean, percent)) in ours.iter().zip(rounded) {
        assert_eq!(ours["code"], Value::from(code));
        assert_close("mean", ours["mean_delay"].as_f64().unwrap(), mean);
        assert_close(
            "percent",
            ours["delayed_percent"].as_f64().unwrap(),
            percent,
        );
    }
    assert_short_numbers(&summary);
}

fn assert_short_numbers(value: &Value) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
            assert!(decimals.len() <= 2 && text != "-0.0", "{text}");
        }
        Value::Array(values) => values.iter().for_each(assert_short_numbers),
        Value::Object(fields) => fields.values().for_each(assert_short_numbers),
        _ => {}
    }
}

/// Steps hand their results on as JSON text; a result read back must lead to the same findings.
#[test]
fn findings_survive_storage_of_every_result() {
    fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(result: &T) -> T {
        serde_json::from_str(&serde_json::to_string(result).unwrap()).unwrap()
    }
    let fresh = analysis();
    let (flights, airports) = (stored(&fresh.flights), stored(&fresh.airports));
    assert_eq!(flights, fresh.flights);
    let metrics = stored(&airport_metrics(&flights, &airports));
    let routes = stored(&route_metrics(&flights, &airports));
    let insights = stored(&insights(&metrics, &routes));
    assert_eq!(
        json_summary(&insights).unwrap(),
        json_summary(&fresh.insights).unwrap()
    );
    assert_eq!(html_report(&insights, ""), html_report(&fresh.insights, ""));
}
