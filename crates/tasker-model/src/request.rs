//! A request for a task, and its check against the definition it asks for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::Json;
use crate::name::{Namespace, TaskName, Version};
use crate::schema::InvalidContext;
use crate::template::TaskTemplate;

/// Length of `initiator`, `source_system` and `reason`, in characters (spec 01 §3.1).
pub const LABEL_CHARS_MAX: usize = 128;
/// Length of an idempotency key, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// The highest priority, and with a minus sign the lowest.
pub const PRIORITY_MAX: i32 = 100;
/// What one level of priority is worth, in seconds of waiting: a step of priority 2 is claimed before
/// those of priority 0 that became due up to 20 seconds earlier. So nothing starves.
pub const PRIORITY_SECONDS: i64 = 10;

/// What somebody wants done: a task handler and a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// The task handler's name.
    pub name: String,
    /// The task handler's namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The task handler's version; the highest registered one if absent.
    #[serde(default)]
    pub version: Option<Version>,
    /// The input: a JSON object.
    pub context: Value,
    /// Who asked.
    #[serde(default = "unknown")]
    pub initiator: String,
    /// Where the request came from.
    #[serde(default = "unknown")]
    pub source_system: String,
    /// Why.
    #[serde(default = "unknown")]
    pub reason: String,
    /// Labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Names of skippable steps that are not to run.
    #[serde(default)]
    pub bypass_steps: Vec<String>,
    /// When it was asked; the time of creation if absent.
    #[serde(default)]
    pub requested_at: Option<Timestamp>,
    /// A second request with the same key returns the task of the first.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Which of the steps that are due are claimed first: -100 (last) to 100 (first). Waiting makes up
    /// for it, see [`PRIORITY_SECONDS`].
    #[serde(default)]
    pub priority: i32,
    /// Nothing of the task starts before; at once if absent.
    #[serde(default)]
    pub start_at: Option<Timestamp>,
}

fn default_namespace() -> String {
    Namespace::DEFAULT.to_owned()
}

fn unknown() -> String {
    "unknown".to_owned()
}

impl TaskRequest {
    /// A request with an empty context, for the default namespace and the highest version.
    pub fn new(name: impl Into<String>) -> TaskRequest {
        TaskRequest {
            name: name.into(),
            namespace: default_namespace(),
            version: None,
            context: Value::Object(serde_json::Map::new()),
            initiator: unknown(),
            source_system: unknown(),
            reason: unknown(),
            tags: Vec::new(),
            bypass_steps: Vec::new(),
            requested_at: None,
            idempotency_key: None,
            priority: 0,
            start_at: None,
        }
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Asks for this version instead of the highest.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets the context, a JSON object.
    pub fn context(mut self, context: Value) -> Self {
        self.context = context;
        self
    }

    /// Sets the priority, from -100 to 100.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Lets nothing of the task start before this time.
    pub fn start_at(mut self, start_at: Timestamp) -> Self {
        self.start_at = Some(start_at);
        self
    }

    /// Sets the key under which a repeated request returns the same task.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }
}

/// A request that cannot become a task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRequest {
    /// The context is not an object.
    #[error("the context is {found}; it must be a JSON object")]
    ContextNotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// The context does not fit the schema.
    #[error(transparent)]
    Context(#[from] InvalidContext),
    /// The context is too large.
    #[error(
        "the context is {found_bytes} bytes of JSON; at most {allowed_bytes} are allowed; \
         pass a reference to large data instead"
    )]
    ContextTooLarge {
        /// Size of the context with defaults filled in.
        found_bytes: usize,
        /// The limit.
        allowed_bytes: usize,
    },
    /// A text is too long.
    #[error("`{field}` has {found} characters; at most {allowed} are allowed")]
    TooLong {
        /// The member of the request.
        field: &'static str,
        /// How many characters were given.
        found: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// The priority is out of range.
    #[error("`priority` is {found}; it may be -{PRIORITY_MAX} to {PRIORITY_MAX}")]
    Priority {
        /// What was given.
        found: i32,
    },
    /// A step to bypass does not exist.
    #[error("`bypass_steps` names `{step}`, which is not a step of {handler}")]
    BypassUnknown {
        /// The name given.
        step: String,
        /// The handler's full name.
        handler: String,
    },
    /// A step to bypass must run.
    #[error("`bypass_steps` names `{step}`, which is not skippable")]
    BypassNotSkippable {
        /// The step.
        step: String,
    },
}

/// A request that has been checked against its template.
#[derive(Debug, Clone)]
pub struct CheckedRequest {
    /// The definition.
    pub template: TaskTemplate,
    /// The request; its context has defaults filled in.
    pub request: TaskRequest,
    /// The context as it will be stored.
    pub context: Json,
}

