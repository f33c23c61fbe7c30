//! Values of JSON as values of the language, and back.
//!
//! The crate's own conversions make every positive whole number unsigned, so that `n + 1` would
//! not be defined. Here a whole number is a signed one if it fits.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::{Key, Map as CelMap};
use serde_json::{Map, Number, Value};

/// A value as the language sees it.
pub(super) fn from_json(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => from_number(number),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(from_json).collect())),
        Value::Object(members) => {
            let entries = members
                .iter()
                .map(|(key, member)| (Key::String(Arc::new(key.clone())), from_json(member)));
            let map: HashMap<Key, Cel> = entries.collect();
            Cel::Map(CelMap { map: Arc::new(map) })
        }
    }
}

fn from_number(number: &Number) -> Cel {
    if let Some(whole) = number.as_i64() {
        return Cel::Int(whole);
    }
    match number.as_u64() {
        Some(whole) => Cel::UInt(whole),
        None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// A value of the language as JSON, the keys of a computed map in their order.
pub(super) fn to_json(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(truth) => Value::Bool(*truth),
        Cel::Int(whole) => Value::from(*whole),
        Cel::UInt(whole) => Value::from(*whole),
        Cel::Float(number) => Number::from_f64(*number)
            .map(Value::Number)
            .ok_or("its result is infinite or not a number, which JSON does not have")?,
        Cel::String(text) => Value::String(text.to_string()),
        Cel::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Cel::Map(map) => {
            let mut entries: Vec<(String, &Cel)> = map
                .map
                .iter()
                .map(|(key, member)| (key.to_string(), member))
                .collect();
            // The language keeps no order; the same input shall give the same text.
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let mut members = Map::with_capacity(entries.len());
            for (key, member) in entries {
                members.insert(key, to_json(member)?);
            }
            Value::Object(members)
        }
        Cel::Bytes(_) => {
            return Err(
                "its result is bytes, which JSON does not have; base64.encode() makes a text"
                    .to_owned(),
            );
        }
        other => {
            let kind = other.type_of();
            return Err(format!(
                "its result is of type {kind}, which JSON does not have"
            ));
        }
    })
}
