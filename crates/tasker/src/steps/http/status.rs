//! What the status of an answer means, and when to ask again.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::steps::config::Reader;

/// Statuses between 400 and 499 that may go away: a timeout, a conflict with a request that is
/// still being worked on, a connection to the wrong place, a lock, a request that depends on
/// another one, one that came too early, and too many of them.
const PASSING: [u16; 7] = [408, 409, 421, 423, 424, 425, 429];

/// What an answer means for the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    Retryable,
    Permanent,
}

/// Statuses from one to another.
type Range = (u16, u16);

/// What was configured, in place of the defaults.
#[derive(Default)]
pub(super) struct Statuses {
    listed: Vec<(Meaning, Range)>,
}

impl Statuses {
    pub(super) fn read(config: &mut Reader) -> Statuses {
        let mut listed: Vec<(Meaning, Range)> = Vec::new();
        for (key, meaning) in [
            ("success", Meaning::Success),
            ("retryable", Meaning::Retryable),
            ("permanent", Meaning::Permanent),
        ] {
            for range in config.list(key, range) {
                // A single status may be taken out of a range that is listed elsewhere.
                let taken = listed
                    .iter()
                    .find(|(other, known)| *known == range && *other != meaning);
                if taken.is_some() {
                    let text = format!("{} is listed with two meanings", shown(range));
                    config.refuse(key, text);
                }
                listed.push((meaning, range));
            }
        }
        // The narrowest first: it was meant.
        listed.sort_by_key(|(_, (from, to))| to - from);
        Statuses { listed }
    }

    pub(super) fn meaning(&self, status: u16) -> Meaning {
        let listed = self
            .listed
            .iter()
            .find(|(_, (from, to))| (*from..=*to).contains(&status));
        match (listed, status) {
            (Some((meaning, _)), _) => *meaning,
            (None, 200..=299) => Meaning::Success,
            (None, 400..=499) if !PASSING.contains(&status) => Meaning::Permanent,
            (None, _) => Meaning::Retryable,
        }
    }
}

/// `404`, `"404"`, `"2xx"` or `"500-503"`.
fn range(value: &Value) -> Result<Range, String> {
    let expected =
        || format!("expected a status such as 404, \"2xx\" or \"500-503\", found {value}");
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return Err(expected()),
    };
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| expected());
    let range = if let Some(hundreds) = text.strip_suffix("xx") {
        let from = number(hundreds)?.saturating_mul(100);
        (from, from.saturating_add(99))
    } else {
        let (from, to) = text.split_once('-').unwrap_or((&text, &text));
        (number(from)?, number(to)?)
    };
    if range.0 < 100 || range.1 > 599 || range.0 > range.1 {
        return Err(expected());
    }
    Ok(range)
}

fn shown((from, to): Range) -> String {
    if from == to {
        return from.to_string();
    }
    format!("{from}-{to}")
}

/// How many seconds a `Retry-After` header asks to wait: a number, or a date in one of the three
/// forms that HTTP knows. A date that has passed asks for one second.
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<u64> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().unwrap_or(u64::MAX));
    }
    let until = date(header)?;
    let seconds = until.duration_since(now).as_secs();
    Some(u64::try_from(seconds).unwrap_or(0).max(1))
}

fn date(text: &str) -> Option<Timestamp> {
    if let Ok(time) = rfc2822::DateTimeParser::new().parse_timestamp(text) {
        return Some(time);
    }
    let old = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let time: DateTime = old
        .iter()
        .find_map(|form| strtime::parse(form, text).ok()?.to_datetime().ok())?;
    let time = time.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn statuses(config: &Value) -> Result<Statuses, Vec<crate::steps::ConfigProblem>> {
        let mut reader = Reader::new(config, &["success", "retryable", "permanent"])?;
        let made = Statuses::read(&mut reader);
        reader.end(Some(made))
    }

    #[test]
    fn defaults_tell_what_may_go_away() {
        let default = Statuses::default();
        for status in [200, 201, 204, 226, 299] {
            assert_eq!(default.meaning(status), Meaning::Success, "{status}");
        }
        for status in [400, 401, 403, 404, 405, 410, 422, 451] {
            assert_eq!(default.meaning(status), Meaning::Permanent, "{status}");
        }
        for status in [304, 408, 409, 423, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(default.meaning(status), Meaning::Retryable, "{status}");
        }
    }

    #[test]
    fn the_narrowest_of_what_is_configured_decides() {
        let config = json!({
            "success": [404, "3xx"], "retryable": ["4xx", "301"], "permanent": ["500-502", 409],
        });
        let statuses = statuses(&config).unwrap();
        for (status, meaning) in [
            (404, Meaning::Success),
            (302, Meaning::Success),
            (301, Meaning::Retryable),
            (400, Meaning::Retryable),
            (409, Meaning::Permanent),
            (501, Meaning::Permanent),
            (503, Meaning::Retryable),
            (200, Meaning::Success),
        ] {
            assert_eq!(statuses.meaning(status), meaning, "{status}");
        }
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for wrong in [
            json!(99),
            json!("6xx"),
            json!("abc"),
            json!("503-500"),
            json!(true),
            json!(2.5),
        ] {
            assert!(statuses(&json!({"success": [wrong]})).is_err(), "{wrong}");
        }
        assert!(statuses(&json!({"success": [404], "permanent": [404]})).is_err());
        assert!(statuses(&json!({"success": 404})).is_err());
    }

    #[test]
    fn all_forms_of_retry_after_are_understood() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        for (header, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(header, now), seconds, "{header}");
        }
    }
}
