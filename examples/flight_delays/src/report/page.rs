//! The HTML page: its sections in reading order.

use super::charts::{Bar, horizontal_bars, vertical_bars};
use super::html::{count, decimal, escape, table, whole};
use crate::analysis::{
    AirportDelays, DELAYED_AFTER_MINUTES, DelayFigures, HourDelays, Insights, Period, RouteInsight,
};

const STYLE: &str = include_str!("style.css");

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const FIGURE_HEADINGS: [&str; 7] = [
    "Flights",
    "Delayed",
    "Delayed, %",
    "Mean",
    "Median",
    "90th percentile",
    "Worst",
];

/// The findings as one self-contained HTML page: no scripts, no further files.
///
/// `note` is a line for the foot of the page, such as the id of the workflow that made it; an
/// empty one is left out. All texts of the data and the note are escaped.
pub fn html_report(insights: &Insights, note: &str) -> String {
    let sections = [
        header(insights),
        "<main>\n".to_owned(),
        most_delayed(insights),
        by_hour(insights),
        most_reliable(insights),
        worst_routes(insights),
        by_month(insights),
        distances(insights),
        unknown_airports(insights),
        "</main>\n".to_owned(),
        footer(note),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Flight delays</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {}</body>\n</html>\n",
        sections.concat()
    )
}

fn header(insights: &Insights) -> String {
    let all = &insights.overall;
    let minutes = |number: String| format!("{number} <small>min</small>");
    let tiles = [
        ("flights", count(all.flights)),
        ("origin airports", count(insights.airports)),
        ("routes", count(insights.routes)),
        ("mean delay", minutes(decimal(all.mean_delay))),
        ("median delay", minutes(decimal(all.median_delay))),
        (
            "delayed flights",
            format!("{} <small>%</small>", decimal(all.delayed_percent)),
        ),
    ];
    let tiles =
        tiles.map(|(name, figure)| format!("<div><dt>{name}</dt><dd>{figure}</dd></div>\n"));
    let tiles = tiles.concat();
    format!(
        "<header>\n<h1>Flight delays</h1>\n\
         <p class=\"soft\">{flights} US domestic flights, {period}. A flight counts as delayed if \
         it is more than {DELAYED_AFTER_MINUTES} minutes late; early flights count as negative \
         delays.</p>\n<dl class=\"tiles\">\n{tiles}</dl>\n</header>\n",
        flights = count(all.flights),
        period = escape(&days(&insights.period)),
    )
}

/// `2001-01-01 to 2001-03-31`.
fn days(period: &Period) -> String {
    let day = |date: &str| date.split(' ').next().unwrap_or_default().replace('/', "-");
    format!("{} to {}", day(&period.first), day(&period.last))
}

fn most_delayed(insights: &Insights) -> String {
    let title = "Most delayed airports";
    let bars: Vec<Bar> = insights
        .most_delayed
        .iter()
        .map(|airport| Bar {
            label: short_name(airport),
            value: Some(airport.departures.mean_delay),
            hint: format!("{}: {}", full_name(airport), hint(&airport.departures)),
        })
        .collect();
    let description = "Bars of the mean delay in minutes; the table below has the figures.";
    let ranked = ranking_note(
        insights.ranked_airports,
        "airports",
        insights.min_departures,
    );
    let chart = horizontal_bars("airports", "Mean delay by airport", description, &bars);
    let table = airport_table(
        "Most delayed airports in figures; delays in minutes",
        &insights.most_delayed,
    );
    section(
        title,
        &format!("Mean delay of departures, minutes. {ranked}"),
        &(chart + &table),
    )
}

fn most_reliable(insights: &Insights) -> String {
    let ranked = ranking_note(
        insights.ranked_airports,
        "airports",
        insights.min_departures,
    );
    section(
        "Most reliable airports",
        &format!("By the share of delayed departures. {ranked}"),
        &airport_table(
            "Most reliable airports in figures; delays in minutes",
            &insights.most_reliable,
        ),
    )
}

