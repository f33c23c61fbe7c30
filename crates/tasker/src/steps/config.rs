//! Reads configurations: every problem at once, each with its place.

use std::time::Duration;

use serde_json::{Map, Value};
use tasker_model::dag::nearest;

use crate::expression::{Uses, ValueTemplate, kind};

use super::ConfigProblem;

/// A configuration that is being read.
pub(super) struct Reader<'a> {
    members: &'a Map<String, Value>,
    /// Where the members stand.
    path: String,
    pub(super) problems: Vec<ConfigProblem>,
    /// What all expressions read so far need.
    pub(super) uses: Uses,
}

impl<'a> Reader<'a> {
    /// Begins with the whole; keys that are not known are problems.
    pub(super) fn new(config: &'a Value, known: &[&str]) -> Result<Reader<'a>, Vec<ConfigProblem>> {
        let Value::Object(members) = config else {
            let problem = format!(
                "expected an object with {}, found {}",
                known.join(", "),
                kind(config)
            );
            let path = String::new();
            return Err(vec![ConfigProblem { path, problem }]);
        };
        let mut reader = Reader {
            members,
            path: String::new(),
            problems: Vec::new(),
            uses: Uses::default(),
        };
        reader.refuse_unknown(known);
        Ok(reader)
    }

    /// Ends: what was made of it, if nothing is wrong.
    pub(super) fn end<T>(self, made: Option<T>) -> Result<T, Vec<ConfigProblem>> {
        match made {
            Some(made) if self.problems.is_empty() => Ok(made),
            _ => Err(self.problems),
        }
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.members.keys() {
            if known.contains(&key.as_str()) {
                continue;
            }
            let problem = match nearest(key, known.iter().copied()) {
                Some(name) => format!("unknown key; did you mean `{name}`?"),
                None => format!("unknown key; known are {}", known.join(", ")),
            };
            self.refuse(key, problem);
        }
    }

    /// Adds a problem of a member.
    pub(super) fn refuse(&mut self, key: &str, problem: impl Into<String>) {
        let path = self.pointer(key);
        let problem = problem.into();
        self.problems.push(ConfigProblem { path, problem });
    }

    fn pointer(&self, key: &str) -> String {
        format!(
            "{}/{}",
            self.path,
            key.replace('~', "~0").replace('/', "~1")
        )
    }

    /// The value of a key; `null` where nothing stands.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key stands there with `null`.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.members.get(key).is_some_and(Value::is_null)
    }

    /// Complains of a value of another type.
    pub(super) fn expected(&mut self, key: &str, what: &str, found: &Value) {
        self.refuse(key, format!("expected {what}, found {}", kind(found)));
    }

