//! Which lines are written: `info,vedette_ingest=debug`.

use std::str::FromStr;

use log::LevelFilter;

/// Libraries whose spans come through as errors, one or two for each message (rumqttd opens every span at that level):
/// silent unless named. What goes wrong in the embedded broker is logged by its supervisor.
const MUTED: [&str; 2] = ["rumqttd", "tracing"];

/// Levels by target. A bare level is for Vedette's own crates; libraries are held at `warn` unless named, since
/// their `info` is noise to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    own: LevelFilter,
    named: Vec<(String, LevelFilter)>,
}

/// Why a text is no [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no log level: write off, error, warn, info, debug or trace, or TARGET=LEVEL, with commas between"
)]
pub struct FilterError(String);

impl Filter {
    /// One level for Vedette, `warn` at most for libraries.
    pub fn new(level: LevelFilter) -> Self {
        Self { own: level, named: Vec::new() }
    }

    /// The most verbose level that anything passes at.
    pub fn max(&self) -> LevelFilter {
        self.named.iter().map(|(_, level)| *level).fold(self.own, Ord::max)
    }

    /// The level of a target: that of the longest name that it lies in.
    pub fn level(&self, target: &str) -> LevelFilter {
        let lies_in = |name: &str| {
            target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let muted = MUTED.iter().any(|name| lies_in(name));
        let library = if muted { LevelFilter::Off } else { LevelFilter::Warn };
        let named = self.named.iter().filter(|(name, _)| lies_in(name)).max_by_key(|(name, _)| name.len());
        let own = target == "vedette" || target.starts_with("vedette_") || target.starts_with("vedette::");
        named.map_or_else(|| if own { self.own } else { self.own.min(library) }, |(_, level)| *level)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::new(LevelFilter::Info)
    }
}

impl FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) =
                part.split_once('=').map_or((None, part), |(t, l)| (Some(t.trim()), l.trim()));
            let level = level.parse().map_err(|_| FilterError(part.to_owned()))?;
            match target {
                None => filter.own = level,
                Some("") => return Err(FilterError(part.to_owned())),
                Some(target) => filter.named.push((target.replace('-', "_"), level)),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_decides() {
        struct Case(&'static str, &'static str, LevelFilter);
        let cases = [
            Case("", "vedette::run", LevelFilter::Info),
            Case("", "rumqttc", LevelFilter::Warn),
            Case("error", "rumqttc", LevelFilter::Error),
            Case("debug", "rumqttd::router", LevelFilter::Off),
            Case("info,rumqttd=warn", "rumqttd::router", LevelFilter::Warn),
            Case("debug", "ort::session", LevelFilter::Warn),
            Case("info,vedette_ingest=debug", "vedette_ingest::rtsp", LevelFilter::Debug),
            Case("info,vedette-ingest=debug", "vedette_ingest", LevelFilter::Debug),
            Case("info,vedette_ingest=debug", "vedette_ingestion", LevelFilter::Info),
            Case("warn, ort=info, ort::io=off", "ort::io::x", LevelFilter::Off),
            Case("warn, ort=info, ort::io=off", "ort", LevelFilter::Info),
        ];
        for Case(spec, target, expected) in cases {
            assert_eq!(spec.parse::<Filter>().unwrap().level(target), expected, "{spec:?} {target}");
        }
        assert_eq!("warn,ort=trace".parse::<Filter>().unwrap().max(), LevelFilter::Trace);
    }

    #[test]
    fn errors_name_the_part() {
        for (spec, part) in [("loud", "loud"), ("info,x=loud", "x=loud"), ("=info", "=info")] {
            assert_eq!(spec.parse::<Filter>(), Err(FilterError(part.to_owned())));
        }
    }
}
