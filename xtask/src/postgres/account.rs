//! As whom does the server run? PostgreSQL refuses root, who then must become somebody else.

use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::run::answer;

/// The caller's own account, or for root another one.
pub(super) struct Account {
    other: Option<Ids>,
}

struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    pub(super) fn for_server() -> Result<Account, String> {
        if !is_root()? {
            return Ok(Account { other: None });
        }
        let found = ["postgres", "nobody"].into_iter().find_map(|name| {
            let id = |what| {
                answer(Command::new("id").args([what, name]))
                    .ok()?
                    .parse()
                    .ok()
            };
            let (user, group) = (id("-u")?, id("-g")?);
            // An account of that name with root's id would be refused by PostgreSQL as well.
            (user != 0).then_some(Ids { user, group })
        });
        match found {
            Some(ids) => Ok(Account { other: Some(ids) }),
            None => Err(
                "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` \
                 to run it as: create one (`useradd --system postgres`), or do not run this as root"
                    .to_owned(),
            ),
        }
    }

    /// A command as this account, with `home` as its folder and nothing of the caller's settings
    /// for PostgreSQL: `PGHOST` or a `.pgpass` must not lead it to another server.
    pub(super) fn command(&self, program: impl AsRef<Path>, home: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // The account may be unable to enter the folder that the caller is in.
        command.current_dir(home).env("HOME", home);
        command.env("LC_ALL", "C");
        if let Some(ids) = &self.other {
            // With another user, std leaves root's supplementary groups, too.
            command.uid(ids.user).gid(ids.group);
        }
        command
    }

    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match &self.other {
            Some(ids) => chown(path, Some(ids.user), Some(ids.group)),
            None => Ok(()),
        }
    }

    /// Whether this account can come to a folder that it owns, through all that is above it.
    pub(super) fn reaches(&self, folder: &Path) -> bool {
        let Some(ids) = &self.other else { return true };
        let mut test = Command::new("test");
        test.arg("-w").arg(folder).current_dir("/");
        test.uid(ids.user).gid(ids.group);
        answer(&mut test).is_ok()
    }
}

pub(super) fn is_root() -> Result<bool, String> {
    Ok(answer(Command::new("id").arg("-u"))? == "0")
}
