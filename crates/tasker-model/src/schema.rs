//! A task's context against its JSON schema.
//!
//! Validation is ordinary JSON Schema (only what `required` lists is required; unknown members
//! are refused only where the schema says so), unlike the strict original (spec 00 N-H1).
//! Defaults are filled in before validation and persist with the context.

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

/// Defaults are filled in down to this depth, which ends schemas that default to themselves.
const DEFAULTS_DEPTH_MAX: usize = 64;
/// A value longer than this, in bytes of JSON, is not repeated in an error message.
const VALUE_SHOWN_BYTES_MAX: usize = 80;
/// Never more problems than this are listed; their number is always given.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// A schema that is itself not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the context schema is not a valid JSON schema, at `{path}`: {problem}")]
pub struct InvalidSchema {
    /// Where in the schema, as a JSON pointer.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

/// One way in which a context does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextProblem {
    /// Where in the context, as a JSON pointer; empty for the context itself.
    pub path: String,
    /// What was expected. Values of members marked `x-secret`, and long ones, are not shown.
    pub problem: String,
}

impl fmt::Display for ContextProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.problem)
    }
}

/// The context does not fit its schema; every problem with its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the context does not fit the schema: {}", list(.problems, *.found))]
pub struct InvalidContext {
    /// The problems, at most 50 of them.
    pub problems: Vec<ContextProblem>,
    /// How many problems there are in all.
    pub found: usize,
}

fn list(problems: &[ContextProblem], found: usize) -> String {
    let mut text = problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    if found > problems.len() {
        text += &format!("; and {} more", found - problems.len());
    }
    text
}

/// A compiled context schema.
#[derive(Debug)]
pub struct ContextSchema {
    source: Value,
    validator: Validator,
}

impl ContextSchema {
    /// Compiles a schema.
    pub fn compile(source: Value) -> Result<ContextSchema, InvalidSchema> {
        let invalid = |path: String, problem: String| InvalidSchema { path, problem };
        if let Err(error) = jsonschema::meta::validate(&source) {
            return Err(invalid(
                error.instance_path().to_string(),
                error.to_string(),
            ));
        }
        let validator = jsonschema::validator_for(&source)
            .map_err(|error| invalid(error.schema_path().to_string(), error.to_string()))?;
        Ok(ContextSchema { source, validator })
    }

    /// Fills in defaults, then checks. The context is changed only by defaults.
    pub fn apply(&self, context: &mut Value) -> Result<(), InvalidContext> {
        self.fill(&self.source, context, 0);
        let mut problems = Vec::new();
        let mut found = 0;
        for error in self.validator.iter_errors(context) {
            found += 1;
            if problems.len() < PROBLEMS_SHOWN_MAX {
                let path = error.instance_path().to_string();
                let shown = !self.is_secret(&path)
                    && error.instance().to_string().len() <= VALUE_SHOWN_BYTES_MAX;
                let problem = if shown {
                    error.to_string()
                } else {
                    error.masked_with("the value").to_string()
                };
                problems.push(ContextProblem { path, problem });
            }
        }
        if found == 0 {
            Ok(())
        } else {
            Err(InvalidContext { problems, found })
        }
    }

    fn fill(&self, schema: &Value, value: &mut Value, depth: usize) {
        if depth > DEFAULTS_DEPTH_MAX {
            return;
        }
        if let Some(target) = self.referenced(schema) {
            self.fill(target, value, depth + 1);
        }
        for part in schema
            .get("allOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.fill(part, value, depth + 1);
        }
        if let (Some(properties), Value::Object(members)) = (
            schema.get("properties").and_then(Value::as_object),
            &mut *value,
        ) {
            for (name, property) in properties {
                if !members.contains_key(name)
                    && let Some(default) = self.default_of(property)
                {
                    members.insert(name.clone(), default.clone());
                }
                if let Some(member) = members.get_mut(name) {
                    self.fill(property, member, depth + 1);
                }
            }
        }
        if let (Some(items), Value::Array(elements)) = (schema.get("items"), value) {
            for element in elements {
                self.fill(items, element, depth + 1);
            }
        }
    }

