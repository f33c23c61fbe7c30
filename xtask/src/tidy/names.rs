//! Names that say what a thing does for the code instead of what it is.

use std::path::Path;

use super::finding::Finding;
use super::source::{Source, identifier, words};
use super::tree::Tree;

/// Alone or as a last part.
const MODULES: &str = "manager service coordinator processor controller factory provider helper \
                       helpers util utils common misc base core info wrapper impl v2 legacy";

/// Whole names only: `new_task` and `user_data` may be nouns of the field, these alone are not.
const MODULES_ALONE: &str = "data new";

const TYPES: &str = "Manager Service Coordinator Processor Controller Factory Provider Helper \
                     Util Utils Wrapper Impl";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        if let Some(name) = banned_module(&source.path) {
            let message = format!("module name `{name}` says nothing: name it after its subject");
            found.push(Finding::new(&source.path, 1, message));
        }
        found.extend(banned_types(source));
    }
    found
}

fn banned_module(path: &str) -> Option<&str> {
    // A command's file has the word that its user types.
    let path = if path.contains("/commands/") {
        Path::new(path).parent()?
    } else {
        Path::new(path)
    };
    let parts = path.components().skip(2);
    parts
        .filter_map(|part| part.as_os_str().to_str())
        .map(|part| part.trim_end_matches(".rs"))
        .find(|name| {
            let last = name.rsplit(['_', '-']).next().unwrap_or(name);
            has(MODULES, last) || has(MODULES_ALONE, name)
        })
}

fn has(list: &str, name: &str) -> bool {
    list.split(' ').any(|banned| banned == name)
}

fn banned_types(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for keyword in ["struct", "enum", "trait", "type"] {
        for at in words(&source.code, keyword) {
            let Some((name, _)) = identifier(&source.code[at + keyword.len()..]) else {
                continue;
            };
            if let Some(suffix) = TYPES.split(' ').find(|suffix| name.ends_with(suffix)) {
                let message = format!("type `{name}`: `{suffix}` is a role, not a noun");
                found.push(Finding::at(source, at, message));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_banned_alone_or_as_a_suffix() {
        for path in [
            "src/util.rs",
            "src/task_helpers.rs",
            "tests/common/mod.rs",
            "src/data.rs",
        ] {
            assert!(
                banned_module(&format!("crates/x/{path}")).is_some(),
                "{path}"
            );
        }
        for path in [
            "src/task_data.rs",
            "src/commands/new.rs",
            "src/score.rs",
            "src/main.rs",
        ] {
            assert_eq!(banned_module(&format!("crates/x/{path}")), None);
        }
        let text = "pub struct TaskManager;\nenum Managers {}\ntype Implied = u8;\ntrait Util {}\n";
        assert_eq!(
            banned_types(&Source::new("crates/x/src/a.rs", text)).len(),
            2
        );
    }
}
