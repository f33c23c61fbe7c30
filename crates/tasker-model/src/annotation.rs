//! What code notes about a task, beside its results: kept with the task, by type.

use serde::Serialize;
use serde_json::Value;

use crate::json::Json;
use crate::name::{AnnotationType, InvalidName};

/// No annotation is larger than this, in bytes of JSON.
pub const ANNOTATION_BYTES_MAX: usize = 64 * 1024;
/// No attempt notes more than this many.
pub const ANNOTATIONS_MAX: usize = 100;

/// A note: a JSON object of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Annotation {
    /// What kind of note it is.
    pub annotation_type: AnnotationType,
    /// The object.
    pub annotation: Json,
}

/// What cannot be noted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnnotation {
    /// The type has no possible name.
    #[error(transparent)]
    Type(#[from] InvalidName),
    /// The value cannot be written as JSON.
    #[error("annotation `{annotation_type}` cannot be written as JSON: {error}")]
    NotJson {
        /// Its type.
        annotation_type: AnnotationType,
        /// Why.
        error: serde_json::Error,
    },
    /// The value is something else.
    #[error("annotation `{0}` is not a JSON object")]
    NotAnObject(AnnotationType),
    /// The value is too large.
    #[error(
        "annotation `{annotation_type}` is {found} bytes of JSON; at most {ANNOTATION_BYTES_MAX} are allowed"
    )]
    TooLarge {
        /// Its type.
        annotation_type: AnnotationType,
        /// How large it is, in bytes.
        found: usize,
    },
    /// The attempt has noted too much already.
    #[error("an attempt can note {ANNOTATIONS_MAX} annotations, and no more")]
    TooMany,
}

impl Annotation {
    /// A note of a type; `value` must be an object in JSON.
    pub fn new<T: Serialize + ?Sized>(
        annotation_type: impl AsRef<str>,
        value: &T,
    ) -> Result<Annotation, InvalidAnnotation> {
        let annotation_type = AnnotationType::new(annotation_type)?;
        let value = match serde_json::to_value(value) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => return Err(InvalidAnnotation::NotAnObject(annotation_type)),
            Err(error) => {
                return Err(InvalidAnnotation::NotJson {
                    annotation_type,
                    error,
                });
            }
        };
        let annotation = Json::of(&value).expect("invariant: a value is JSON");
        let found = annotation.len_bytes();
        if found > ANNOTATION_BYTES_MAX {
            return Err(InvalidAnnotation::TooLarge {
                annotation_type,
                found,
            });
        }
        Ok(Annotation {
            annotation_type,
            annotation,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_objects_of_a_moderate_size_are_notes() {
        let refusal =
            |kind: &str, value: Value| Annotation::new(kind, &value).unwrap_err().to_string();
        assert_eq!(refusal("", json!({})), "annotation type is blank");
        assert_eq!(
            refusal("a", json!([1])),
            "annotation `a` is not a JSON object"
        );
        let large = refusal("a", json!({"x": "y".repeat(ANNOTATION_BYTES_MAX)}));
        assert!(large.ends_with("at most 65536 are allowed"), "{large}");
        let note = Annotation::new("risk", &json!({"score": 3})).unwrap();
        assert_eq!(note.annotation.as_str(), r#"{"score":3}"#);
    }
}
