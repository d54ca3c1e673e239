//! What a broker's entry says about its dialects.
//!
//! Owns: these settings and their defaults. Does not know: files, connections. Checked by each dialect's `build`.

use vedette_core::{Name, Span};

use super::Interest;

/// Of one broker; every dialect takes its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The broker's name in the configuration.
    pub broker: Option<Name>,
    /// Verbs that the broker's clients may ask for.
    pub commands: Vec<String>,
    /// Which events the broker gets.
    pub filter: Interest,
    /// `[broker.NAME.homeassistant]`.
    pub homeassistant: HomeAssistantSettings,
    /// `[broker.NAME.sparkplug]`.
    pub sparkplug: SparkplugSettings,
    /// `[broker.NAME.frigate]`.
    pub frigate: FrigateSettings,
    /// `[broker.NAME.onvif]`.
    pub onvif: OnvifSettings,
    /// `[broker.NAME.custom]`.
    pub custom: CustomSettings,
}

/// Home Assistant's discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistantSettings {
    /// Its discovery prefix. Default `homeassistant`.
    pub discovery: String,
}

/// Sparkplug B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkplugSettings {
    /// The group that the appliance is an edge node of. Default `vedette`.
    pub group: String,
    /// The host that must be online before anything is published. Default: none.
    pub primary_host: Option<String>,
}

/// The schema of Frigate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrigateSettings {
    /// First levels of its topics. Default `frigate`.
    pub prefix: String,
}

/// ONVIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnvifSettings {
    /// Whether metadata (`onvif-mj`) is told beside events. Default false.
    pub metadata: bool,
    /// The time between two metadata messages of a camera, at least. Default 1 s.
    pub metadata_every: Span,
}

/// Templates (minijinja) of messages of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomSettings {
    /// The whole topic of an event; empty: none are sent.
    pub topic: String,
    /// The payload of an event; empty: the event as the dialect `vedette` writes it.
    pub payload: String,
    /// MQTT 5's content type. Empty: `application/json`.
    pub content_type: String,
}

/// Whether `prefix`, the value of `key`, can be the first levels of a topic; otherwise what is wrong with it.
pub(super) fn check_prefix(key: &str, prefix: &str) -> Result<(), String> {
    let fits = prefix.split('/').all(|level| !level.is_empty()) && !prefix.starts_with('$');
    if fits && !prefix.contains(['#', '+', '\0']) {
        return Ok(());
    }
    Err(format!(
        "`{key}`: `{prefix}` is no topic prefix: levels parted by `/`, none empty, without #, + and $"
    ))
}

impl Default for HomeAssistantSettings {
    fn default() -> Self {
        Self { discovery: "homeassistant".to_owned() }
    }
}

impl Default for SparkplugSettings {
    fn default() -> Self {
        Self { group: "vedette".to_owned(), primary_host: None }
    }
}

impl Default for FrigateSettings {
    fn default() -> Self {
        Self { prefix: "frigate".to_owned() }
    }
}

impl Default for OnvifSettings {
    fn default() -> Self {
        Self { metadata: false, metadata_every: Span::secs(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_levels_without_wildcards() {
        for good in ["homeassistant", "site/a b/frigate", "x$"] {
            assert_eq!(check_prefix("prefix", good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/#", "+", "$SYS/a", "a\0"] {
            let said = check_prefix("prefix", bad).unwrap_err();
            assert!(said.starts_with(&format!("`prefix`: `{bad}` is no topic prefix")), "{said}");
        }
    }
}
