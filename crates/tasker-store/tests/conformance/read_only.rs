//! Files and folders that may be read but not written: refused with the path and a remedy.
//!
//! To root, permissions mean nothing; then each test runs itself once more as a user to whom they
//! do.

use std::env;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tasker_store::StoreError;
use tasker_store::sqlite::SqliteStore;
use tasker_store::sqlite::rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::{clock, sqlite_with_path};

/// `nobody`, on most systems; any user but root will do.
const NOBODY: u32 = 65_534;
const AGAIN: &str = "TASKER_TEST_WITHOUT_PRIVILEGES";

/// Whether this test must not go on here: it was root's, and has run as somebody else.
fn ran_without_privileges(name: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    if env::var_os(AGAIN).is_some() || fs::metadata(folder.path()).unwrap().uid() != 0 {
        return false;
    }
    // The build's own folders may be closed to others.
    let program = folder.path().join("conformance");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    permit(folder.path(), 0o755);
    let mut again = Command::new(&program);
    again.args([name, "--exact", "--nocapture"]).env(AGAIN, "1");
    again.current_dir(folder.path()).uid(NOBODY).gid(NOBODY);
    match again.output() {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(
                told.contains("1 passed"),
                "{told}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("{name} was not run: root may not become anybody else here");
        }
        Err(error) => panic!("{error}"),
    }
    true
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A database that nobody has open, alone in a folder.
fn closed_database() -> (TempDir, PathBuf) {
    let (fixture, original) = sqlite_with_path();
    let raw = Connection::open(&original).unwrap();
    let checkpoint = raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    assert_eq!(checkpoint, Ok(0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasker.db");
    fs::copy(&original, &path).unwrap();
    drop(fixture);
    (folder, path)
}

fn refusal(path: &Path) -> StoreError {
    let opened = SqliteStore::open(path, clock());
    let refused = opened.err().expect("it was opened");
    let text = refused.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(!refused.is_transient(), "waiting does not help");
    refused
}

#[test]
fn a_file_that_may_only_be_read() {
    if ran_without_privileges("read_only::a_file_that_may_only_be_read") {
        return;
    }
    let (folder, path) = closed_database();
    permit(&path, 0o444);
    let refused = refusal(&path);
    assert!(
        matches!(refused, StoreError::ReadOnly { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("check the permissions"));
    // SQLite gives the files beside it the same permissions.
    for file in fs::read_dir(folder.path()).unwrap() {
        permit(&file.unwrap().path(), 0o644);
    }
    SqliteStore::open(&path, clock()).map(drop).unwrap();
}

#[test]
fn a_file_in_a_folder_that_may_only_be_read() {
    if ran_without_privileges("read_only::a_file_in_a_folder_that_may_only_be_read") {
        return;
    }
    let (folder, path) = closed_database();
    permit(folder.path(), 0o555);
    let refused = refusal(&path);
    permit(folder.path(), 0o755);
    // SQLite cannot create its log beside the file, and says it in one of two ways.
    let named = matches!(
        refused,
        StoreError::ReadOnly { .. } | StoreError::CannotOpen { .. }
    );
    assert!(named, "{refused:?}");
    assert!(refused.to_string().contains("folder"), "{refused}");
}

#[test]
fn a_new_file_in_a_folder_that_may_only_be_read() {
    if ran_without_privileges("read_only::a_new_file_in_a_folder_that_may_only_be_read") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    permit(folder.path(), 0o555);
    let refused = refusal(&folder.path().join("tasker.db"));
    permit(folder.path(), 0o755);
    assert!(
        matches!(refused, StoreError::CannotOpen { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("may be written"), "{refused}");
}
