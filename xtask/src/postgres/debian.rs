//! Installs PostgreSQL where nobody needs to be asked: as root, with Debian's packages.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::account::is_root;

/// Debian makes a cluster for the whole system with the package, and starts it. Nobody asked for
/// that one; a file in this folder says so for the time of the installation.
const CLUSTER_DEFAULTS: &str = "/etc/postgresql-common/createcluster.d";
const NO_CLUSTER: &str = "\
# Written by `cargo xtask` for the time of an installation. If it is still here, that was
# interrupted, and this file may be removed.
create_main_cluster = false
";

pub(super) fn can_install() -> Result<bool, String> {
    let found = Command::new("apt-get")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    Ok(found.is_ok() && is_root()?)
}

pub(super) fn install() -> Result<(), String> {
    let file = Path::new(CLUSTER_DEFAULTS).join("tasker-xtask.conf");
    let failed = |error: io::Error| format!("cannot write {}: {error}", file.display());
    fs::create_dir_all(CLUSTER_DEFAULTS).map_err(failed)?;
    fs::write(&file, NO_CLUSTER).map_err(failed)?;
    let installed = update_and_install();
    fs::remove_file(&file).map_err(failed)?;
    // The folder stays if others use it.
    let _ = fs::remove_dir(CLUSTER_DEFAULTS);
    installed
}

fn update_and_install() -> Result<(), String> {
    // One broken source among several fails the update, and may still leave all that is needed.
    if let Err(error) = apt_get(&["update"]) {
        eprintln!("{error}; trying to install nevertheless");
    }
    // It brings `openssl` along, if that is not there.
    apt_get(&["install", "--yes", "--no-install-recommends", "postgresql"])
}

fn apt_get(words: &[&str]) -> Result<(), String> {
    let line = format!("apt-get {}", words.join(" "));
    eprintln!("$ {line}");
    let status = Command::new("apt-get")
        // Another apt-get may be at work; the default is to give up at once.
        .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` failed, {status}"))
    }
}
