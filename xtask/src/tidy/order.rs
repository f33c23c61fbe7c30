//! A module imports only modules that its parent declares above it, and its own children.
//!
//! With that, `mod` lines read as the order of dependency, and modules beside each other cannot
//! form a cycle. What a parent itself defines is free to its children. A name that another module
//! re-exports counts as an import from where it is defined.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::source::{Source, identifier};
use super::tree::{Tree, declared_modules, module_files};

/// A place in a crate's module tree: `["sqlite", "claim"]`; the root is empty.
type Place = Vec<String>;

struct Module<'a> {
    source: &'a Source,
    /// In the order of their declaration.
    children: Vec<String>,
    /// Names that this module imports or re-exports from its own crate, and from where.
    names: BTreeMap<String, Place>,
}

type Modules<'a> = BTreeMap<Place, Module<'a>>;

/// A path in the code, and under which name it is known afterwards.
struct Import {
    offset: usize,
    segments: Vec<String>,
    name: String,
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let roots = tree.sources.iter().filter(|source| {
        let name = source.path.rsplit_once("src/").map(|(_, name)| name);
        source.in_src()
            && name.is_some_and(|name| {
                name == "lib.rs" || name == "main.rs" || name.starts_with("bin/")
            })
    });
    roots
        .flat_map(|root| {
            let mut modules = Modules::new();
            add(&mut modules, tree, root, Place::new());
            check_crate(&modules)
        })
        .collect()
}

fn add<'a>(modules: &mut Modules<'a>, tree: &'a Tree, source: &'a Source, place: Place) {
    let mut children = Vec::new();
    for (at, name) in declared_modules(source) {
        let files = module_files(&source.path, name);
        let file = files.iter().find_map(|file| tree.source(file));
        if let Some(file) = file.filter(|_| !source.is_test(at)) {
            children.push(name.to_owned());
            add(modules, tree, file, child(&place, name));
        }
    }
    let mut names = BTreeMap::new();
    for at in source.product_words("use") {
        for import in imports_at(&source.code, at + 3) {
            let first = &import.segments[0];
            let from = if children.contains(first) {
                Some([place.clone(), import.segments.clone()].concat())
            } else {
                absolute(&place, &import.segments)
            };
            if let Some(from) = from {
                names.insert(import.name, from);
            }
        }
    }
    let module = Module {
        source,
        children,
        names,
    };
    modules.insert(place, module);
}

fn child(place: &Place, name: &str) -> Place {
    [place.as_slice(), &[name.to_owned()]].concat()
}

fn check_crate(modules: &Modules) -> Vec<Finding> {
    let mut found = Vec::new();
    for (place, module) in modules {
        let code = &module.source.code;
        for head in ["crate", "super"] {
            let heads = module.source.product_words(head);
            for at in heads.filter(|&at| !code[..at].ends_with("::")) {
                for import in imports_at(code, at) {
                    let Some(path) = absolute(place, &import.segments) else {
                        continue;
                    };
                    let target = defined_in(modules, path);
                    if let Some(message) = disorder(modules, place, &target) {
                        found.push(Finding::at(module.source, import.offset, message));
                    }
                }
            }
        }
    }
    found
}

/// Why a module may not import from another, if so.
fn disorder(modules: &Modules, from: &Place, target: &Place) -> Option<String> {
    let common = from.iter().zip(target).take_while(|(a, b)| a == b).count();
    let (own, other) = (from.get(common)?, target.get(common)?);
    let parent = modules.get(&from[..common].to_vec())?;
    let position = |name| parent.children.iter().position(|child| child == name);
    (position(other)? > position(own)?).then(|| {
        format!(
            "`{}` imports `{}`, but {} declares `{other}` below `{own}`",
            from.join("::"),
            target.join("::"),
            parent.source.path,
        )
    })
}

/// The module that defines what a path names.
fn defined_in(modules: &Modules, mut path: Place) -> Place {
    // Re-exports of re-exports are followed, but not round in circles.
    for _ in 0..8 {
        let depth = (0..=path.len())
            .rev()
            .find(|&depth| modules.contains_key(&path[..depth]))
            .unwrap_or(0);
        let module = &modules[&path[..depth]];
        match path.get(depth).and_then(|name| module.names.get(name)) {
            Some(origin) => path = [origin.as_slice(), &path[depth + 1..]].concat(),
            None => return path[..depth].to_vec(),
        }
    }
    path
}

/// A path from the crate's root, if it begins with `crate`, `super` or `self`.
fn absolute(place: &Place, segments: &[String]) -> Option<Place> {
    let mut base = match segments.first()?.as_str() {
        "crate" => return Some(segments[1..].to_vec()),
        "self" | "super" => place.clone(),
        _ => return None,
    };
    let mut rest = segments;
    while let Some((head, tail)) = rest.split_first() {
        match head.as_str() {
            "self" => {}
            "super" => drop(base.pop()?),
            _ => break,
        }
        rest = tail;
    }
    Some([base, rest.to_vec()].concat())
}