    pub(super) fn required(&mut self, key: &str) -> Option<&'a Value> {
        let value = self.get(key);
        if value.is_none() {
            self.refuse(key, "is required");
        }
        value
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) if text.is_empty() => {
                self.refuse(key, "expected a text, found an empty one");
                None
            }
            Value::String(text) => Some(text.clone()),
            other => {
                self.expected(key, "a text", other);
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return *meaning;
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.refuse(
            key,
            format!("expected one of {}, found `{text}`", words.join(", ")),
        );
        default
    }

    pub(super) fn truth(&mut self, key: &str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(Value::Bool(truth)) => *truth,
            Some(other) => {
                self.expected(key, "true or false", other);
                default
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn count(&mut self, key: &str, default: usize, max: usize) -> usize {
        let Some(value) = self.get(key) else {
            return default;
        };
        let whole = value.as_u64().and_then(|n| usize::try_from(n).ok());
        if let Some(whole) = whole.filter(|whole| *whole <= max) {
            return whole;
        }
        self.out_of_range(key, &format!("a whole number from 0 to {max}"), value);
        default
    }

    /// A time in seconds, with fractions.
    pub(super) fn seconds(&mut self, key: &str, default: Duration, max: Duration) -> Duration {
        let Some(value) = self.get(key) else {
            return default;
        };
        let seconds = value
            .as_f64()
            .filter(|s| *s >= 0.0 && *s <= max.as_secs_f64());
        if let Some(duration) = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            return duration;
        }
        self.out_of_range(key, &format!("seconds from 0 to {}", max.as_secs()), value);
        default
    }

    fn out_of_range(&mut self, key: &str, what: &str, found: &Value) {
        match found {
            Value::Number(number) => self.refuse(key, format!("expected {what}, found {number}")),
            other => self.expected(key, what, other),
        }
    }

    /// A value with expressions.
    pub(super) fn template(
        &mut self,
        key: &str,
        variables: &'static [&'static str],
    ) -> Option<ValueTemplate> {
        let value = self.members.get(key)?;
        self.template_of(key, value, variables)
    }

    fn template_of(
        &mut self,
        key: &str,
        value: &Value,
        variables: &'static [&'static str],
    ) -> Option<ValueTemplate> {
        match ValueTemplate::compile(value, variables) {
            Ok(template) => {
                self.uses.add(template.uses());
                Some(template)
            }
            Err(problems) => {
                for found in problems {
                    let path = format!("{}{}", self.pointer(key), found.path);
                    let problem = found.problem.to_string();
                    self.problems.push(ConfigProblem { path, problem });
                }
                None
            }
        }
    }

    /// A list of values with expressions, each with its own.
    pub(super) fn templates(
        &mut self,
        key: &str,
        variables: &'static [&'static str],
    ) -> Vec<ValueTemplate> {
        match self.get(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let outside = self.path.clone();
                self.path = self.pointer(key);
                let items = items.iter().enumerate();
                let found = items
                    .filter_map(|(at, item)| self.template_of(&at.to_string(), item, variables))
                    .collect();
                self.path = outside;
                found
            }
            Some(other) => {
                self.expected(key, "a list", other);
                Vec::new()
            }
        }
    }

    /// An object of values with expressions.
    pub(super) fn named_templates(
        &mut self,
        key: &str,
        variables: &'static [&'static str],
    ) -> Vec<(String, ValueTemplate)> {
        match self.get(key) {
            None => Vec::new(),
            Some(Value::Object(_)) => self.within(key, |inner| {
                let members = inner.members.iter();
                members
                    .filter_map(|(name, value)| {
                        Some((name.clone(), inner.template_of(name, value, variables)?))
                    })
                    .collect()
            }),
            Some(other) => {
                self.expected(key, "an object", other);
                Vec::new()
            }
        }
    }

    /// Reads the members of a member; the caller knows that it is an object.
    fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'a>) -> T) -> T
    where
        T: Default,
    {
        let Some(Value::Object(members)) = self.get(key) else {
            return T::default();
        };
        let path = self.pointer(key);
        let outer = (
            std::mem::replace(&mut self.members, members),
            std::mem::replace(&mut self.path, path),
        );
        let found = read(self);
        (self.members, self.path) = outer;
        found
    }

    /// An object with known keys, read by `read`; nothing if the key does not stand there.
    pub(super) fn object<T: Default>(
        &mut self,
        key: &str,
        known: &[&str],
        read: impl FnOnce(&mut Reader<'a>) -> T,
    ) -> T {
        match self.get(key) {
            None => T::default(),
            Some(Value::Object(_)) => self.within(key, |inner| {
                inner.refuse_unknown(known);
                read(inner)
            }),
            Some(other) => {
                let what = format!("an object with {}", known.join(", "));
                self.expected(key, &what, other);
                T::default()
            }
        }
    }

    /// A list; `read` makes something of each item or says what it expects.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<T> {
        let items = match self.get(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.expected(key, "a list", other);
                return Vec::new();
            }
        };
        let mut made = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match read(item) {
                Ok(item) => made.push(item),
                Err(problem) => {
                    let path = format!("{}/{at}", self.pointer(key));
                    self.problems.push(ConfigProblem { path, problem });
                }
            }
        }
        made
    }
}
