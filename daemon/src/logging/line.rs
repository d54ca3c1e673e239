//! One line of the log, free of what it was made from, and what it looks like to people.

use std::fmt::Write as _;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Record};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) wall: jiff::Timestamp,
    pub(super) level: Level,
    pub(super) target: String,
    /// Where in the source, to tell kinds of messages apart.
    pub(super) place: (Option<&'static str>, Option<u32>),
    pub(super) text: String,
    /// Key-values in the order in which they were given.
    pub(super) fields: Vec<(String, String)>,
}

struct Fields<'a>(&'a mut Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push((key.as_str().to_owned(), value.to_string()));
        Ok(())
    }
}

impl Line {
    pub(super) fn of(record: &Record<'_>, wall: jiff::Timestamp) -> Self {
        let mut fields = Vec::new();
        // Collecting into a vector cannot fail.
        let _ = record.key_values().visit(&mut Fields(&mut fields));
        Self {
            wall,
            level: record.level(),
            target: record.target().to_owned(),
            place: (record.file_static(), record.line()),
            text: record.args().to_string(),
            fields,
        }
    }

    /// What is said too often is said of somebody: its camera or broker.
    pub(super) fn about(&self) -> Option<&str> {
        let named =
            |name: &str| self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        named("camera").or_else(|| named("broker"))
    }

    /// `2026-11-24T02:35:42Z WARN  camera=gate text`, without line end. Control characters are written out: cameras
    /// and brokers choose some of the text.
    pub(super) fn human(&self, colour: bool) -> String {
        let (level, dim, off) = match (colour, self.level) {
            (false, _) => ("", "", ""),
            (true, Level::Error) => ("\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
            (true, Level::Warn) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
            (true, Level::Info) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
            (true, Level::Debug | Level::Trace) => ("\x1b[36m", "\x1b[2m", "\x1b[0m"),
        };
        let seconds = self.wall.round(jiff::Unit::Second).unwrap_or(self.wall);
        let mut out = format!("{dim}{seconds}{off} {level}{:<5}{off} ", self.level);
        for (key, value) in self.fields.iter().filter(|(key, _)| key != "message_id") {
            let _ = write!(out, "{dim}{key}={off}{} ", shown(value));
        }
        let text: Vec<String> = self.text.lines().map(shown).collect();
        out.push_str(&text.join("\n    "));
        out
    }
}

fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            wall: "2026-11-24T02:35:42Z".parse().unwrap(),
            level: Level::Warn,
            target: "vedette".to_owned(),
            place: (None, None),
            text: text.to_owned(),
            fields: vec![
                ("camera".to_owned(), "gate".to_owned()),
                ("message_id".to_owned(), "5c0e…".to_owned()),
            ],
        }
    }

    #[test]
    fn people_read_one_line() {
        assert_eq!(
            line("no packets for 5 s").human(false),
            "2026-11-24T02:35:42Z WARN  camera=gate no packets for 5 s"
        );
        assert!(line("x").human(true).contains("\x1b[33mWARN \x1b[0m"));
    }

    #[test]
    fn peers_cannot_steer_the_terminal() {
        let seen = line("bad \x1b[2J\r name\nsecond").human(false);
        assert!(seen.ends_with("bad \\u{1b}[2J\\r name\n    second"), "{seen}");
    }
}
