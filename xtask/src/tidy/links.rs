//! Links and file names in Markdown lead to files that exist.

use super::finding::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.texts.iter().filter(|file| file.has_extension("md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            let links = targets(line)
                .into_iter()
                .filter(|l| !exists(tree, folder, l));
            let paths = code_spans(line)
                .filter(|span| is_path(tree, span))
                .map(|span| span.split(['#', ':']).next().unwrap_or(span))
                .filter(|path| !exists(tree, folder, path) && !exists(tree, "", path));
            for missing in links.chain(paths) {
                let message = format!("`{missing}` is not in the repository");
                found.push(Finding::new(&file.path, index + 1, message));
            }
        }
    }
    found
}

/// Puts a relative path behind a folder and takes out `.` and `..`.
pub(super) fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn exists(tree: &Tree, folder: &str, path: &str) -> bool {
    resolve(folder, path).is_some_and(|path| path.is_empty() || tree.has(&path))
}

/// The relative targets of `[text](target)` and `[text]: target`, without their anchors.
fn targets(line: &str) -> Vec<&str> {
    let inline = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let definition = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target);
    inline
        .chain(definition)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']))
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Is a span of code meant as a file of this repository? It is if it names a document, or if it
/// begins with a folder of the root and has no room for a placeholder.
fn is_path(tree: &Tree, span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-#:".contains(c);
    if !span.chars().all(plain) || span.contains("...") || span.contains("//") {
        return false;
    }
    if let Some((first, _)) = span.split_once('/') {
        return tree.has(first) || ["crates", "examples", "docs", "xtask"].contains(&first);
    }
    let stem = span.strip_suffix(".md").unwrap_or_default();
    !stem.is_empty() && stem.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_must_lead_somewhere() {
        let text = "[a](../README.md#x) [b](gone.md) [c](https://x.org/y.md) [d](#e)\n\
                    `crates/x/src/lib.rs` `crates/x/src/gone.rs` `GONE.md` `a/b` `crates/<name>/src`\n\
                    ```\n[in a fence](gone.md)\n```\n[e]: guide.md\n[f]: missing.md\n";
        let found: Vec<String> = check(&Tree::of(&[
            ("README.md", ""),
            ("docs/guide.md", text),
            ("crates/x/src/lib.rs", "//! X.\n"),
        ]))
        .iter()
        .map(ToString::to_string)
        .collect();
        let expected = [
            (1, "gone.md"),
            (2, "crates/x/src/gone.rs"),
            (2, "GONE.md"),
            (7, "missing.md"),
        ]
        .map(|(line, name)| format!("docs/guide.md:{line}: `{name}` is not in the repository"));
        assert_eq!(found, expected);
    }
}