fn ranking_note(ranked: usize, what: &str, minimum: usize) -> String {
    let flights = if what == "airports" {
        "departures"
    } else {
        "flights"
    };
    format!(
        "Ranked: the {} {what} with at least {} {flights}.",
        count(ranked),
        count(minimum)
    )
}

/// Hours with fewer flights than an airport needs to be ranked get no bar: one late night
/// flight would set the scale of the chart.
fn by_hour(insights: &Insights) -> String {
    let bars: Vec<Bar> = (0..24).map(|hour| hour_bar(hour, insights)).collect();
    let description = "Bars of the mean delay in minutes for the hours 0 to 23; the table below \
                       has the figures.";
    let chart = vertical_bars(
        "hours",
        "Mean delay by hour of departure",
        description,
        &bars,
    );
    let rows = insights.by_hour.iter().map(|hour| {
        figure_row(
            [format!("{:02}:00–{:02}:59", hour.hour, hour.hour)],
            &hour.departures,
        )
    });
    let headings = headings(&["Hour"]);
    let table = table(
        "All hours with a departure; delays in minutes",
        1,
        &headings,
        rows,
    );
    section(
        "Delay by hour of day",
        &format!(
            "Mean delay, minutes, by local hour of departure. A dash marks an hour with fewer \
             than {} flights.",
            insights.min_departures
        ),
        &format!("{chart}<details><summary>Figures by hour</summary>\n{table}</details>\n"),
    )
}

fn hour_bar(hour: u8, insights: &Insights) -> Bar {
    let found: Option<&HourDelays> = insights.by_hour.iter().find(|entry| entry.hour == hour);
    let figures = found.map(|entry| &entry.departures);
    Bar {
        label: format!("{hour:02}"),
        value: figures
            .filter(|figures| figures.flights >= insights.min_departures)
            .map(|figures| figures.mean_delay),
        hint: match figures {
            Some(figures) => format!("{hour:02}:00: {}", hint(figures)),
            None => format!("{hour:02}:00: no flights"),
        },
    }
}

fn by_month(insights: &Insights) -> String {
    let rows = insights.by_month.iter().map(|entry| {
        let name = MONTHS
            .get(usize::from(entry.month).wrapping_sub(1))
            .copied();
        figure_row([name.unwrap_or("Unknown").to_owned()], &entry.departures)
    });
    let table = table(
        "Delay by month in figures; delays in minutes",
        1,
        &headings(&["Month"]),
        rows,
    );
    section("Delay by month", "By the date of departure.", &table)
}

fn worst_routes(insights: &Insights) -> String {
    let rows = insights.worst_routes.iter().map(|route| {
        vec![
            route_codes(route),
            route_cities(route),
            count(route.flights),
            decimal(route.delayed_percent),
            decimal(route.mean_delay),
            decimal(route.distance),
        ]
    });
    let headings = [
        "Route",
        "Cities",
        "Flights",
        "Delayed, %",
        "Mean, min",
        "Distance, miles",
    ];
    let ranked = ranking_note(insights.ranked_routes, "routes", insights.min_route_flights);
    section(
        "Worst routes",
        &format!("By mean delay. {ranked} With so few flights each, one bad day shows."),
        &table("Worst routes in figures", 2, &headings, rows),
    )
}

fn distances(insights: &Insights) -> String {
    let check = &insights.distance_check;
    let correlation = match insights.distance_delay_correlation {
        Some(r) => format!(
            "Distance and delay: {} correlation (Pearson r = {}).",
            strength(r),
            decimal(r)
        ),
        None => "Distance and delay: no correlation can be computed.".to_owned(),
    };
    let agreement = match check.mean_difference {
        Some(miles) => format!(
            "On {} routes the recorded distance differs from the great-circle distance between \
             the airports by {} miles on average.",
            count(check.compared),
            decimal(miles)
        ),
        None => "No route has coordinates to compare its distance with.".to_owned(),
    };
    let rows = check.largest.iter().map(|route| {
        let great_circle = route.great_circle.unwrap_or(route.distance);
        vec![
            route_codes(route),
            route_cities(route),
            decimal(route.distance),
            decimal(great_circle),
            decimal(route.distance - great_circle),
        ]
    });
    let headings = [
        "Route",
        "Cities",
        "Recorded, miles",
        "Great circle, miles",
        "Difference, miles",
    ];
    section(
        "Distances",
        &format!("{correlation} {agreement}"),
        &table("Routes with the largest difference", 2, &headings, rows),
    )
}

