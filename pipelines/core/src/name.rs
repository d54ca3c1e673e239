//! Names that users give: cameras, brokers, zones, lines, rules. One syntax for all, since every one of them
//! becomes a topic level, a file stem and a key of the configuration.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Topic levels below `<prefix>/<node>` that mean something else, so that no camera may be called so.
pub const RESERVED: [&str; 4] = ["status", "stats", "command", "event"];

/// A user's name for something: `[a-z0-9-]{1,32}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A camera's name: a [`Name`] that is none of [`RESERVED`].
pub type CameraId = Name;

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not 1 to 32 characters of `a-z`, `0-9` and `-`.
    #[error("`{0}` is not a name: use 1 to 32 of a-z, 0-9 and -")]
    Syntax(String),
    /// One of [`RESERVED`].
    #[error("`{0}` is reserved (so are {list}): choose another name", list = RESERVED.join(", "))]
    Reserved(String),
}

impl Name {
    /// Checks the syntax; does not look at [`RESERVED`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(NameError::Syntax(text.to_owned())) }
    }

    /// Checks the syntax and refuses [`RESERVED`] names: for cameras, rules and brokers.
    pub fn unreserved(text: &str) -> Result<Self, NameError> {
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Self::new(text)
    }

    /// Makes a name of any text: lower-cased, other characters to `-`, cut at 32; `node` where nothing is left.
    /// The default node id is made so from the host name.
    pub fn from_host(text: &str) -> Self {
        let kept: String = text
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(32)
            .collect();
        Self(if kept.is_empty() { "node".into() } else { kept.into() })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,32}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_checked() {
        struct Case(&'static str, bool);
        let cases = [
            Case("gate", true),
            Case("gate-2", true),
            Case("a", true),
            Case("", false),
            Case("Gate", false),
            Case("gate_2", false),
            Case("gate/2", false),
            Case("123456789012345678901234567890123", false),
        ];
        for Case(text, fits) in cases {
            assert_eq!(Name::new(text).is_ok(), fits, "{text:?}");
        }
    }

    #[test]
    fn reserved_names_are_refused_by_name() {
        let error = Name::unreserved("status").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`status` is reserved (so are status, stats, command, event): choose another name"
        );
    }

    #[test]
    fn host_names_become_names() {
        assert_eq!(Name::from_host("Edge_Box.local").as_str(), "edge-box-local");
        assert_eq!(Name::from_host("").as_str(), "node");
    }
}
