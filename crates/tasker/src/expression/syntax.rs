//! What can be known of an expression before it is evaluated.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::parser::ParseErrors;
use cel::{Context, ExecutionError, Program};

use super::{InvalidExpression, LANGUAGE, Uses, guarded, hint};

/// More parentheses, brackets and operators within each other are refused: the parser and the
/// interpreter call themselves for each, on a stack of limited size.
const NESTING_MAX: usize = 32;

/// More loops within each other are refused: each multiplies the time that an evaluation takes,
/// and an evaluation cannot be interrupted.
const LOOPS_MAX: usize = 3;

/// Types may be named where values may.
const TYPES: &[&str] = &[
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
];

/// For hints only: what is called is looked up in the language itself.
const FUNCTIONS: &[&str] = &[
    "size",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "bool",
    "bytes",
    "double",
    "int",
    "uint",
    "string",
    "type",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "format",
    "reverse",
    "slice",
    "flatten",
    "distinct",
    "sort",
    "sortBy",
    "base64.encode",
    "base64.decode",
    "math.greatest",
    "math.least",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.abs",
    "math.sign",
];

/// Makes as many elements as one asks for: out of memory with a word.
const REFUSED: &[&str] = &["lists.range", "range"];

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

/// Counts what opens outside of texts. The parser has limits of its own, but not for all of it.
pub(super) fn check_nesting(text: &str) -> Result<(), InvalidExpression> {
    let (mut depth, mut prefixes, mut links) = (0_usize, 0_usize, 0_usize);
    let mut scan = Scan::new(text);
    while let Some((at, c)) = scan.next_outside_text() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // `!!!x`, `- - -x` and `a.b.c…` nest without parentheses.
        prefixes = match c {
            '!' | '-' => prefixes + 1,
            c if c.is_whitespace() => prefixes,
            _ => 0,
        };
        if matches!(
            c,
            '.' | '[' | '+' | '-' | '*' | '/' | '%' | '?' | '<' | '>' | '=' | '&' | '|'
        ) {
            links += 1;
        }
        if depth > NESTING_MAX || prefixes > NESTING_MAX || links > NESTING_MAX * 8 {
            let message = "the expression is nested too deeply; compute it in a step of its own";
            return Err(InvalidExpression {
                column: Some(column(text, at)),
                message: message.to_owned(),
            });
        }
    }
    Ok(())
}

/// The parser's first complaint, in one line.
pub(super) fn parse_error(text: &str, errors: &ParseErrors) -> InvalidExpression {
    let Some(first) = errors.errors.first() else {
        return InvalidExpression::new("the expression cannot be read");
    };
    let message = first.msg.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut message = message
        .trim_start_matches("Syntax error:")
        .trim()
        .to_owned();
    // The parser lists what it would have taken, which is nearly everything.
    if let Some(at) = message.find(" expecting {") {
        message.truncate(at);
    }
    let (line, column) = (first.pos.0, first.pos.1);
    let one_line = !text.contains('\n') && line == 1;
    InvalidExpression {
        column: usize::try_from(column).ok().filter(|&c| one_line && c > 0),
        message: format!("not an expression: {message}"),
    }
}

/// Every variable and function is known, and nothing is nested beyond reason.
pub(super) fn check(
    program: &Program,
    known: &'static [&'static str],
) -> Result<Uses, InvalidExpression> {
    let mut walk = Walk {
        program,
        known,
        bound: Vec::new(),
        loops: 0,
        uses: Uses::default(),
    };
    walk.expression(program.expression())?;
    Ok(walk.uses)
}

struct Walk<'a> {
    program: &'a Program,
    known: &'static [&'static str],
    /// The variables of the loops around.
    bound: Vec<&'a str>,
    loops: usize,
    uses: Uses,
}

