//! `cargo xtask tidy`: the rules of the style that a program can check.
//!
//! A style that is not executed is a wish. Each rule is a function from the tree to findings;
//! after them comes the budget, figures that are reported and not enforced. The rules read text
//! with comments and strings set apart ([`source`]), not syntax trees: that needs no dependency
//! and is right for code that rustfmt has formatted.

mod source;
mod tree;
mod finding;
mod layout;
mod names;
mod order;
mod links;
mod sql;
mod words;
mod budget;

use std::process::ExitCode;

use finding::Finding;
use tree::Tree;

pub(crate) fn run() -> ExitCode {
    let tree = match Tree::read() {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("error: cannot read the repository: {error}");
            return ExitCode::FAILURE;
        }
    };
    let found = check(&tree);
    for finding in &found {
        println!("{finding}");
    }
    print!("{}", budget::table(&tree));
    if found.is_empty() {
        println!("tidy");
        ExitCode::SUCCESS
    } else {
        println!("{} violations", found.len());
        ExitCode::FAILURE
    }
}

fn check(tree: &Tree) -> Vec<Finding> {
    let rules = [
        layout::check,
        names::check,
        order::check,
        sql::check,
        words::check,
        links::check,
    ];
    let mut found: Vec<Finding> = rules.iter().flat_map(|rule| rule(tree)).collect();
    found.sort();
    found.dedup();
    found
}
