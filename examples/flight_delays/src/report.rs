//! What people and programs get to read: an HTML page and a JSON summary.
//!
//! Both round to [`DECIMALS`] decimals. The data has whole minutes and miles of a few thousand
//! flights; further digits of a mean would say nothing, and `12.299999999999999` reads badly. The
//! figures of [`crate::analysis`] stay unrounded, so that rounding happens once, at the end.

mod html;
mod charts;
mod page;

pub use self::page::html_report;

use crate::analysis::Insights;
use serde_json::{Number, Value};

/// Decimals of every fractional number in the report and in the summary.
pub const DECIMALS: usize = 2;

/// The findings as JSON: the fields of [`Insights`] with every fraction rounded.
pub fn json_summary(insights: &Insights) -> serde_json::Result<Value> {
    let mut summary = serde_json::to_value(insights)?;
    round_numbers(&mut summary);
    Ok(summary)
}

fn round_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(rounded) = number.as_f64().map(rounded).and_then(Number::from_f64) {
                *number = rounded;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(round_numbers),
        Value::Object(fields) => fields.values_mut().for_each(round_numbers),
        _ => {}
    }
}

/// Rounds half away from zero to [`DECIMALS`] decimals; never gives a negative zero, which would
/// print as `-0.0`.
fn rounded(number: f64) -> f64 {
    const SCALE: f64 = 100.0;
    (number * SCALE).round() / SCALE + 0.0
}