impl<'a> Walk<'a> {
    fn refuse(&self, node: &IdedExpr, message: String) -> InvalidExpression {
        let offset = self.program.source_info().offset_for(node.id);
        let text = &self.program.source_info().source;
        InvalidExpression {
            column: offset
                .filter(|_| !text.contains('\n'))
                .map(|(start, _)| start as usize + 1),
            message,
        }
    }

    fn expression(&mut self, node: &'a IdedExpr) -> Result<(), InvalidExpression> {
        if let Some((operand, root, key)) = member(&node.expr)
            && !self.bound.contains(&root)
        {
            match root {
                "results" => drop(self.uses.results.insert(key.to_owned())),
                "env" => drop(self.uses.env.insert(key.to_owned())),
                _ => {}
            }
            if matches!(root, "results" | "env") {
                return self.variable(operand, root);
            }
        }
        match &node.expr {
            Expr::Ident(name) => {
                self.variable(node, name)?;
                if self.bound.contains(&name.as_str()) {
                    return Ok(());
                }
                if name == "env" {
                    let message = "`env` is used as a whole; name a variable: `env.NAME`";
                    return Err(self.refuse(node, message.to_owned()));
                }
                self.uses.any_result |= name == "results";
                Ok(())
            }
            Expr::Select(select) => self.expression(&select.operand),
            Expr::Call(call) => self.call(node, call),
            Expr::Comprehension(loop_) => {
                self.loops += 1;
                if self.loops > LOOPS_MAX {
                    let message = format!("more than {LOOPS_MAX} loops stand within each other");
                    return Err(self.refuse(node, message));
                }
                self.expression(&loop_.iter_range)?;
                self.expression(&loop_.accu_init)?;
                let outside = self.bound.len();
                self.bound.push(&loop_.iter_var);
                self.bound.extend(loop_.iter_var2.as_deref());
                self.bound.push(&loop_.accu_var);
                for part in [&loop_.loop_cond, &loop_.loop_step, &loop_.result] {
                    self.expression(part)?;
                }
                self.bound.truncate(outside);
                self.loops -= 1;
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.expression(e)),
            Expr::Map(map) => map
                .entries
                .iter()
                .try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(value) => {
                let message = format!("`{}` is not a known type", value.type_name);
                Err(self.refuse(node, message))
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) -> Result<(), InvalidExpression> {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        }
    }

    fn variable(&mut self, node: &IdedExpr, name: &str) -> Result<(), InvalidExpression> {
        if name.starts_with('@') || self.bound.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        if let Some(known) = self.known.iter().find(|known| **known == name) {
            self.uses.variables.insert(known);
            return Ok(());
        }
        let message = match name {
            "env" => "`env` may be used in the url, the headers and the query of a request and in \
                      the env of a command only: what it holds would be stored otherwise"
                .to_owned(),
            "response" => "`response` may be used in `result` only".to_owned(),
            "context" | "results" | "signal" if self.known.contains(&"item") => format!(
                "`{name}` is not known to one item of a list; take what is needed into the list: \
                 `over: results.list.map(it, {{\"id\": it, \"key\": context.key}})`"
            ),
            "item" | "index" => {
                format!("`{name}` is known where a step runs over a list (`map`) only")
            }
            _ => format!("unknown variable `{name}`; {}", hint(name, self.known)),
        };
        Err(self.refuse(node, message))
    }

    fn call(&mut self, node: &'a IdedExpr, call: &'a CallExpr) -> Result<(), InvalidExpression> {
        let mut name = call.func_name.clone();
        let mut target = call.target.as_deref();
        // `base64.encode(x)` reads as a method of a variable `base64`.
        if let Some(IdedExpr {
            expr: Expr::Ident(space),
            ..
        }) = target
            && !self.bound.contains(&space.as_str())
            && !self.known.contains(&space.as_str())
        {
            name = format!("{space}.{name}");
            target = None;
        }
        if REFUSED.contains(&name.as_str()) {
            return Err(self.refuse(node, format!("the function `{name}` is not available")));
        }
        let spelled = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains('@');
        if spelled && !is_function(&name) {
            let message = format!("unknown function `{name}`; {}", hint(&name, FUNCTIONS));
            return Err(self.refuse(node, message));
        }
        if let Some(target) = target {
            self.expression(target)?;
        }
        call.args.iter().try_for_each(|a| self.expression(a))
    }
}

/// Asks the language itself: a function that it knows complains of its missing arguments.
fn is_function(name: &str) -> bool {
    let known = |text: String| {
        let asked = guarded(|| {
            let program = LANGUAGE.compile(&text).ok()?;
            let answer = program.execute(&Context::with_env(LANGUAGE.clone()));
            Some(!matches!(
                answer,
                Err(ExecutionError::UndeclaredReference(_))
            ))
        });
        asked.flatten().unwrap_or(false)
    };
    known(format!("{name}()")) || (!name.contains('.') && known(format!("''.{name}()")))
}

/// `results.fetch` or `results["fetch"]`: the variable, its name and the member's.
fn member(expr: &Expr) -> Option<(&IdedExpr, &str, &str)> {
    let (operand, key) = match expr {
        Expr::Select(select) => (&*select.operand, select.field.as_str()),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [operand, index] = call.args.as_slice() else {
                return None;
            };
            let Expr::Literal(LiteralValue::String(key)) = &index.expr else {
                return None;
            };
            (operand, key.inner())
        }
        _ => return None,
    };
    match &operand.expr {
        Expr::Ident(name) => Some((operand, name, key)),
        _ => None,
    }
}

