//! How a server is reached, as the process that starts it tells the one that asked for it.

use std::io::BufRead;

/// How to reach a server.
pub(super) struct Access {
    pub(super) url: String,
    pub(super) superuser_url: String,
    pub(super) data: String,
    /// The certificate to trust, if the server has TLS.
    pub(super) authority: Option<String>,
}

impl Access {
    const READY: &str = "ready";

    /// As lines, for [`Access::read`] in the process that asked for the server.
    pub(super) fn to_lines(&self) -> String {
        let authority = self.authority.as_deref().unwrap_or_default();
        format!(
            "{}\n{}\n{}\n{}\n{authority}\n",
            Self::READY,
            self.url,
            self.superuser_url,
            self.data
        )
    }

    /// Waits for the lines; if there are others, they are why there is no server.
    pub(super) fn read(from: &mut impl BufRead) -> Result<Access, String> {
        let mut line = || -> Result<String, String> {
            let mut line = String::new();
            match from.read_line(&mut line) {
                Ok(0) => Err("its keeper ended without a word".to_owned()),
                Ok(_) => Ok(line.trim_end_matches('\n').to_owned()),
                Err(error) => Err(format!("its keeper cannot be heard: {error}")),
            }
        };
        let first = line()?;
        if first != Self::READY {
            let mut rest = String::new();
            // What was heard so far is the better half of the message.
            let _ = from.read_to_string(&mut rest);
            return Err(format!("{first}\n{rest}").trim_end().to_owned());
        }
        Ok(Access {
            url: line()?,
            superuser_url: line()?,
            data: line()?,
            authority: Some(line()?).filter(|path| !path.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_read_as_it_was_written() {
        for authority in [None, Some("/a/ca.crt".to_owned())] {
            let written = Access {
                url: "postgres://a".to_owned(),
                superuser_url: "postgres://b".to_owned(),
                data: "/a/data".to_owned(),
                authority,
            };
            let read = Access::read(&mut written.to_lines().as_bytes()).unwrap();
            assert_eq!(read.to_lines(), written.to_lines());
        }
    }

    #[test]
    fn a_keeper_that_fails_says_why() {
        let why = |text: &str| Access::read(&mut text.as_bytes()).err();
        assert_eq!(why("no room\non disk\n").unwrap(), "no room\non disk");
        assert_eq!(why("").unwrap(), "its keeper ended without a word");
        assert!(why("ready\npostgres://a\n").is_some());
    }
}
