//! Words that may not be written: unfinished code, silenced checks, guesses at time, text in
//! place of a state, and paths of somebody's machine.

use super::finding::Finding;
use super::source::{Source, is_word, item_end, words};
use super::tree::Tree;

/// Not even in tests.
const NOWHERE: [(&str, &str); 6] = [
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left over from debugging"),
    ("#[ignore", "a test that does not run tests nothing"),
    ("#[allow(", "use `#[expect(…, reason = \"…\")]`"),
    ("#![allow(", "use `#![expect(…, reason = \"…\")]`"),
];

/// Folders of one machine. Without their slash, or this list would be its own first finding.
const MACHINE: [&str; 4] = ["work", "root", "tmp", "home"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        found.extend(unfinished(source));
        found.extend(unwraps_and_sleeps(source));
        found.extend(texts_for_states(source));
    }
    for (path, text) in tree.all_texts() {
        found.extend(machine_paths(path, text));
    }
    found
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (word, why) in NOWHERE {
        for (at, _) in source.code.match_indices(word) {
            let before = at.checked_sub(1).map(|at| source.code.as_bytes()[at]);
            if !before.is_some_and(is_word) {
                found.push(Finding::at(source, at, format!("`{word}`: {why}")));
            }
        }
    }
    for (at, line) in source.text.lines().enumerate() {
        let doc = line.trim_start();
        let fence = (doc.strip_prefix("///").or_else(|| doc.strip_prefix("//!")))
            .and_then(|doc| doc.trim_start().strip_prefix("```"));
        if fence.is_some_and(|language| language.contains("ignore")) {
            let message = "an example that is not compiled: remove `ignore`";
            found.push(Finding::new(&source.path, at + 1, message));
        }
    }
    found
}

fn unwraps_and_sleeps(source: &Source) -> Vec<Finding> {
    let unwraps = source
        .code
        .match_indices(".unwrap()")
        .filter(|(at, _)| !source.is_test(*at))
        .map(|(at, _)| {
            let message = "`unwrap()`: return an error, or `expect(\"invariant: …\")`";
            Finding::at(source, at, message)
        });
    let sleeps = words(&source.code, "sleep")
        .filter(|&at| source.is_test(at) && source.code[at..].starts_with("sleep("))
        .map(|at| Finding::at(source, at, "`sleep` in a test: wait for an event"));
    unwraps.chain(sleeps).collect()
}

/// Fields that hold a state as text. Rows and their columns are the one place for that; in an
/// example, a state may be a part of a country.
fn texts_for_states(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("/row.rs") || source.path.starts_with("examples/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for keyword in ["struct", "enum"] {
        for at in source.product_words(keyword) {
            let (end, Some(body)) = item_end(&source.code, at) else {
                continue;
            };
            let fields = &source.code[body..end];
            for name in ["state", "status", "kind"] {
                found.extend(words(fields, name).filter_map(|field| {
                    let rest = fields[field + name.len()..].strip_prefix(": ")?;
                    let text = rest.starts_with("String") || rest.starts_with("Option<String>");
                    let message = format!("field `{name}` is text: parse it into its enum");
                    text.then(|| Finding::at(source, body + field, message))
                }));
            }
        }
    }
    found
}

fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = MACHINE.iter().find(|name| names_folder(line, name)) {
            let message = format!("`/{name}` is a path of one machine");
            found.push(Finding::new(path, index + 1, message));
        }
    }
    found
}

/// Does a line hold an absolute path that begins with this folder?
fn names_folder(line: &str, name: &str) -> bool {
    let bytes = line.as_bytes();
    line.match_indices(&format!("/{name}")).any(|(at, folder)| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let mut after = bytes[at + folder.len()..].iter().copied();
        let inside = |b: u8| is_word(b) || b == b'-';
        let relative = before.is_some_and(|b| inside(b) || b"./)}>*".contains(&b));
        let longer = match after.next() {
            Some(b'.') => after.next().is_some_and(inside),
            next => next.is_some_and(inside),
        };
        // `sqlite:///folder` is absolute, `https://folder.org` is not a path.
        let url = line[..at].ends_with("//");
        (!relative || url) && !longer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_a_machine_are_told_from_others() {
        for path in [
            "see /{}/x",
            "`/{}`",
            "in /{}.",
            "sqlite:///{}/a.db",
            "\"/{}\"",
        ] {
            assert!(names_folder(&path.replace("{}", "tmp"), "tmp"), "{path}");
        }
        for path in [
            "sqlite/{}.rs",
            "../{}/x",
            "/{}er",
            "https://{}.org",
            "a/{}",
            "/{}.rs",
        ] {
            assert!(!names_folder(&path.replace("{}", "tmp"), "tmp"), "{path}");
        }
    }

    #[test]
    fn a_state_is_not_text() {
        let text = "struct A {\n    pub state: String,\n    status: Option<String>,\n    kind: Kind,\n}\n\
                    fn f(state: String) {}\n";
        let lines: Vec<String> = texts_for_states(&Source::new("crates/x/src/a.rs", text))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("crates/x/src/a.rs:2:"));
        assert!(texts_for_states(&Source::new("crates/x/src/row.rs", text)).is_empty());
    }
}