/// The variable and the members, if the expression does nothing but select them.
pub(super) fn path(
    node: &IdedExpr,
    known: &'static [&'static str],
) -> Option<(&'static str, Vec<Segment>)> {
    let (mut node, mut segments) = (node, Vec::new());
    loop {
        match &node.expr {
            Expr::Ident(name) => {
                let root = known.iter().find(|known| *known == name)?;
                segments.reverse();
                return Some((root, segments));
            }
            Expr::Select(select) if !select.test => {
                segments.push(Segment::Key(select.field.clone()));
                node = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let [operand, index] = call.args.as_slice() else {
                    return None;
                };
                segments.push(match &index.expr {
                    Expr::Literal(LiteralValue::String(key)) => {
                        Segment::Key(key.inner().to_owned())
                    }
                    Expr::Literal(LiteralValue::Int(index)) => {
                        Segment::Index(usize::try_from(*index.inner()).ok()?)
                    }
                    _ => return None,
                });
                node = operand;
            }
            _ => return None,
        }
    }
}

fn column(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

/// Reads the language's text just well enough to know what stands within quotes.
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Scan<'a> {
        Scan { text, at: 0 }
    }

    /// The next character that is not part of a text or a comment, and where it stands.
    pub(super) fn next_outside_text(&mut self) -> Option<(usize, char)> {
        loop {
            let at = self.at;
            let rest = &self.text[at..];
            let c = rest.chars().next()?;
            if c == '"' || c == '\'' {
                self.at += self.text_length(c);
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                self.at += c.len_utf8();
                return Some((at, c));
            }
        }
    }

    /// The length of the text that begins here, with its quotes.
    fn text_length(&self, quote: char) -> usize {
        let rest = &self.text[self.at..];
        let before = &self.text.as_bytes()[..self.at];
        let raw = matches!(before.last(), Some(b'r' | b'R'));
        let triple: String = [quote; 3].iter().collect();
        let end = if rest.starts_with(&triple) {
            triple
        } else {
            quote.to_string()
        };
        let mut at = end.len();
        while let Some(c) = rest[at..].chars().next() {
            if rest[at..].starts_with(&end) {
                return at + end.len();
            }
            at += c.len_utf8();
            if c == '\\' && !raw {
                at += rest[at..].chars().next().map_or(0, char::len_utf8);
            }
        }
        rest.len()
    }
}
