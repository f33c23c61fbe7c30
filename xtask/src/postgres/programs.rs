//! Where are PostgreSQL's programs, and are they new enough?

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian;
use crate::run::answer;

const NAMED: &str = "TASKER_POSTGRES_BIN";
const OLDEST: u32 = 13;
const NEEDED: [&str; 5] = ["postgres", "initdb", "pg_ctl", "pg_isready", "psql"];

/// Folders with one installation per version, and how the names of these begin.
const INSTALLATIONS: [(&str, &str); 5] = [
    // Debian and Ubuntu; Red Hat with PostgreSQL's packages; Homebrew twice; Postgres.app.
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

/// The programs of one version, all from one folder.
pub(super) struct Programs {
    pub(super) folder: PathBuf,
    /// As it tells it: `postgres (PostgreSQL) 15.18`.
    pub(super) version: String,
}

impl Programs {
    pub(super) fn find_or_install() -> Result<Programs, String> {
        if let Some(folder) = env::var_os(NAMED).filter(|folder| !folder.is_empty()) {
            // Never another one than was asked for.
            return Programs::at(Path::new(&folder)).map_err(|why| format!("{NAMED}: {why}"));
        }
        let (found, too_old) = find();
        if let Some(found) = found {
            return Ok(found);
        }
        if !debian::can_install()? {
            return Err(missing(&too_old));
        }
        debian::install()?;
        let (found, too_old) = find();
        found.ok_or_else(|| missing(&too_old))
    }

    pub(super) fn at(folder: &Path) -> Result<Programs, String> {
        let folder = std::path::absolute(folder)
            .map_err(|error| format!("`{}`: {error}", folder.display()))?;
        for name in NEEDED {
            if !folder.join(name).is_file() {
                return Err(format!("`{}` has no `{name}`", folder.display()));
            }
        }
        let version = answer(Command::new(folder.join("postgres")).arg("--version"))?;
        match major(&version) {
            Some(major) if major >= OLDEST => Ok(Programs { folder, version }),
            _ => Err(format!(
                "`{}` has {version}; PostgreSQL {OLDEST} or newer is needed",
                folder.display()
            )),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file of an extension's library, if it is installed.
    pub(super) fn library(&self, name: &str) -> Option<PathBuf> {
        let told = answer(Command::new(self.path("pg_config")).arg("--pkglibdir")).ok();
        let folders = told.map(PathBuf::from).into_iter();
        // Without pg_config, as in packages for servers alone.
        let usual = ["../lib", "../lib/postgresql", "../lib64/pgsql"];
        let folders = folders.chain(usual.map(|folder| self.folder.join(folder)));
        let mut files = folders.flat_map(|folder| {
            [".so", ".dylib"].map(|ending| folder.join(format!("{name}{ending}")))
        });
        files.find(|file| file.is_file())
    }
}

/// The first that will do, or why some will not.
fn find() -> (Option<Programs>, Vec<String>) {
    let mut refused = Vec::new();
    for folder in candidates() {
        if folder.join("initdb").is_file() {
            match Programs::at(&folder) {
                Ok(programs) => return (Some(programs), refused),
                Err(why) => refused.push(why),
            }
        }
    }
    (None, refused)
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    let [debian, others @ ..] = INSTALLATIONS;
    folders.extend(installed(debian));
    folders.extend(
        answer(Command::new("pg_config").arg("--bindir"))
            .ok()
            .map(PathBuf::from),
    );
    folders.extend(others.into_iter().flat_map(installed));
    folders
}

/// The `bin` folders of the installations at one place.
fn installed((place, prefix): (&str, &str)) -> Vec<PathBuf> {
    let names = fs::read_dir(place).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| name.starts_with(prefix)).collect();
    newest_first(names)
        .into_iter()
        .map(|name| Path::new(place).join(name).join("bin"))
        .collect()
}

/// Names without a version, such as `latest`, come last.
fn newest_first(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_cached_key(|name| Reverse((major(name), name.clone())));
    names
}

/// The first number in a text: the major version, for all that are new enough.
fn major(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

fn missing(refused: &[String]) -> String {
    let missing = ["PostgreSQL's server is not installed".to_owned()];
    format!(
        "{}: install version {OLDEST} or newer (Debian and Ubuntu: `sudo apt-get install \
         postgresql`, macOS: `brew install postgresql`), or name the folder of its programs in \
         {NAMED}",
        [&missing, refused].concat().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let sorted = |names: &[&str]| newest_first(names.iter().map(|&n| n.to_owned()).collect());
        assert_eq!(
            sorted(&["9.6", "15", "18", "10"]),
            ["18", "15", "10", "9.6"]
        );
        assert_eq!(
            sorted(&["postgresql", "postgresql@9.6", "postgresql@17"]),
            ["postgresql@17", "postgresql@9.6", "postgresql"]
        );
    }

    #[test]
    fn the_major_version_is_read_from_what_postgres_tells() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0)", Some(15)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("pgsql-13", Some(13)),
            ("latest", None),
        ] {
            assert_eq!(major(text), expected, "{text}");
        }
    }

    #[test]
    fn a_folder_without_a_server_is_refused_by_name() {
        let refused = Programs::at(Path::new(env!("CARGO_MANIFEST_DIR"))).err();
        let refused = refused.expect("no PostgreSQL in the folder of a package");
        assert!(refused.ends_with("xtask` has no `postgres`"), "{refused}");
    }
}