/// A word for the size of a correlation, by the usual rule of thumb.
fn strength(correlation: f64) -> &'static str {
    match correlation.abs() {
        size if size < 0.1 => "practically no",
        size if size < 0.3 => "a weak",
        size if size < 0.5 => "a moderate",
        _ => "a strong",
    }
}

fn unknown_airports(insights: &Insights) -> String {
    if insights.unknown_airports.is_empty() {
        return String::new();
    }
    let rows = insights.unknown_airports.iter().map(|airport| {
        vec![
            airport.code.clone(),
            count(airport.departures),
            count(airport.arrivals),
        ]
    });
    section(
        "Airports without a name",
        "These occur in the flights but not in the airport table. Their flights are counted in \
         all figures; they have no place and no great-circle distance.",
        &table(
            "Unknown airports",
            1,
            &["Code", "Departures", "Arrivals"],
            rows,
        ),
    )
}

fn footer(note: &str) -> String {
    let note = match note {
        "" => String::new(),
        note => format!("<p>{}</p>\n", escape(note)),
    };
    format!(
        "<footer>\n<p>Fractions are rounded to two decimals. The 90th percentile is by nearest \
         rank: the smallest delay that at least 90 % of the flights do not exceed. Great-circle \
         distances are by the haversine formula on a sphere of radius 3,958.76 miles.</p>\n\
         <p>Source: US Department of Transportation, Bureau of Transportation Statistics, on-time \
         performance; US government work, public domain.</p>\n{note}</footer>\n"
    )
}

/// A section with plain texts for title and lead, and HTML as content.
fn section(title: &str, lead: &str, content: &str) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n{content}</section>\n",
        escape(title),
        escape(lead)
    )
}

fn airport_table(caption: &str, airports: &[AirportDelays]) -> String {
    let rows = airports.iter().map(|airport| {
        figure_row(
            [airport.code.clone(), full_name(airport)],
            &airport.departures,
        )
    });
    table(caption, 2, &headings(&["Code", "Airport"]), rows)
}

fn headings<'h>(first: &[&'h str]) -> Vec<&'h str> {
    first.iter().copied().chain(FIGURE_HEADINGS).collect()
}

fn figure_row<const N: usize>(first: [String; N], figures: &DelayFigures) -> Vec<String> {
    let cells = [
        count(figures.flights),
        count(figures.delayed),
        decimal(figures.delayed_percent),
        decimal(figures.mean_delay),
        decimal(figures.median_delay),
        whole(figures.p90_delay),
        whole(figures.worst_delay),
    ];
    first.into_iter().chain(cells).collect()
}

fn hint(figures: &DelayFigures) -> String {
    format!(
        "mean {} min of {} flights",
        decimal(figures.mean_delay),
        count(figures.flights)
    )
}

/// `Chicago (ORD)`; without a city, the code alone.
fn short_name(airport: &AirportDelays) -> String {
    match airport.place.as_ref().and_then(|place| place.city.as_ref()) {
        Some(city) => format!("{city} ({})", airport.code),
        None => airport.code.clone(),
    }
}

/// `Chicago O'Hare International, Chicago, IL`, as far as it is known.
fn full_name(airport: &AirportDelays) -> String {
    match &airport.place {
        Some(place) => [Some(&place.name), place.city.as_ref(), place.state.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        None => "name unknown".to_owned(),
    }
}

fn route_codes(route: &RouteInsight) -> String {
    format!("{} → {}", route.origin, route.destination)
}

fn route_cities(route: &RouteInsight) -> String {
    let origin = route.origin_city.as_ref().unwrap_or(&route.origin);
    let destination = route
        .destination_city
        .as_ref()
        .unwrap_or(&route.destination);
    format!("{origin} – {destination}")
}
