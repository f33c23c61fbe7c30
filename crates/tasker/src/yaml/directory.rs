//! Finding the files of a directory, as deep as they lie.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::problem::{InvalidFile, InvalidFiles, Place, Problem};
use super::{TemplateFile, load_file};

/// Where template files lie if nothing else is said.
pub const DIRECTORY: &str = "config/tasker/tasks";

/// Reads every `.yaml` and `.yml` file below a directory, in the order of their paths.
///
/// Two files that define the same version of the same task handler are a problem of the second.
pub fn load_directory(
    directory: &Path,
    environment: &str,
) -> Result<Vec<TemplateFile>, InvalidFiles> {
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for checked in check_directory(directory, environment) {
        match checked {
            Ok(file) => files.push(file),
            Err(invalid) => wrong.push(invalid),
        }
    }
    if wrong.is_empty() {
        Ok(files)
    } else {
        Err(InvalidFiles(wrong))
    }
}

/// Like [`load_directory`], but gives each file's own answer.
pub fn check_directory(
    directory: &Path,
    environment: &str,
) -> Vec<Result<TemplateFile, InvalidFile>> {
    let mut wrong = Vec::new();
    let mut paths = Vec::new();
    find(directory, &mut paths, &mut wrong);
    paths.sort();
    let mut checked: Vec<Result<TemplateFile, InvalidFile>> = Vec::new();
    let mut first: HashMap<String, PathBuf> = HashMap::new();
    for path in paths {
        let file = load_file(&path, environment).and_then(|file| {
            let name = file.template.full_name();
            match first.get(&name) {
                None => {
                    first.insert(name, path.clone());
                    Ok(file)
                }
                Some(first) => {
                    let message = format!("{name} is also defined by {}", first.display());
                    Err(InvalidFile::new(
                        &path,
                        vec![Problem::new(Place::START, message)],
                    ))
                }
            }
        });
        checked.push(file);
    }
    checked.extend(wrong.into_iter().map(Err));
    checked
}

/// The template files below a directory, as far as it can be read, in the order of their paths.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    find(directory, &mut paths, &mut Vec::new());
    paths.sort();
    paths
}

/// Symbolic links are followed to files, and not to directories: those could lead in a circle.
fn find(directory: &Path, paths: &mut Vec<PathBuf>, wrong: &mut Vec<InvalidFile>) {
    let mut note = |path: &Path, error: &std::io::Error| {
        let problem = Problem::new(Place::START, format!("cannot be read: {error}"));
        wrong.push(InvalidFile::new(path, vec![problem]));
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return note(directory, &error),
    };
    let mut below = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                note(directory, &error);
                continue;
            }
        };
        let path = entry.path();
        let is_template = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below.push(path),
            Ok(_) if is_template && path.is_file() => paths.push(path),
            Ok(_) => {}
            Err(error) => note(&path, &error),
        }
    }
    for directory in below {
        find(&directory, paths, wrong);
    }
}
