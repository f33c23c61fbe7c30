//! Figures about the whole tree, to be looked at when they grow.
//!
//! A product line is one that is not blank, not a comment and not part of a test.

use std::collections::BTreeMap;

use super::source::{Source, identifier, item_end};
use super::tree::Tree;

const LONGEST_FUNCTION: usize = 70;
const ASSERTIONS: [&str; 6] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
];

/// A table, one line per figure.
pub(super) fn table(tree: &Tree) -> String {
    let sources: Vec<&Source> = tree.sources.iter().filter(|s| s.in_src()).collect();
    let rows = [
        ("product lines", lines_per_package(&sources)),
        ("lines per file", lines_per_file(&sources)),
        ("functions > 70 lines", long_functions(&sources)),
        ("assertions per 1,000", assertions(&sources)),
        ("shared locks", shared_locks(&sources)),
    ];
    let lines = rows.map(|(name, value)| format!("{name:<21} {value}\n"));
    lines.concat()
}

fn lines_per_package(sources: &[&Source]) -> String {
    let mut packages: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        *packages.entry(source.package()).or_default() += source.product_lines();
    }
    let total: usize = packages.values().sum();
    let each: Vec<String> = packages
        .iter()
        .map(|(name, lines)| format!("{name} {lines}"))
        .collect();
    format!("{total}: {}", each.join(", "))
}

fn lines_per_file(sources: &[&Source]) -> String {
    let mut files: Vec<(usize, &str)> = sources
        .iter()
        .map(|source| (source.product_lines(), source.path.as_str()))
        .collect();
    files.sort_unstable();
    let Some((most, longest)) = files.last() else {
        return "no files".to_owned();
    };
    let median = files[files.len() / 2].0;
    let p90 = files[(files.len() * 9 / 10).min(files.len() - 1)].0;
    format!("median {median} (≤ 200), p90 {p90} (≤ 450), max {most} ({longest})")
}

fn long_functions(sources: &[&Source]) -> String {
    let mut long: Vec<String> = Vec::new();
    for source in sources {
        for at in source.product_words("fn") {
            let Some((name, _)) = identifier(&source.code[at + 2..]) else {
                continue;
            };
            let (end, Some(body)) = item_end(&source.code, at) else {
                continue;
            };
            // The lines of the body, without those of its braces.
            let lines = source.product_lines_within(body, end + 1).saturating_sub(2);
            if lines > LONGEST_FUNCTION {
                long.push(format!(
                    "{name} {lines} ({}:{})",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    if long.is_empty() {
        return "0".to_owned();
    }
    format!("{}: {}", long.len(), long.join(", "))
}

fn assertions(sources: &[&Source]) -> String {
    let of_package = |package: &str| {
        let mut lines = 0;
        let mut count = 0;
        for source in sources.iter().filter(|source| source.package() == package) {
            lines += source.product_lines();
            count += ASSERTIONS
                .iter()
                .flat_map(|name| source.product_words(name).map(move |at| at + name.len()))
                .filter(|&end| source.code[end..].starts_with('!'))
                .count();
        }
        let share = count as f64 * 1000.0 / lines.max(1) as f64;
        format!("{package} {share:.1}")
    };
    let each = ["tasker-model", "tasker-store", "tasker"].map(of_package);
    format!("{} (≥ 2)", each.join(", "))
}

fn shared_locks(sources: &[&Source]) -> String {
    let count: usize = sources
        .iter()
        .map(|source| {
            let locks = ["Arc<Mutex<", "Arc<RwLock<"].into_iter();
            let places = locks.flat_map(|lock| source.code.match_indices(lock));
            places.filter(|(at, _)| !source.is_test(*at)).count()
        })
        .sum();
    format!("{count} (`Arc<Mutex|RwLock>`, ≤ 5)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_functions_and_medians_are_counted_in_product_lines() {
        let body = "    a();\n\n    // b\n".repeat(71);
        let text = format!(
            "//! Doc.\nfn long<'a>(x: [u8; 2]) -> u8 {{\n{body}}}\ntrait T {{ fn none(); }}\n\
             #[cfg(test)]\nmod tests {{\n{body}}}\n"
        );
        let source = Source::new("crates/x/src/a.rs", &text);
        assert_eq!(
            long_functions(&[&source]),
            "1: long 71 (crates/x/src/a.rs:2)"
        );
        assert!(lines_per_file(&[&source]).starts_with("median 74 "));
        assert_eq!(lines_per_package(&[&source]), "74: x 74");
    }
}
