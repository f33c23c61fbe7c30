//! Task handlers that are written in YAML.
//!
//! A file is read into a tree that knows its lines, so that everything that is wrong with it is
//! reported at once, each with line, column, what was expected, and the nearest known name. What
//! it says becomes the same [`TaskTemplate`] that Rust code builds: there is one definition, with
//! one content hash, whichever way it was written. [`to_yaml`] shows any definition as a file that
//! reads back to the same hash.

pub mod problem;
mod tree;
mod read;
mod environment;
mod step;
mod template;
mod canonical;
mod difference;
mod directory;

use std::path::{Path, PathBuf};

use tasker_model::template::TaskTemplate;

pub use canonical::to_yaml;
pub use difference::{Difference, differences};
pub use directory::{DIRECTORY, check_directory, files, load_directory};
use problem::{InvalidFile, Place, Problem};
use tree::Node;

/// The JSON schema of a template file, for editors.
pub const SCHEMA: &str = include_str!("yaml/task-handler.schema.json");

/// The environment whose section of a file holds where none is named.
pub const DEFAULT_ENVIRONMENT: &str = "development";

/// A file that was read and found to be in order.
#[derive(Debug, Clone)]
pub struct TemplateFile {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What it defines.
    pub template: TaskTemplate,
    /// What is legal and yet probably not meant, such as keys without effect.
    pub notes: Vec<Problem>,
    /// Where each step names its handler, by position.
    pub(crate) handlers: Vec<Place>,
}

/// Reads a file; `environment` says which of its `environments` sections holds.
pub fn load_file(path: &Path, environment: &str) -> Result<TemplateFile, InvalidFile> {
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot be read: {error}");
        InvalidFile::new(path, vec![Problem::new(Place::START, message)])
    };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let message = "not valid UTF-8 from here on".to_owned();
        InvalidFile::new(
            path,
            vec![Problem {
                at: end_of(&before),
                message,
            }],
        )
    })?;
    load_text(path, &text, environment)
}

/// Reads a text; `path` is what its problems are reported for.
///
/// Every section of `environments` is checked, so that a mistake in another one than `environment`
/// does not wait for the day on which that one is deployed.
pub fn load_text(path: &Path, text: &str, environment: &str) -> Result<TemplateFile, InvalidFile> {
    let invalid = |problems| InvalidFile::new(path, problems);
    let root = Node::parse(text).map_err(|problem| invalid(vec![problem]))?;
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    root.find_duplicates(&mut problems);
    let (base, sections) = environment::split(&root);
    let own = sections.iter().find(|(name, _)| name == environment);
    let chosen = own.map(|(_, section)| environment::merge(&base, section, &mut notes));
    for (name, section) in &sections {
        let merged = environment::merge(&base, section, &mut notes);
        if name != environment {
            template::read(&merged, &mut problems, &mut notes);
        }
    }
    let read = template::read(chosen.as_ref().unwrap_or(&base), &mut problems, &mut notes);
    match read {
        Some(read) if problems.is_empty() => {
            let checked = TaskTemplate::new(read.source);
            let template = checked.expect("invariant: the reader has checked the whole");
            notes.sort();
            notes.dedup();
            let (path, handlers) = (path.to_owned(), read.handlers);
            Ok(TemplateFile {
                path,
                template,
                notes,
                handlers,
            })
        }
        _ => Err(invalid(problems)),
    }
}

/// The place after the last character of a text.
fn end_of(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Place {
        line: text.matches('\n').count() as u64 + 1,
        column: last.chars().count() as u64 + 1,
    }
}

#[cfg(test)]
mod tests;
