//! Names and versions, valid by construction.
//!
//! Lengths are those of the catalogue (spec 01 §2); control characters are refused because names
//! are printed on terminals and in logs. Names are case-sensitive and are not trimmed.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The text cannot be a name, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing but white space.
    #[error("{what} is blank")]
    Blank {
        /// Which kind of name.
        what: &'static str,
    },
    /// More characters than the kind of name allows.
    #[error("{what} has {found} characters; at most {allowed} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// How many characters were given.
        found: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// A control character, which would corrupt terminals and logs.
    #[error("{what} {found:?} contains a control character")]
    ControlCharacter {
        /// Which kind of name.
        what: &'static str,
        /// The text as found.
        found: String,
    },
}

fn checked(what: &'static str, allowed: usize, text: &str) -> Result<Arc<str>, InvalidName> {
    if text.trim().is_empty() {
        return Err(InvalidName::Blank { what });
    }
    let found = text.chars().count();
    if found > allowed {
        return Err(InvalidName::TooLong {
            what,
            found,
            allowed,
        });
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidName::ControlCharacter {
            what,
            found: text.to_owned(),
        });
    }
    Ok(text.into())
}

macro_rules! name_type {
    ($(#[$meta:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The largest length, in characters.
            pub const MAX_CHARS: usize = $max;

            /// Checks a text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                checked($what, $max, text.as_ref()).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A namespace: the team or domain that a task handler belongs to.
    Namespace, "namespace", 64
}
name_type! {
    /// The name of a task handler within its namespace.
    TaskName, "task name", 64
}
name_type! {
    /// The name of a step within its task.
    StepName, "step name", 128
}
name_type! {
    /// The name of a queue, on which steps are claimed.
    Queue, "queue", 64
}

name_type! {
    /// What kind of note an annotation is.
    AnnotationType, "annotation type", 64
}

name_type! {
    /// The name of a signal that a task can be sent.
    SignalName, "signal", 64
}

impl Namespace {
    /// The namespace of requests and handlers that name none.
    pub const DEFAULT: &str = "default";
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Namespace::DEFAULT.into())
    }
}

impl From<&Namespace> for Queue {
    /// The queue of a handler that names none is its namespace.
    fn from(namespace: &Namespace) -> Queue {
        Queue(namespace.0.clone())
    }
}

/// A semantic version of exactly three numbers, ordered as numbers: `0.10.0` is after `0.9.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

/// The text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a version; expected three numbers such as 1.4.2, without suffix, \
     at most 16 characters"
)]
pub struct InvalidVersion {
    /// The text as found.
    pub found: String,
}

impl Version {
    /// The largest length of the text, in characters (spec 01 §2.2).
    pub const MAX_CHARS: usize = 16;

    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::new(0, 1, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion {
            found: text.to_owned(),
        };
        if text.len() > Self::MAX_CHARS {
            return Err(invalid());
        }
        let mut numbers = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let mut next = || numbers.next().flatten().ok_or_else(invalid);
        let version = Self::new(next()?, next()?, next()?);
        if numbers.next().is_some() {
            Err(invalid())
        } else {
            Ok(version)
        }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_their_limits() {
        assert!(Namespace::new("a".repeat(64)).is_ok());
        assert_eq!(
            Namespace::new("a".repeat(65)).unwrap_err().to_string(),
            "namespace has 65 characters; at most 64 are allowed"
        );
        assert_eq!(
            Namespace::new("  ").unwrap_err().to_string(),
            "namespace is blank"
        );
        assert!(
            StepName::new("ü".repeat(128)).is_ok(),
            "characters are counted, not bytes"
        );
        assert!(TaskName::new("a\u{1b}[31m").is_err());
        for valid in ["api-v2_handlers", "2024_migrations", " padded "] {
            assert_eq!(Namespace::new(valid).unwrap().as_str(), valid);
        }
        assert_ne!(
            Namespace::new("Shop").unwrap(),
            Namespace::new("shop").unwrap()
        );
    }

    #[test]
    fn versions_are_three_numbers_in_numeric_order() {
        for text in [
            "1.0",
            "v1.0.0",
            "1.0.0-beta",
            "1.0.0.0",
            "",
            "1..0",
            "+1.0.0",
            "1.0.99999999999",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let parse = |text: &str| text.parse::<Version>().unwrap();
        assert!(parse("0.10.0") > parse("0.9.0"));
        assert_eq!(Version::default().to_string(), "0.1.0");
        assert!(
            "1234567.12345.1234".parse::<Version>().is_err(),
            "17 characters or more"
        );
    }
}
