//! JSON in which texts may hold expressions.
//!
//! A text that is exactly one `${{ expression }}` stands for the expression's value with its type;
//! in any other text the values are joined into it. `$${{` writes `${{`.

use serde_json::{Map, Value};

use super::scope::Scope;
use super::syntax::Scan;
use super::{Expression, ExpressionError, InvalidExpression, Uses, Variables};

/// A value that is known but for its expressions.
#[derive(Debug)]
pub(crate) struct ValueTemplate {
    node: Node,
    uses: Uses,
}

/// What is wrong with an expression, and where within the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidTemplate {
    /// A JSON pointer.
    pub(crate) path: String,
    pub(crate) problem: InvalidExpression,
}

#[derive(Debug)]
enum Node {
    Fixed(Value),
    Value(Box<Expression>),
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Debug)]
enum Part {
    Fixed(String),
    Value(Box<Expression>),
}

impl ValueTemplate {
    /// Checks every expression; `variables` are the names that they may use.
    pub(crate) fn compile(
        value: &Value,
        variables: &'static [&'static str],
    ) -> Result<ValueTemplate, Vec<InvalidTemplate>> {
        let mut compiling = Compiling {
            variables,
            uses: Uses::default(),
            named: Vec::new(),
            path: String::new(),
            problems: Vec::new(),
        };
        let node = compiling.node(value);
        if compiling.problems.is_empty() {
            let uses = compiling.uses;
            Ok(ValueTemplate { node, uses })
        } else {
            Err(compiling.problems)
        }
    }

    /// What its expressions need.
    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// The value, with that of every expression in its place.
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        self.node.evaluate(scope)
    }

    /// The value as a text; what is no text is written as JSON.
    pub(crate) fn evaluate_text(&self, scope: &Scope) -> Result<String, ExpressionError> {
        self.evaluate(scope).map(into_text)
    }
}

/// The steps whose results the expressions of a configuration name, and where: a JSON pointer.
///
/// Expressions that are not in order are left out: whoever makes a step of the configuration
/// complains of them.
pub(crate) fn results_named(config: &Value) -> Vec<(String, String)> {
    let mut compiling = Compiling {
        variables: Variables::TASK.0,
        uses: Uses::default(),
        named: Vec::new(),
        path: String::new(),
        problems: Vec::new(),
    };
    compiling.node(config);
    compiling.named
}

/// A text as it is, anything else as JSON.
fn into_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

impl Node {
    fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        Ok(match self {
            Node::Fixed(value) => value.clone(),
            Node::Value(expression) => expression.evaluate(scope)?,
            Node::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Fixed(fixed) => text.push_str(fixed),
                        Part::Value(value) => text.push_str(&into_text(value.evaluate(scope)?)),
                    }
                }
                Value::String(text)
            }
            Node::List(items) => {
                let items = items.iter().map(|item| item.evaluate(scope));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Node::Object(members) => {
                let mut object = Map::with_capacity(members.len());
                for (key, member) in members {
                    object.insert(key.clone(), member.evaluate(scope)?);
                }
                Value::Object(object)
            }
        })
    }
}

struct Compiling {
    variables: &'static [&'static str],
    uses: Uses,
    /// Where the result of which step is named.
    named: Vec<(String, String)>,
    path: String,
    problems: Vec<InvalidTemplate>,
}

impl Compiling {
    fn node(&mut self, value: &Value) -> Node {
        match value {
            Value::String(text) if text.contains("${{") => self.text(text),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let nodes: Vec<Node> = items
                    .map(|(index, item)| self.within(&index.to_string(), |s| s.node(item)))
                    .collect();
                if nodes.iter().all(Node::is_fixed) {
                    return Node::Fixed(value.clone());
                }
                Node::List(nodes)
            }
            Value::Object(members) => {
                let mut nodes = Vec::with_capacity(members.len());
                for (key, member) in members {
                    let node = self.within(key, |s| {
                        if key.contains("${{") {
                            s.refuse(InvalidExpression::new("a key cannot hold an expression"));
                        }
                        s.node(member)
                    });
                    nodes.push((key.clone(), node));
                }
                if nodes.iter().all(|(_, node)| node.is_fixed()) {
                    return Node::Fixed(value.clone());
                }
                Node::Object(nodes)
            }
            fixed => Node::Fixed(fixed.clone()),
        }
    }

    fn within<T>(&mut self, key: &str, work: impl FnOnce(&mut Compiling) -> T) -> T {
        let outside = self.path.len();
        self.path.push('/');
        self.path
            .push_str(&key.replace('~', "~0").replace('/', "~1"));
        let done = work(self);
        self.path.truncate(outside);
        done
    }

    fn refuse(&mut self, problem: InvalidExpression) {
        let path = self.path.clone();
        self.problems.push(InvalidTemplate { path, problem });
    }

    fn text(&mut self, text: &str) -> Node {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${{") {
            if rest[..at].ends_with('$') {
                push_fixed(&mut parts, &rest[..at - 1]);
                push_fixed(&mut parts, "${{");
                rest = &rest[at + 3..];
                continue;
            }
            push_fixed(&mut parts, &rest[..at]);
            let body = &rest[at + 3..];
            let Some(end) = closing(body) else {
                self.refuse(InvalidExpression::new("`${{` is not closed by `}}`"));
                return Node::Fixed(Value::Null);
            };
            match Expression::compile(&body[..end], self.variables) {
                Ok(expression) => {
                    self.uses.add(expression.uses());
                    let named = expression.uses().results.iter();
                    self.named
                        .extend(named.map(|step| (self.path.clone(), step.clone())));
                    parts.push(Part::Value(Box::new(expression)));
                }
                Err(problem) => self.refuse(problem),
            }
            rest = &body[end + 2..];
        }
        push_fixed(&mut parts, rest);
        match parts.pop() {
            Some(Part::Value(expression)) if parts.is_empty() => Node::Value(expression),
            Some(Part::Fixed(fixed)) if parts.is_empty() => Node::Fixed(Value::String(fixed)),
            last => {
                parts.extend(last);
                Node::Text(parts)
            }
        }
    }
}

impl Node {
    /// Not so for a text that was rewritten: `$${{`.
    fn is_fixed(&self) -> bool {
        match self {
            Node::Fixed(Value::String(text)) => !text.contains("${{"),
            Node::Fixed(_) => true,
            _ => false,
        }
    }
}

/// Adds to the fixed text at the end, if one stands there.
fn push_fixed(parts: &mut Vec<Part>, text: &str) {
    if text.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(Part::Fixed(fixed)) => fixed.push_str(text),
        _ => parts.push(Part::Fixed(text.to_owned())),
    }
}

/// Where the `}}` stands that ends the expression: not in a text, not at the end of a map.
fn closing(body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut scan = Scan::new(body);
    while let Some((at, c)) = scan.next_outside_text() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' if body[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}
