//! The files of the repository, read once for all rules.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::source::{Source, identifier, words};

/// A file that is not Rust.
pub(super) struct Text {
    /// From the repository's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Text {
    pub(super) fn has_extension(&self, extension: &str) -> bool {
        has_extension(&self.path, extension)
    }
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == extension)
}

pub(super) struct Tree {
    pub(super) sources: Vec<Source>,
    pub(super) texts: Vec<Text>,
    /// Every file and folder, also those that are not text.
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads what is below the repository's root and not ignored by git.
    pub(super) fn read() -> io::Result<Tree> {
        let root = root();
        let ignored = Ignored::read(&root)?;
        let mut tree = Tree {
            sources: Vec::new(),
            texts: Vec::new(),
            paths: BTreeSet::new(),
        };
        tree.add_folder(&root, "", &ignored)?;
        tree.mark_test_modules();
        Ok(tree)
    }

    /// A tree of these files alone.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree {
            sources: Vec::new(),
            texts: Vec::new(),
            paths: BTreeSet::new(),
        };
        for (path, text) in files {
            tree.add_file(path, text);
        }
        tree.mark_test_modules();
        tree
    }

    /// Is there a file or folder with this name?
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub(super) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    /// All text with its path, Rust and other.
    pub(super) fn all_texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let rust = self
            .sources
            .iter()
            .map(|s| (s.path.as_str(), s.text.as_str()));
        rust.chain(
            self.texts
                .iter()
                .map(|t| (t.path.as_str(), t.text.as_str())),
        )
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str, ignored: &Ignored) -> io::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if ignored.has(&path) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                self.paths.insert(path);
            } else if kind.is_dir() {
                self.add_folder(&entry.path(), &format!("{path}/"), ignored)?;
                self.paths.insert(path);
            } else if let Ok(text) = String::from_utf8(std::fs::read(entry.path())?) {
                self.add_file(&path, &text);
            } else {
                self.paths.insert(path);
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, text: &str) {
        self.paths.insert(path.to_owned());
        if has_extension(path, "rs") {
            self.sources.push(Source::new(path, text));
        } else {
            let (path, text) = (path.to_owned(), text.to_owned());
            self.texts.push(Text { path, text });
        }
    }

    /// A file is test code if its module is declared in test code.
    fn mark_test_modules(&mut self) {
        let mut of_tests: Vec<String> = Vec::new();
        for source in self.sources.iter().filter(|source| source.in_src()) {
            for (at, name) in declared_modules(source) {
                if source.is_test(at) {
                    of_tests.extend(module_files(&source.path, name));
                }
            }
        }
        for source in &mut self.sources {
            if of_tests.contains(&source.path) {
                source.mark_test();
            }
        }
    }
}

/// The modules that a file declares and that have files of their own, in their order.
pub(super) fn declared_modules(source: &Source) -> Vec<(usize, &str)> {
    words(&source.code, "mod")
        .filter_map(|at| {
            let rest = &source.code[at + 3..];
            let (name, end) = identifier(rest)?;
            rest[end..]
                .trim_start()
                .starts_with(';')
                .then_some((at, name))
        })
        .collect()
}

/// The two places where the file of a module may be, given its parent's file.
pub(super) fn module_files(parent: &str, name: &str) -> [String; 2] {
    let folder = match parent.rsplit_once('/') {
        Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder,
        Some((folder, _)) if folder.ends_with("src/bin") => folder,
        _ => parent.trim_end_matches(".rs"),
    };
    [
        format!("{folder}/{name}.rs"),
        format!("{folder}/{name}/mod.rs"),
    ]
}

fn root() -> PathBuf {
    // Cargo says at run time where the package is now; a built program may have been moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_owned)
}

/// What `.gitignore` names, in the two forms that it uses: `/path` and `*.ending`.
struct Ignored {
    paths: Vec<String>,
    endings: Vec<String>,
}

impl Ignored {
    fn read(root: &Path) -> io::Result<Ignored> {
        let file = root.join(".gitignore");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.display()))
        })?;
        let list = |prefix: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix(prefix))
                .map(|path| path.trim_end_matches('/').to_owned())
                .collect()
        };
        let mut paths = list("/");
        paths.push(".git".to_owned());
        Ok(Ignored {
            paths,
            endings: list("*"),
        })
    }

    fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|ignored| ignored == path)
            || self.endings.iter().any(|ending| path.ends_with(ending))
    }
}
