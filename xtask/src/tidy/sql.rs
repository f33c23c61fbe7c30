//! SQL lives in `.sql` files, and every one of them is used.

use super::finding::Finding;
use super::source::Source;
use super::tree::Tree;

const FOLDER: &str = "crates/tasker-store/sql/";

/// The benchmark's floor is what a database does without Tasker: its statements are its text. What
/// migrates builds statements around a schema's name.
const EXEMPT: [&str; 8] = [
    "crates/tasker-bench/src/floor/sqlite.rs",
    "crates/tasker-bench/src/floor/postgres.rs",
    "crates/tasker-bench/src/history.rs",
    "crates/tasker-bench/src/place.rs",
    "crates/tasker-bench/src/peers.rs",
    "crates/tasker-store/src/postgres/migrate.rs",
    "crates/tasker-store/src/postgres/migrations.rs",
    "crates/tasker-store/src/postgres/bell.rs",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let used: Vec<String> = tree.sources.iter().flat_map(included).collect();
    let mut found = Vec::new();
    for file in &tree.texts {
        let Some(name) = file
            .path
            .strip_prefix(FOLDER)
            .and_then(|p| p.strip_suffix(".sql"))
        else {
            continue;
        };
        let name = name.rsplit('/').next().unwrap_or(name);
        let first = format!("-- {name}");
        if file.text.lines().next() != Some(first.as_str()) {
            let message = format!("the first line is `{first}`, so that a log leads to the file");
            found.push(Finding::new(&file.path, 1, message));
        }
        if !used.contains(&file.path) {
            found.push(Finding::new(
                &file.path,
                1,
                "no `include_str!` uses this file",
            ));
        }
    }
    for source in &tree.sources {
        if source.path.starts_with("crates/")
            && source.in_src()
            && !EXEMPT.contains(&source.path.as_str())
        {
            found.extend(statements(source));
        }
    }
    found
}

/// The files that a source includes, from the repository's root.
fn included(source: &Source) -> Vec<String> {
    let folder = source
        .path
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    source
        .literals
        .iter()
        .filter(|literal| {
            let before = source.code[..literal.offset].trim_end();
            before
                .strip_suffix('(')
                .is_some_and(|b| b.ends_with("include_str!"))
        })
        .filter_map(|literal| super::links::resolve(folder, &literal.text))
        .collect()
}

/// String literals that are statements, outside of tests.
fn statements(source: &Source) -> Vec<Finding> {
    let product = source.literals.iter().filter(|l| !source.is_test(l.offset));
    product
        .filter_map(|literal| {
            let verb = statement_verb(&literal.text)?;
            let message = format!("`{verb}` in a string: a statement is a file under `sql/`");
            Some(Finding::at(source, literal.offset, message))
        })
        .collect()
}

/// The verb of a text that is SQL. In capitals it is one by its first word; in small letters
/// also the second must fit, because messages begin with "create a …", too.
fn statement_verb(text: &str) -> Option<&'static str> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
    let upper = text.to_uppercase();
    let mut words = upper.split_whitespace();
    let (first, second) = (words.next()?, words.next().unwrap_or_default());
    let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"];
    let verb = verbs.into_iter().find(|verb| *verb == first)?;
    let sure = match verb {
        "INSERT" => second == "INTO" || second == "OR",
        "DELETE" => second == "FROM",
        "CREATE" => ["TABLE", "INDEX", "UNIQUE", "VIEW", "TRIGGER"].contains(&second),
        "UPDATE" => upper.split_whitespace().any(|word| word == "SET"),
        _ => upper.split_whitespace().any(|word| word == "FROM"),
    };
    (sure || text.starts_with(verb)).then_some(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        let found = check(&Tree::of(&[(path, text)]));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_statement_in_a_string_is_found() {
        let text = "fn f() {\n    run(\"SELECT 1\");\n    run(\n        r#\"\n  INSERT INTO \"t\"\"#,\n    );\n\
                    \x20   run(\"\\\n     update steps set a = 1\");\n    run(\"DELETE\");\n}\n";
        let found = lines("crates/x/src/a.rs", text);
        let expected = [("SELECT", 2), ("INSERT", 4), ("UPDATE", 7), ("DELETE", 9)];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (finding, (verb, line)) in found.iter().zip(expected) {
            assert!(
                finding.starts_with(&format!("crates/x/src/a.rs:{line}: `{verb}` in a string"))
            );
        }
    }

    #[test]
    fn words_tests_comments_and_the_floor_are_not_statements() {
        let text = "//! SELECT 1\nconst A: &str = \"create a task\";\nconst B: &str = \"UPDATES: 3\";\n\
                    const C: &str = \"select a step\";\n\
                    #[cfg(test)]\nmod tests {\n    const D: &str = \"SELECT 1\";\n}\n";
        assert_eq!(lines("crates/x/src/a.rs", text), Vec::<String>::new());
        let statement = "const A: &str = \"SELECT 1\";\n";
        assert_eq!(lines(EXEMPT[0], statement), Vec::<String>::new());
        assert_eq!(
            lines("crates/x/tests/a.rs", statement),
            Vec::<String>::new()
        );
        assert_eq!(lines("crates/x/src/a.rs", statement).len(), 1);
    }

    #[test]
    fn a_statement_file_has_its_name_and_a_user() {
        let include =
            "const A: &str = include_str!(\n    \"../../sql/sqlite/claim.take.sql\"\n);\n";
        let found = check(&Tree::of(&[
            ("crates/tasker-store/src/sqlite/claim.rs", include),
            (
                "crates/tasker-store/sql/sqlite/claim.take.sql",
                "-- claim.take\nSELECT 1\n",
            ),
            (
                "crates/tasker-store/sql/sqlite/claim.due.sql",
                "-- claim.take\nSELECT 1\n",
            ),
        ]));
        let due = "crates/tasker-store/sql/sqlite/claim.due.sql:1: ";
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found
                .iter()
                .all(|finding| finding.to_string().starts_with(due))
        );
    }
}
