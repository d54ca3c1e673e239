//! Weekly schedules such as `mon-fri 20:00-06:00, sat-sun 00:00-24:00`, read in the node's time zone.
//!
//! Owns: their syntax and whether a moment lies in them. Does not know: rules. Spans are read off the local clock:
//! on the night in which clocks go forward a span loses the hour that does not exist, on the other it has it twice.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const WHOLE_DAY: u32 = 24 * 60;

/// When a rule is armed: weekly spans; a span may pass midnight and then belongs to the day on which it begins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Schedule {
    text: String,
    spans: Vec<Span>,
}

/// Minutes of the local day on some days of the week; `to` ≤ `from` means the next day.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    /// Monday first.
    days: [bool; 7],
    from: u32,
    to: u32,
}

impl Schedule {
    /// Whether `wall` lies in one of the spans, as the clocks in `zone` show it.
    pub fn contains(&self, wall: Timestamp, zone: &TimeZone) -> bool {
        let local = zone.to_datetime(wall);
        let day = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute =
            u32::try_from(local.hour()).unwrap_or(0) * 60 + u32::try_from(local.minute()).unwrap_or(0);
        let yesterday = (day + 6) % 7;
        self.spans.iter().any(|s| {
            let passes_midnight = s.to <= s.from;
            let since_start = s.days[day] && minute >= s.from && (passes_midnight || minute < s.to);
            since_start || (passes_midnight && s.days[yesterday] && minute < s.to)
        })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
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
        let wrong = |what: String| {
            format!(
                "`{text}` is not a schedule: {what}; write it like \"mon-fri 20:00-06:00, sat-sun 00:00-24:00\""
            )
        };
        let (mut spans, mut waiting) = (Vec::new(), [false; 7]);
        let mut days_wait = false;
        for item in text.split(',') {
            let words: Vec<&str> = item.split_whitespace().collect();
            let (days, hours) = match words[..] {
                [one] if one.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(one)),
                [one] => (Some(one), None),
                [days, hours] => (Some(days), Some(hours)),
                [] => return Err(wrong("there is an empty part".to_owned())),
                _ => return Err(wrong(format!("`{}` has too many words", item.trim()))),
            };
            if let Some(days) = days {
                parse_days(days, &mut waiting).map_err(wrong)?;
                days_wait = true;
            }
            // "mon, wed 20:00-22:00": days without hours wait for the hours that follow.
            let Some(hours) = hours else { continue };
            let (from, to) = parse_hours(hours).map_err(wrong)?;
            let days = if days_wait { waiting } else { [true; 7] };
            spans.push(Span { days, from, to });
            (waiting, days_wait) = ([false; 7], false);
        }
        if days_wait {
            return Err(wrong("the last days have no hours".to_owned()));
        }
        Ok(Self { text: text.to_owned(), spans })
    }
}

fn parse_days(text: &str, days: &mut [bool; 7]) -> Result<(), String> {
    let day = |name: &str| {
        DAYS.iter()
            .position(|d| d.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("`{name}` is not a day, days are {}", DAYS.join(", ")))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    // "sat-mon" goes round the end of the week.
    for step in 0..=(last + 7 - first) % 7 {
        days[(first + step) % 7] = true;
    }
    Ok(())
}

fn parse_hours(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is not a span of time, which is HH:MM-HH:MM between 00:00 and 24:00");
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let digits =
            |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<u32>().ok());
        let (hours, minutes) = (digits(hours)??, digits(minutes)??);
        (minutes < 60).then_some(hours * 60 + minutes).filter(|&m| m <= WHOLE_DAY)
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
    if from == WHOLE_DAY {
        return Err(format!("`{text}` begins at 24:00: begin it at 00:00 of the next day"));
    }
    if from == to {
        return Err(format!("`{text}` has no length: the whole day is 00:00-24:00"));
    }
    Ok((from, to))
}

impl schemars::JsonSchema for Schedule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["mon-fri 20:00-06:00, sat-sun 00:00-24:00"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_the_local_clock() {
        struct Case(&'static str, &'static str, bool);
        let work = "mon-fri 20:00-06:00, sat-sun 00:00-24:00";
        let cases = [
            // 2026-11-23 is a Monday.
            Case(work, "2026-11-23T19:59:59+01:00[Europe/Berlin]", false),
            Case(work, "2026-11-23T20:00:00+01:00[Europe/Berlin]", true),
            Case(work, "2026-11-24T05:59:59+01:00[Europe/Berlin]", true),
            Case(work, "2026-11-24T06:00:00+01:00[Europe/Berlin]", false),
            // Monday morning belongs to Sunday, whose span ends at 24:00.
            Case(work, "2026-11-23T00:30:00+01:00[Europe/Berlin]", false),
            Case(work, "2026-11-28T05:00:00+01:00[Europe/Berlin]", true),
            Case("sat-mon 10:00-11:00", "2026-11-23T10:30:00+01:00[Europe/Berlin]", true),
            Case("sat-mon 10:00-11:00", "2026-11-24T10:30:00+01:00[Europe/Berlin]", false),
            Case("mon, Wed 10:00-11:00", "2026-11-25T10:30:00+01:00[Europe/Berlin]", true),
            Case("10:00-11:00", "2026-11-24T10:30:00+01:00[Europe/Berlin]", true),
            // 2026-03-29: 02:00 becomes 03:00, so 01:00-02:30 ends with the hour that is skipped.
            Case("01:00-02:30", "2026-03-29T01:59:59+01:00[Europe/Berlin]", true),
            Case("01:00-02:30", "2026-03-29T03:00:00+02:00[Europe/Berlin]", false),
            Case("02:30-03:30", "2026-03-29T03:15:00+02:00[Europe/Berlin]", true),
            // 2026-10-25: the hour from 02:00 comes twice.
            Case("02:00-03:00", "2026-10-25T02:30:00+02:00[Europe/Berlin]", true),
            Case("02:00-03:00", "2026-10-25T02:30:00+01:00[Europe/Berlin]", true),
        ];
        for Case(text, at, expected) in cases {
            let at: jiff::ZonedDateTime = at.parse().unwrap();
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.contains(at.timestamp(), at.time_zone()), expected, "{text} at {at}");
        }
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let cases = [
            ("mo-fr 20:00-06:00", "`mo` is not a day, days are mon, tue"),
            ("mon-fri", "the last days have no hours"),
            ("mon-fri 20-06", "`20-06` is not a span of time, which is HH:MM-HH:MM"),
            ("mon 20:00-25:00", "between 00:00 and 24:00"),
            ("mon 20:60-21:00", "HH:MM"),
            ("mon +1:00-21:00", "HH:MM"),
            ("mon 20:00-20:00", "no length"),
            ("24:00-06:00", "begins at 24:00"),
            ("", "empty part"),
            ("mon 20:00-21:00,", "empty part"),
            ("mon 20:00 - 21:00", "too many words"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(expected) && error.contains("write it like"), "{error}");
        }
    }
}
