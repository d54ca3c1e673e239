//! One ONVIF notification as topic and JSON: `onvif-ej/<topic>/&<source values>` and
//! `{"UtcTime":…,"Source":{…},"Data":{…}}`.
//!
//! Owns: that form. Does not know: which topics there are.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::super::Message;
use super::super::vedette::{json, millis};

/// A value of `Data`; numbers and booleans stand unquoted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum {
    Text(String),
    Flag(bool),
    Number(f64),
    Time(Timestamp),
}

impl Datum {
    pub(super) fn text(value: &(impl ToString + ?Sized)) -> Self {
        Self::Text(value.to_string())
    }

    /// As the word is written in JSON.
    pub(super) fn json(word: &impl Serialize) -> Self {
        let value = serde_json::to_value(word).unwrap_or_default();
        Self::Text(value.as_str().unwrap_or_default().to_owned())
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            // Counts are whole numbers, and look so.
            Self::Number(n) if n.fract() == 0.0 && n.abs() < 1e15 => serializer.serialize_i64(*n as i64),
            Self::Number(n) => serializer.serialize_f64(*n),
            Self::Time(time) => millis(time, serializer),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notification {
    /// Without the namespace `tns1:`; other namespaces as `alias:Name`.
    pub(super) topic: String,
    /// Names and values, in the order in which the values stand in the topic.
    pub(super) source: Vec<(&'static str, String)>,
    /// UTC.
    pub(super) at: Timestamp,
    pub(super) data: Vec<(&'static str, Datum)>,
}

impl Notification {
    /// Of something that happened.
    pub(super) fn passing(&self) -> Message {
        Message::passing(self.path(), self.payload())
    }

    /// Of something that is so.
    pub(super) fn property(&self) -> Message {
        Message::retained(self.path(), self.payload())
    }

    /// Of something that is no more.
    pub(super) fn deleted(&self) -> Message {
        Message::retained(self.path(), Vec::new())
    }

    fn path(&self) -> String {
        let values: Vec<_> = self.source.iter().map(|(_, value)| value.as_str()).collect();
        let source = if values.is_empty() { String::new() } else { format!("/&{}", values.join("/")) };
        let path = format!("onvif-ej/{}{source}", self.topic);
        // The specification omits what a topic cannot hold.
        path.chars().filter(|c| !matches!(c, '#' | '+' | '\0')).collect()
    }

    fn payload(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Keys<'a> {
            #[serde(serialize_with = "millis")]
            utc_time: Timestamp,
            #[serde(serialize_with = "items")]
            source: &'a [(&'static str, String)],
            #[serde(serialize_with = "items")]
            data: &'a [(&'static str, Datum)],
        }
        json(&Keys { utc_time: self.at, source: &self.source, data: &self.data })
    }
}

fn items<S: Serializer, T: Serialize>(items: &[(&'static str, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(items.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(text: &str) -> &str {
        text.trim_end()
    }

    /// Core Specification, "Event Broker": the example of a line detector.
    #[test]
    fn the_example_of_the_specification_comes_out() {
        let notification = Notification {
            topic: "RuleEngine/LineDetector/Crossed".to_owned(),
            source: vec![
                ("VideoSource", "1".to_owned()),
                ("AnalyticsConfiguration", "2".to_owned()),
                ("Rule", "MyImportantFence1".to_owned()),
            ],
            at: "2008-10-10T12:24:57.321Z".parse().unwrap(),
            data: vec![("ObjectId", Datum::text(&15))],
        };
        let message = notification.passing();
        assert_eq!(
            super::super::super::topic("MyDevice", &message.topic),
            "MyDevice/onvif-ej/RuleEngine/LineDetector/Crossed/&1/2/MyImportantFence1"
        );
        assert_eq!(
            String::from_utf8(message.payload).unwrap(),
            golden(include_str!("../../../../tests/golden/wire/onvif.specification.json"))
        );
    }

    #[test]
    fn a_topic_holds_no_wildcard_and_no_empty_source() {
        let at = Timestamp::UNIX_EPOCH;
        let mut notification =
            Notification { topic: "Device/A#B".to_owned(), source: vec![], at, data: vec![] };
        assert_eq!(notification.passing().topic, "onvif-ej/Device/AB");
        notification.source = vec![("Source", "+1".to_owned())];
        assert_eq!(notification.passing().topic, "onvif-ej/Device/AB/&1");
    }
}