/// The path or the tree of paths that stands at an offset.
fn imports_at(code: &str, offset: usize) -> Vec<Import> {
    let mut found = Vec::new();
    expand(code, offset, &mut Vec::new(), &mut found);
    found
}

/// Reads one tree of paths and gives the offset behind it.
fn expand(code: &str, start: usize, prefix: &mut Place, found: &mut Vec<Import>) -> usize {
    let at = start + (code[start..].len() - code[start..].trim_start().len());
    if code[at..].starts_with('{') {
        return expand_group(code, at + 1, prefix, found);
    }
    if code[at..].starts_with('*') {
        push(at, prefix, None, found);
        return at + 1;
    }
    let Some((segment, length)) = identifier(&code[at..]) else {
        push(at, prefix, None, found);
        return at;
    };
    prefix.push(segment.to_owned());
    let end = at + length;
    let end = if code[end..].starts_with("::") {
        expand(code, end + 2, prefix, found)
    } else {
        let alias = identifier(&code[end..])
            .filter(|(word, _)| *word == "as")
            .and_then(|(_, after)| identifier(&code[end + after..]));
        push(at, prefix, alias.map(|(name, _)| name), found);
        end
    };
    prefix.pop();
    end
}

fn expand_group(code: &str, start: usize, prefix: &mut Place, found: &mut Vec<Import>) -> usize {
    let mut at = start;
    loop {
        at = expand(code, at, prefix, found);
        // Behind a path stands its alias, a comma, or the end of the group.
        let Some(next) = code[at..].find([',', '{', '}']) else {
            return code.len();
        };
        at += next + 1;
        if !code[..at].ends_with(',') {
            return at;
        }
        if code[at..].trim_start().starts_with('}') {
            return at + code[at..].find('}').map_or(0, |close| close + 1);
        }
    }
}

fn push(offset: usize, prefix: &Place, alias: Option<&str>, found: &mut Vec<Import>) {
    let mut segments = prefix.clone();
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    let Some(last) = segments.last() else {
        return;
    };
    let name = alias.unwrap_or(last).to_owned();
    found.push(Import {
        offset,
        segments,
        name,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let found = check(&Tree::of(files));
        found.iter().map(ToString::to_string).collect()
    }

    const ROOT: &str = "pub mod state;\npub(crate) mod task;\nmod store;\npub use store::Lease;\n";

    #[test]
    fn imports_from_above_are_in_order() {
        let task = "use crate::state::{self, State};\nuse super::state::Move;\n";
        let store = "use crate::{state, task::{Task, TaskState as S}};\n";
        let files = [
            ("crates/x/src/lib.rs", ROOT),
            ("crates/x/src/state.rs", "use std::fmt;\n"),
            ("crates/x/src/task.rs", task),
            ("crates/x/src/store.rs", store),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn imports_from_below_are_found_in_every_form() {
        let state = "use std::fmt;\nuse crate::{\n    state::A,\n    task::{B, C},\n};\n\
                     fn f() { super::store::open() }\nfn g(l: crate::Lease) {}\n";
        let files = [
            ("crates/x/src/lib.rs", ROOT),
            ("crates/x/src/state.rs", state),
            ("crates/x/src/task.rs", ""),
            ("crates/x/src/store.rs", ""),
        ];
        let task = "`state` imports `task`, but crates/x/src/lib.rs declares `task` below `state`";
        let store = task.replace("task", "store");
        let expected = [(4, task), (4, task), (6, &store), (7, &store)]
            .map(|(line, message)| format!("crates/x/src/state.rs:{line}: {message}"));
        let mut found = found(&files);
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn children_follow_the_order_of_all_their_parents() {
        let files = [
            ("crates/x/src/main.rs", "mod sqlite;\nmod query;\n"),
            (
                "crates/x/src/sqlite.rs",
                "mod row;\nmod claim;\nuse claim::claim;\nstruct Tx;\n",
            ),
            (
                "crates/x/src/sqlite/row.rs",
                "use super::claim::due;\nuse super::Tx;\n",
            ),
            (
                "crates/x/src/sqlite/claim.rs",
                "use super::row::Id;\nuse super::super::query;\n",
            ),
            ("crates/x/src/query.rs", "use crate::sqlite::claim;\n"),
        ];
        let found = found(&files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/x/src/sqlite/claim.rs:2: `sqlite::claim` imports `query`")
        );
        assert!(
            found[1]
                .starts_with("crates/x/src/sqlite/row.rs:1: `sqlite::row` imports `sqlite::claim`")
        );
    }

    #[test]
    fn tests_strings_and_comments_import_nothing() {
        let state = "//! See [`crate::task`].\nconst A: &str = \"crate::task\";\n\
                     #[cfg(test)]\nmod tests {\n    use crate::task::Task;\n}\n";
        let files = [
            ("crates/x/src/lib.rs", ROOT),
            ("crates/x/src/state.rs", state),
            ("crates/x/src/task.rs", ""),
            ("crates/x/src/store.rs", ""),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }
}
