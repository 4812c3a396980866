//! Identifiers. Each is its own type, so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, unguessable one.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// From a number; for tests that want to name theirs.
            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A call: two legs joined by the server. Internal; it never goes over the wire.
    CallId
}
uuid_id! {
    /// One leg of a call, which is what a call URI names.
    // ript-core "Call Establishment": the call URI MUST contain a UUID.
    LegId
}
uuid_id! {
    /// A handler as the server names it, the last part of its URI.
    HandlerKey
}

/// The name of a TG within its server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TgId(String);

impl TgId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TgId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 64 || !text.chars().all(ok) || text.starts_with('.') {
            return Err(
                "a TG's name is 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'".into()
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TgId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TgId> for String {
    fn from(id: TgId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_reads_what_it_prints() {
        let id = LegId::random();
        assert_eq!(id.to_string().parse::<LegId>().unwrap(), id);
        assert!("../etc".parse::<LegId>().is_err());
    }

    #[test]
    fn a_tg_name_cannot_leave_its_path_segment() {
        for bad in ["", "a/b", "..", "a b", "%2f", &"x".repeat(65)] {
            assert!(bad.parse::<TgId>().is_err(), "{bad}");
        }
        assert_eq!("dev-1".parse::<TgId>().unwrap().as_str(), "dev-1");
    }
}