    fn default_of<'a>(&'a self, property: &'a Value) -> Option<&'a Value> {
        property
            .get("default")
            .or_else(|| self.referenced(property)?.get("default"))
    }

    /// The schema behind a `$ref` within this document; others are the validator's business.
    fn referenced(&self, schema: &Value) -> Option<&Value> {
        self.source
            .pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
    }

    /// Whether a place in the context lies at or below a member that is marked `x-secret`.
    fn is_secret(&self, path: &str) -> bool {
        let mut schema = &self.source;
        for part in path.split('/').skip(1) {
            schema = self.referenced(schema).unwrap_or(schema);
            let name = part.replace("~1", "/").replace("~0", "~");
            let below = schema
                .get("properties")
                .and_then(|properties| properties.get(&name))
                .or_else(|| schema.get("items"));
            let Some(below) = below else { return false };
            if below.get("x-secret") == Some(&Value::Bool(true)) {
                return true;
            }
            schema = below;
        }
        // An error of the whole object could repeat the members below it.
        contains_secret(schema, 0)
    }
}

fn contains_secret(schema: &Value, depth: usize) -> bool {
    depth <= DEFAULTS_DEPTH_MAX
        && match schema {
            Value::Object(members) => {
                members.get("x-secret") == Some(&Value::Bool(true))
                    || members
                        .values()
                        .any(|member| contains_secret(member, depth + 1))
            }
            Value::Array(items) => items.iter().any(|item| contains_secret(item, depth + 1)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order_schema() -> ContextSchema {
        ContextSchema::compile(json!({
            "type": "object",
            "required": ["order_id"],
            "properties": {
                "order_id": {"type": "integer"},
                "note": {"type": "string"},
                "priority": {"type": "string", "enum": ["standard", "express"], "default": "standard"},
                "card": {"type": "object", "properties": {"token": {"type": "string", "x-secret": true}}},
                "lines": {"type": "array", "items": {
                    "type": "object", "properties": {"quantity": {"type": "integer", "default": 1}}
                }}
            }
        }))
        .unwrap()
    }

    #[test]
    fn defaults_are_filled_in_and_optional_members_stay_optional() {
        let mut context = json!({"order_id": 1, "lines": [{}, {"quantity": 2}]});
        order_schema().apply(&mut context).unwrap();
        assert_eq!(
            context,
            json!({
                "order_id": 1,
                "lines": [{"quantity": 1}, {"quantity": 2}],
                "priority": "standard"
            })
        );
    }

    #[test]
    fn every_problem_is_reported_with_its_path() {
        let mut context =
            json!({"order_id": "7", "lines": [{"quantity": "many"}], "priority": "x"});
        let error = order_schema().apply(&mut context).unwrap_err();
        let paths: Vec<_> = error.problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(error.found, 3);
        assert!(
            paths.contains(&"/order_id") && paths.contains(&"/lines/0/quantity"),
            "{paths:?}"
        );
        assert!(
            error
                .to_string()
                .contains("/order_id: \"7\" is not of type \"integer\""),
            "{error}"
        );
    }

    #[test]
    fn secret_and_long_values_are_not_repeated() {
        let mut context = json!({"order_id": 1, "card": {"token": 424_242}, "note": vec!["y"; 40]});
        let text = order_schema().apply(&mut context).unwrap_err().to_string();
        assert!(
            !text.contains("424242") && !text.contains("\"y\",\"y\""),
            "{text}"
        );
        assert!(
            text.contains("/card/token: the value is not of type \"string\""),
            "{text}"
        );
    }

    #[test]
    fn a_schema_that_defaults_to_itself_ends() {
        let schema = ContextSchema::compile(json!({
            "type": "object", "properties": {"next": {"$ref": "#", "default": {}}}
        }))
        .unwrap();
        let mut context = json!({});
        schema.apply(&mut context).unwrap();
        assert!(context.get("next").is_some());
    }

    #[test]
    fn a_wrong_schema_names_the_place() {
        let error =
            ContextSchema::compile(json!({"properties": {"a": {"type": "int"}}})).unwrap_err();
        assert!(error.to_string().contains("/properties/a/type"), "{error}");
    }
}
