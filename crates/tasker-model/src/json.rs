//! JSON as text that is known to be valid.
//!
//! Contexts and results travel from handler to store and back without being parsed on the way;
//! [`Json`] says that a text has been checked once, where it entered. [`canonical`] gives one
//! text per value, which is what hashes are taken of.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::{Deserialize as _, Deserializer, Serialize};
use serde_json::Value;

/// Valid JSON text, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Serializes a value.
    ///
    /// Fails where serde does: a map with keys that are not text, or a type that refuses.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Json, serde_json::Error> {
        Ok(Json(serde_json::to_string(value)?.into()))
    }

    /// Takes text that came out of a store, where only valid JSON was written.
    ///
    /// Checked in debug builds; a damaged text still fails, with a position, where it is read.
    pub fn from_stored(text: &str) -> Json {
        debug_assert!(
            serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
            "stored text is not JSON"
        );
        Json(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length of the text in bytes.
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// Reads the text as a type; the error gives line and column within this text.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for Json {
    /// Shows the size only: contexts and results may hold what must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Reads a value that is there, also if it is `null`: of an absent one serde says nothing.
///
/// Without it, what says `null` would be read back as if it said nothing.
pub(crate) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One text per JSON value: keys sorted by code point, no white space.
///
/// Two values that differ only in the order of keys have the same canonical text.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, member)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_scalar(&Value::String(key.clone()), out);
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut String) {
    write!(out, "{value}").expect("invariant: writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_order_does_not_change_the_canonical_text() {
        let a: Value = serde_json::from_str(r#"{"b":[1,{"y":1,"x":2}],"a":"é\n"}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":"é\n","b":[1,{"x":2,"y":1}]}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":"é\n","b":[1,{"x":2,"y":1}]}"#);
        assert_ne!(
            canonical(&json!([1, 2])),
            canonical(&json!([2, 1])),
            "arrays keep their order"
        );
    }

    #[test]
    fn debug_output_never_shows_the_content() {
        let json = Json::of(&json!({"card": "4242"})).unwrap();
        assert_eq!(format!("{json:?}"), "Json(15 bytes)");
    }
}
