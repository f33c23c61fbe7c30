//! How long a file may be, and how it begins.

use super::finding::Finding;
use super::source::Source;
use super::tree::Tree;

const LONGEST_FILE: usize = 600;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let documented = ["//!", "#![doc = include_str!("];
        if !documented
            .iter()
            .any(|start| source.text.starts_with(start))
        {
            let message = "a file starts with a `//!` doc: what question does it answer?";
            found.push(Finding::new(&source.path, 1, message));
        }
        let lines = source.product_lines();
        if source.in_src() && lines > LONGEST_FILE && !module_doc(source).contains("long because") {
            let message = format!(
                "{lines} product lines, more than {LONGEST_FILE}: split it, or say in the \
                 module doc that it is \"long because …\""
            );
            found.push(Finding::new(&source.path, 1, message));
        }
    }
    found
}

fn module_doc(source: &Source) -> String {
    let lines = source
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}
