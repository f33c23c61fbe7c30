//! YAML as a tree of values that know where they stand.
//!
//! Serde alone stops at the first thing that does not fit. A tree can be looked at as a whole, so
//! that everything that is wrong is found at once, each with its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::problem::{Place, Problem};

/// A larger text is refused before it is parsed, in bytes.
pub(super) const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lists and mappings within each other.
const DEPTH_MAX: usize = 64;
/// Values in one text, with those that aliases repeat.
const NODES_MAX: usize = 1_500_000;
/// Values that aliases may repeat: what is small on disk must stay small in memory.
const REPEATED_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) name: String,
}

/// What YAML's core schema knows.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Node {
    /// Parses a text that holds one document.
    pub(super) fn parse(text: &str) -> Result<Node, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > BYTES_MAX {
            let found = text.len();
            let message = format!("the file has {found} bytes; at most {BYTES_MAX} are allowed");
            return Err(Problem::new(Place::START, message));
        }
        let mut limits = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_depth: DEPTH_MAX,
                max_nodes: NODES_MAX,
                max_events: 3 * NODES_MAX,
                max_total_scalar_bytes: 4 * BYTES_MAX,
                max_documents: 1,
            },
            // Reported with everything else.
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
            with_snippet: false,
        };
        limits.alias_limits.max_total_replayed_events = REPEATED_MAX;
        serde_saphyr::from_str_with_options(text, limits).map_err(|error| problem(&error))
    }

    /// The value in words, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                let entries = entries.iter();
                let pairs = entries.map(|(key, node)| (key.name.clone(), node.to_json()));
                serde_json::Value::Object(pairs.collect())
            }
        }
    }

    /// The value that a JSON pointer leads to, or the last one on the way that is there.
    pub(super) fn at_pointer(&self, pointer: &str) -> Place {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &node.value {
                Value::Map(entries) => entries.iter().find(|(key, _)| key.name == part),
                Value::List(items) => match part.parse::<usize>().ok().and_then(|n| items.get(n)) {
                    Some(item) => {
                        node = item;
                        continue;
                    }
                    None => None,
                },
                _ => None,
            };
            match next {
                Some((_, value)) => node = value,
                None => break,
            }
        }
        node.at
    }

    /// Adds a problem for every key that stands twice in its mapping.
    pub(super) fn find_duplicates(&self, problems: &mut Vec<Problem>) {
        match &self.value {
            Value::List(items) => items.iter().for_each(|node| node.find_duplicates(problems)),
            Value::Map(entries) => {
                let mut seen = std::collections::HashMap::new();
                for (key, node) in entries {
                    if let Some(first) = seen.insert(&key.name, key.at) {
                        let Key { at, name } = key;
                        let message = format!("key `{name}` stands twice, first at {first}");
                        problems.push(Problem::new(*at, message));
                    }
                    node.find_duplicates(problems);
                }
            }
            _ => {}
        }
    }
}

fn place(location: Location) -> Place {
    Place {
        line: location.line().max(1),
        column: location.column().max(1),
    }
}

/// A message of the parser without the place that it ends with, which stands elsewhere.
fn problem(error: &serde_saphyr::Error) -> Problem {
    let at = error.location().map_or(Place::START, place);
    let mut message = error.without_snippet().to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let message = message.lines().collect::<Vec<_>>().join(" ");
    Problem::new(at, format!("not valid YAML: {message}"))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            at: place(spanned.referenced),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // JSON, in which everything is stored, has no infinity.
        let not_finite = || E::custom("the number is not finite");
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(not_finite)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let (at, name) = (place(key.referenced), key.value);
            map.push((Key { at, name }, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json_of(text: &str) -> serde_json::Value {
        Node::parse(text).unwrap().to_json()
    }

    fn refusal(text: &str) -> String {
        let Problem { at, message } = Node::parse(text).unwrap_err();
        format!("{at}: {message}")
    }

    #[test]
    fn values_keep_their_types_and_places() {
        let text = "a: 1\nb: [x, -2.5, true, ~, \"3\", no, 1.0.0]\n";
        let expected = json!({"a": 1, "b": ["x", -2.5, true, null, "3", "no", "1.0.0"]});
        assert_eq!(json_of(text), expected);
        let node = Node::parse(text).unwrap();
        assert_eq!(node.at_pointer("/b/1").to_string(), "2:8");
        assert_eq!(node.at_pointer("/a").to_string(), "1:4");
    }

    #[test]
    fn windows_lines_and_a_byte_order_mark_are_fine() {
        assert_eq!(
            json_of("\u{feff}a: 1\r\nb: x\r\n"),
            json!({"a": 1, "b": "x"})
        );
    }

    #[test]
    fn keys_that_stand_twice_are_all_reported() {
        let node = Node::parse("a: 1\nb: {c: 1, c: 2}\na: 2\n").unwrap();
        let mut problems = Vec::new();
        node.find_duplicates(&mut problems);
        let texts: Vec<String> = problems
            .iter()
            .map(|p| format!("{}: {}", p.at, p.message))
            .collect();
        let expected = [
            "2:11: key `c` stands twice, first at 2:5",
            "3:1: key `a` stands twice, first at 1:1",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn hostile_texts_are_refused_and_do_no_harm() {
        let bomb = (1..30).fold(
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
            |text, n| {
                let before = format!("*a{}, ", n - 1).repeat(9);
                format!("{text}a{n}: &a{n} [{before}]\n")
            },
        );
        for (text, expected) in [
            (bomb, "alias"),
            ("[".repeat(100_000), "not valid YAML"),
            ("- ".repeat(1_000) + "x", "not valid YAML"),
            ("a:\n\t- b\n".to_owned(), "2:"),
            ("a: [1, 2\nb: 3\n".to_owned(), "not valid YAML"),
            ("a: 1\n---\nb: 2\n".to_owned(), "not valid YAML"),
            ("a: .inf\n".to_owned(), "1:4: not valid YAML"),
            ("a: *nobody\n".to_owned(), "unknown anchor"),
            ("x".repeat(BYTES_MAX + 1), "at most 4194304 are allowed"),
        ] {
            let refusal = refusal(&text);
            assert!(refusal.contains(expected), "`{expected}` in: {refusal}");
            assert!(refusal.len() < 300, "{} characters", refusal.len());
        }
    }
}
