//! How closed sets of words are spelled.
//!
//! State is an enum; its text stands once, beside the variant, and serves columns, JSON and the
//! command line alike. Unknown text is an error that names the allowed words, never a default.

/// The text is not one of the words that are allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`; allowed: {}", .allowed.join(", "))]
pub struct UnknownWord {
    /// What the text was supposed to be, such as `task state`.
    pub what: &'static str,
    /// The text as found.
    pub found: String,
    /// Every word that would have been accepted.
    pub allowed: Vec<&'static str>,
}

/// Declares a field-less enum together with its one spelling.
///
/// Gives `ALL`, `as_str`, `Display`, `FromStr`, `Serialize` and `Deserialize`.
macro_rules! text_enum {
    (
        $(#[$meta:meta])*
        $what:literal enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $text:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vmeta])* $variant, )+ }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &[$name] = &[ $( $name::$variant, )+ ];

            /// The one spelling, in columns, JSON and messages.
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $text, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $text => Ok($name::$variant), )+
                    _ => Err($crate::text_enum::UnknownWord {
                        what: $what,
                        found: text.to_owned(),
                        allowed: vec![ $( $text, )+ ],
                    }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_enum;
