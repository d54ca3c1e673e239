//! Weekly schedules such as `mon-fri 20:00-06:00, sat-sun 00:00-24:00`, read in the node's time zone.

use std::str::FromStr;

use serde::Deserialize;

/// When a rule is armed: weekly spans; a span may pass midnight.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Schedule {
    text: String,
}

impl TryFrom<String> for Schedule {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned() })
    }
}

impl schemars::JsonSchema for Schedule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["mon-fri 20:00-06:00, sat-sun 00:00-24:00"] })
    }
}