impl TaskRequest {
    /// Checks the request against the definition it asks for, and fills in defaults.
    ///
    /// `context_bytes_max` limits the stored context, in bytes of JSON.
    pub fn check(
        mut self,
        template: &TaskTemplate,
        context_bytes_max: usize,
    ) -> Result<CheckedRequest, InvalidRequest> {
        self.check_labels()?;
        if self.priority.abs() > PRIORITY_MAX {
            let found = self.priority;
            return Err(InvalidRequest::Priority { found });
        }
        self.check_bypass(template)?;
        if !self.context.is_object() {
            return Err(InvalidRequest::ContextNotAnObject {
                found: kind(&self.context),
            });
        }
        // Size first: a schema is not run over a context that is refused anyway.
        within(&encode(&self.context), context_bytes_max)?;
        if let Some(schema) = template.schema() {
            schema.apply(&mut self.context)?;
        }
        let context = encode(&self.context);
        within(&context, context_bytes_max)?;
        Ok(CheckedRequest {
            template: template.clone(),
            request: self,
            context,
        })
    }

    /// The task handler's name, checked.
    pub fn task_name(&self) -> Result<TaskName, crate::name::InvalidName> {
        TaskName::new(&self.name)
    }

    fn check_labels(&self) -> Result<(), InvalidRequest> {
        let key = self.idempotency_key.as_deref().unwrap_or_default();
        let limited = [
            ("initiator", self.initiator.as_str(), LABEL_CHARS_MAX),
            ("source_system", &self.source_system, LABEL_CHARS_MAX),
            ("reason", &self.reason, LABEL_CHARS_MAX),
            ("idempotency_key", key, IDEMPOTENCY_KEY_CHARS_MAX),
        ];
        for (field, text, allowed) in limited {
            let found = text.chars().count();
            if found > allowed {
                return Err(InvalidRequest::TooLong {
                    field,
                    found,
                    allowed,
                });
            }
        }
        Ok(())
    }

    fn check_bypass(&self, template: &TaskTemplate) -> Result<(), InvalidRequest> {
        for step in &self.bypass_steps {
            match template.position(step) {
                None => {
                    let handler = template.full_name();
                    return Err(InvalidRequest::BypassUnknown {
                        step: step.clone(),
                        handler,
                    });
                }
                Some(position) if !template.step(position).skippable => {
                    return Err(InvalidRequest::BypassNotSkippable { step: step.clone() });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn encode(context: &Value) -> Json {
    Json::of(context).expect("invariant: a JSON value can be written as JSON")
}

fn within(context: &Json, allowed_bytes: usize) -> Result<(), InvalidRequest> {
    let found_bytes = context.len_bytes();
    if found_bytes > allowed_bytes {
        return Err(InvalidRequest::ContextTooLarge {
            found_bytes,
            allowed_bytes,
        });
    }
    Ok(())
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateSource;
    use serde_json::json;

    fn template() -> TaskTemplate {
        let source: TemplateSource = serde_json::from_value(json!({
            "namespace": "shop", "name": "order", "version": "1.0.0",
            "schema": {"type": "object", "required": ["id"], "properties": {
                "id": {"type": "integer"}, "gift": {"type": "boolean", "default": false}}},
            "steps": [
                {"name": "charge", "handler": "charge"},
                {"name": "mail", "handler": "mail", "depends_on_steps": ["charge"], "skippable": true}
            ]
        }))
        .unwrap();
        TaskTemplate::new(source).unwrap()
    }

    fn refusal(request: TaskRequest) -> String {
        request.check(&template(), 1_000).unwrap_err().to_string()
    }

    #[test]
    fn defaults_persist_with_the_context() {
        let checked = TaskRequest::new("order")
            .context(json!({"id": 1}))
            .check(&template(), 1_000)
            .unwrap();
        assert_eq!(checked.context.as_str(), r#"{"id":1,"gift":false}"#);
    }

    #[test]
    fn bad_requests_say_what_is_wrong() {
        let request = || TaskRequest::new("order").context(json!({"id": 1}));
        assert!(
            refusal(request().context(json!([1]))).contains("an array; it must be a JSON object")
        );
        assert!(refusal(request().context(json!({}))).contains("\"id\" is a required property"));
        let long = json!({"id": 1, "text": "x".repeat(2_000)});
        assert!(
            refusal(request().context(long)).contains("bytes of JSON; at most 1000 are allowed")
        );
        let mut labelled = request();
        labelled.reason = "x".repeat(129);
        assert!(refusal(labelled).contains("`reason` has 129 characters; at most 128"));
        for (step, part) in [
            ("nap", "not a step of shop.order@1.0.0"),
            ("charge", "not skippable"),
        ] {
            let mut bypassing = request();
            bypassing.bypass_steps = vec![step.to_owned()];
            assert!(refusal(bypassing).contains(part), "{step}");
        }
    }

    #[test]
    fn a_request_reads_from_json_with_defaults() {
        let request: TaskRequest =
            serde_json::from_value(json!({"name": "order", "context": {"id": 1}})).unwrap();
        assert_eq!(
            (request.namespace.as_str(), request.reason.as_str()),
            ("default", "unknown")
        );
        let unknown =
            serde_json::from_value::<TaskRequest>(json!({"name": "a", "context": {}, "x": 1}));
        assert!(
            unknown
                .unwrap_err()
                .to_string()
                .contains("unknown field `x`")
        );
    }
}
