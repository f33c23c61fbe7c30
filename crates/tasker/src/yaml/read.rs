//! Taking typed values out of a mapping, and noting everything that does not fit.

use tasker_model::dag::nearest;

use super::problem::{Place, Problem};
use super::tree::{Key, Node, Value};

/// One mapping of a file, whose keys have been checked.
pub(super) struct Fields<'a> {
    /// Whose keys these are, in words: ``step `charge` ``.
    whose: String,
    /// Where it stands.
    pub(super) at: Place,
    entries: &'a [(Key, Node)],
}

impl<'a> Fields<'a> {
    /// The mapping of a node; keys that are not known are problems, each with the nearest known.
    pub(super) fn of(
        node: &'a Node,
        whose: impl Into<String>,
        known: &[&str],
        problems: &mut Vec<Problem>,
    ) -> Option<Fields<'a>> {
        let whose = whose.into();
        let Value::Map(entries) = &node.value else {
            let message = format!("{whose} must be a mapping; found {}", found(node));
            problems.push(Problem::new(node.at, message));
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.name.as_str()) {
                let message = format!(
                    "{whose} has the unknown key `{}`{}",
                    key.name,
                    hint(&key.name, known)
                );
                problems.push(Problem::new(key.at, message));
            }
        }
        let at = node.at;
        Some(Fields { whose, at, entries })
    }

    /// The value of a key; a key without a value counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|(found, _)| found.name == key);
        let node = found.map(|(_, node)| node);
        node.filter(|node| !matches!(node.value, Value::Null))
    }

    /// The value of a key, also if it is null.
    pub(super) fn value(&self, key: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|(found, _)| found.name == key);
        found.map(|(_, node)| node)
    }

    /// Where a key stands; the mapping's place if it is absent.
    pub(super) fn place(&self, key: &str) -> Place {
        let found = self.entries.iter().find(|(found, _)| found.name == key);
        found.map_or(self.at, |(key, _)| key.at)
    }

    /// Where a key's value stands; the mapping's place if it is absent.
    pub(super) fn at_value(&self, key: &str) -> Place {
        self.get(key).map_or(self.at, |node| node.at)
    }

    /// A key that must be there.
    pub(super) fn required(&self, key: &str, problems: &mut Vec<Problem>) {
        if self.get(key).is_none() {
            let message = format!("{} needs the key `{key}`", self.whose);
            problems.push(Problem::new(self.at, message));
        }
    }

    /// The value of a key as whatever `read` makes of it.
    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        problems: &mut Vec<Problem>,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        let value = read(&node.value);
        if value.is_none() {
            let found = found(node);
            let message = format!(
                "`{key}` of {} must be {expected}; found {found}",
                self.whose
            );
            problems.push(Problem::new(node.at, message));
        }
        value
    }

    pub(super) fn text(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&'a str> {
        self.typed(key, "a text", problems, |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str, problems: &mut Vec<Problem>) -> Option<bool> {
        self.typed(key, "`true` or `false`", problems, |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(super) fn whole(&self, key: &str, problems: &mut Vec<Problem>) -> Option<u32> {
        self.typed(
            key,
            "a whole number of at least 0",
            problems,
            |value| match value {
                Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
                _ => None,
            },
        )
    }

    pub(super) fn number(&self, key: &str, problems: &mut Vec<Problem>) -> Option<f64> {
        self.typed(key, "a number", problems, |value| match value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        })
    }

    /// A time span, in milliseconds.
    pub(super) fn span_ms(&self, key: &str, problems: &mut Vec<Problem>) -> Option<u64> {
        self.typed(key, SPAN, problems, span_ms)
    }

    /// A list of time spans, in milliseconds.
    pub(super) fn spans_ms(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Vec<u64>> {
        let expected = format!("a list of spans, each {SPAN}");
        self.typed(key, &expected, problems, |value| match value {
            Value::List(items) => items.iter().map(|item| span_ms(&item.value)).collect(),
            _ => None,
        })
    }

    pub(super) fn list(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&'a [Node]> {
        self.typed(key, "a list", problems, |value| match value {
            Value::List(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// A list of texts with their places.
    pub(super) fn texts(&self, key: &str, problems: &mut Vec<Problem>) -> Vec<(&'a str, Place)> {
        let mut texts = Vec::new();
        for node in self.list(key, problems).unwrap_or_default() {
            if let Value::Text(text) = &node.value {
                texts.push((text.as_str(), node.at));
            } else {
                let (whose, found) = (&self.whose, found(node));
                let message = format!("`{key}` of {whose} must be a list of texts; found {found}");
                problems.push(Problem::new(node.at, message));
            }
        }
        texts
    }
}

/// What a time span may be written as.
pub(super) const SPAN: &str =
    "a number of seconds, or a span such as `500ms`, `30s`, `1h 30m` or `2d`";

fn span_ms(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            let seconds = number.as_f64().filter(|seconds| *seconds >= 0.0)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            Some((seconds * 1_000.0).round() as u64)
        }
        Value::Text(text) => {
            let span: jiff::Span = text.parse().ok()?;
            let day = jiff::SpanRelativeTo::days_are_24_hours();
            let span = span.to_duration(day).ok()?;
            u64::try_from(span.as_millis()).ok()
        }
        _ => None,
    }
}

/// A value as a message shows it.
fn found(node: &Node) -> String {
    const SHOWN_CHARS: usize = 40;
    match &node.value {
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => {
            format!("the number {number} (a text that looks like a number needs quotes)")
        }
        Value::Text(text) if text.chars().count() <= SHOWN_CHARS => format!("the text {text:?}"),
        _ => node.kind().to_owned(),
    }
}

/// How a message about an unknown name goes on: the nearest known one, or all.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known: {}", known.join(", ")),
    }
}
