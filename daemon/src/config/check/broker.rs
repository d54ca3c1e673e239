//! One broker: what its URL allows, topics, and that its certificate files are there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use vedette_analysis::rules;
use vedette_core::{Name, Secret, Span};

use super::super::raw::{MqttVersion, RawBroker, RawFilter};
use super::super::words::hint;
use super::super::{Broker, EMBEDDED, Options};
use super::Check;
use super::url::{self, CleanUrl};
use crate::commands;
use crate::wire::{
    self, CustomSettings, FrigateSettings, HomeAssistantSettings, Interest, OnvifSettings, Settings,
    SparkplugSettings,
};

const SCHEMES: [&str; 4] = ["mqtt", "mqtts", "ws", "wss"];

/// Keys of files.
const FILES: [&str; 3] = ["ca", "client_certificate", "client_key"];

/// MQTT sends the keep-alive time as 16 bits of seconds; below 5 s a slow link looks like a dead one.
const KEEP_ALIVE: std::ops::RangeInclusive<Span> = Span::secs(5)..=Span::secs(64_800);

/// What a broker is beside the keys that are taken as they are.
struct Found {
    id: Name,
    url: String,
    user: Option<String>,
    password: Option<Secret>,
    listen: Option<SocketAddr>,
    version: Option<MqttVersion>,
    files: [Option<PathBuf>; 3],
    filter: Interest,
    settings: Settings,
}

/// Checks a broker; `None` where none could be made of it.
pub(super) fn build(
    check: &mut Check<'_>,
    id: &str,
    mut raw: RawBroker,
    node: &Name,
    options: &Options,
) -> Option<Broker> {
    let name = check.name(&["broker", id], Name::unreserved);
    check_dialects(check, id, &raw.dialects, &options.dialects);
    check_prefix(check, id, &raw.prefix);
    check_numbers(check, id, &raw);
    let files = [raw.ca.take(), raw.client_certificate.take(), raw.client_key.take()]
        .map(|file| file.map(|path| options.config_dir.join(path)));
    check_files(check, id, &files);
    let address = raw.url.take().and_then(|text| check_url(check, id, &text));
    if address.is_none() {
        check.missing_url(id);
    }
    let CleanUrl { url, scheme, user, password } = address?;
    if !matches!(scheme.as_str(), "mqtts" | "wss") {
        refuse_files(check, id, &files, &url);
    }
    let (user, password) = (raw.user.take().or(user), raw.password.take().map(Secret::new).or(password));
    let version = check_version(check, id, raw.version, url == EMBEDDED);
    // An empty one keeps nobody out.
    let login = [
        user.as_ref().is_some_and(|user| !user.is_empty()),
        password.as_ref().is_some_and(|password| !password.reveal().is_empty()),
    ];
    let listen = match raw.listen.take() {
        listen if url == EMBEDDED => check_embedded(check, id, listen, login),
        listen => refuse_listen(check, id, listen.as_deref()),
    };
    let name = name?;
    let filter = check_filter(check, ["broker", id], std::mem::take(&mut raw.filter));
    let settings = settings(&mut raw, &name, &filter);
    check_settings(check, id, &raw.dialects, &settings);
    check_commands(check, id, &raw.commands);
    for kind in raw.expiry_by_kind.keys() {
        check_kind(check, &["broker", id, "expiry_by_kind", kind], kind);
    }
    let found = Found { id: name, url, user, password, listen, version, files, filter, settings };
    Some(broker(raw, found, node))
}

/// Puts it together.
fn broker(raw: RawBroker, found: Found, node: &Name) -> Broker {
    let Found { id, url, user, password, listen, version, files, filter, settings } = found;
    let [ca, client_certificate, client_key] = files;
    let RawBroker {
        dialects,
        prefix,
        client_id,
        keep_alive,
        qos,
        replay_per_second,
        replay,
        expiry,
        expiry_by_kind,
        commands,
        // In `found`.
        url: _,
        listen: _,
        user: _,
        password: _,
        ca: _,
        client_certificate: _,
        client_key: _,
        version: _,
        filter: _,
        homeassistant: _,
        sparkplug: _,
        frigate: _,
        onvif: _,
        custom: _,
    } = raw;
    Broker {
        id,
        url,
        listen,
        dialects,
        prefix,
        user,
        password,
        ca,
        client_certificate,
        client_key,
        client_id: client_id.unwrap_or_else(|| format!("vedette-{node}")),
        keep_alive,
        version,
        acknowledged: qos == 1,
        replay_per_second,
        replay,
        expiry,
        expiry_by_kind,
        commands,
        filter,
        settings,
    }
}

/// What its dialects are built with; taken from `raw`.
fn settings(raw: &mut RawBroker, id: &Name, filter: &Interest) -> Settings {
    let (homeassistant, sparkplug) =
        (std::mem::take(&mut raw.homeassistant), std::mem::take(&mut raw.sparkplug));
    let (frigate, onvif) = (std::mem::take(&mut raw.frigate), std::mem::take(&mut raw.onvif));
    let custom = std::mem::take(&mut raw.custom);
    Settings {
        broker: Some(id.clone()),
        commands: raw.commands.clone(),
        filter: filter.clone(),
        homeassistant: HomeAssistantSettings { discovery: homeassistant.discovery },
        sparkplug: SparkplugSettings { group: sparkplug.group, primary_host: sparkplug.primary_host },
        frigate: FrigateSettings { prefix: frigate.prefix },
        onvif: OnvifSettings { metadata: onvif.metadata, metadata_every: onvif.metadata_every },
        custom: CustomSettings {
            topic: custom.topic,
            payload: custom.payload,
            content_type: custom.content_type,
        },
    }
}

fn check_numbers(check: &mut Check<'_>, id: &str, raw: &RawBroker) {
    let RawBroker { keep_alive, qos, replay_per_second, .. } = raw;
    if !KEEP_ALIVE.contains(keep_alive) {
        check.value_error(&["broker", id, "keep_alive"], format!("{keep_alive} is not within 5s to 18h"));
    }
    if *qos > 1 {
        check.value_error(&["broker", id, "qos"], format!("{qos} is neither 0 nor 1"));
    }
    if !(1..=10_000).contains(replay_per_second) {
        let message = format!("{replay_per_second} is not within 1 to 10000");
        check.value_error(&["broker", id, "replay_per_second"], message);
    }
}

/// What each dialect that is named says to its settings.
fn check_settings(check: &mut Check<'_>, id: &str, dialects: &[String], settings: &Settings) {
    for kind in dialects.iter().filter_map(|name| wire::dialect(name)) {
        let table = ["broker", id, kind.name];
        match (kind.build)(settings) {
            Err(reason) => {
                let place: &[&str] = if check.has(&table) { &table } else { &table[..2] };
                check.key_error(place, reason);
            }
            // That connection has a queue of its own, which needs a name of its own.
            Ok(built) if built.own_connection() && Name::new(&format!("{id}-{}", kind.name)).is_err() => {
                let message = format!(
                    "`{id}` is too long for the dialect `{0}`: `{id}-{0}` must have 32 characters at most",
                    kind.name
                );
                check.key_error(&table[..2], message);
            }
            Ok(_) => {}
        }
    }
}

fn check_commands(check: &mut Check<'_>, id: &str, verbs: &[String]) {
    let known: Vec<_> = commands::ALL.iter().map(|verb| verb.name).collect();
    for (index, verb) in verbs.iter().enumerate() {
        if !known.contains(&verb.as_str()) {
            let hint = hint(verb, known.iter().copied());
            check.item_error(
                &["broker", id, "commands", &index.to_string()],
                format!("no command `{verb}`{hint}"),
            );
        }
    }
}

/// Kinds and cameras that do not exist are found by their names' owners: here only what cannot be a name.
pub(super) fn check_filter(check: &mut Check<'_>, [table, id]: [&str; 2], raw: RawFilter) -> Interest {
    let RawFilter { cameras, kinds, severities } = raw;
    for (index, kind) in kinds.iter().flatten().enumerate() {
        check_kind(check, &[table, id, "filter", "kinds", &index.to_string()], kind);
    }
    let cameras = cameras.map(|names| {
        let named = names.iter().enumerate().filter_map(|(index, name)| match Name::new(name) {
            Ok(name) => Some(name),
            Err(error) => {
                let place = [table, id, "filter", "cameras", &index.to_string()];
                check.item_error(&place, error.to_string());
                None
            }
        });
        named.collect()
    });
    Interest { cameras, kinds, severities }
}

/// Whether there are events of this kind.
fn check_kind(check: &mut Check<'_>, place: &[&str], kind: &str) {
    let known: Vec<_> = rules::ALL.iter().map(|kind| kind.name).chain(["health", "test"]).collect();
    if !known.contains(&kind) {
        let hint = hint(kind, known.iter().copied());
        check.item_error(place, format!("no kind `{kind}`{hint}"));
    }
}

/// Host and port behind a URL, so that `mqtt://h` and `mqtt://h:1883` are one.
fn reached(broker: &Broker) -> (String, u16) {
    let url = ::url::Url::parse(&broker.url).ok();
    let host = url.as_ref().and_then(|u| u.host_str()).unwrap_or(&broker.url).to_ascii_lowercase();
    let default = match url.as_ref().map(::url::Url::scheme) {
        Some("mqtts") => 8883,
        Some("ws") => 80,
        Some("wss") => 443,
        _ => 1883,
    };
    (host, url.and_then(|u| u.port()).unwrap_or(default))
}

/// What two brokers cannot share.
pub(super) fn check_pairs(check: &mut Check<'_>, brokers: &BTreeMap<Name, Broker>) {
    for broker in brokers.values() {
        for dialect in &broker.dialects {
            let taken = format!("{}-{dialect}", broker.id);
            let apart = wire::dialect(dialect).and_then(|kind| (kind.build)(&broker.settings).ok());
            if apart.is_some_and(|d| d.own_connection()) && brokers.keys().any(|id| id.as_str() == taken) {
                let message = format!(
                    "`broker.{}` has a connection of this name, for its dialect `{dialect}`",
                    broker.id
                );
                check.key_error(&["broker", &taken], message);
            }
        }
    }
    let all: Vec<&Broker> = brokers.values().collect();
    for (index, broker) in all.iter().enumerate() {
        let clash = |other: &&&Broker| {
            reached(other) == reached(broker)
                && (broker.url == EMBEDDED || other.client_id == broker.client_id)
        };
        let Some(same) = all[..index].iter().find(clash) else { continue };
        let id = broker.id.as_str();
        if broker.url == EMBEDDED {
            let message = format!("there is one embedded broker, and `broker.{}` is it", same.id);
            check.value_error(&["broker", id, "url"], message);
        } else {
            let message = format!(
                "`broker.{id}` and `broker.{}` reach one broker as one client `{}`, which would close each other's \
                 connection: give one of them another `client_id`",
                same.id, broker.client_id
            );
            check.key_error(&["broker", id], message);
        }
    }
}

impl Check<'_> {
    fn missing_url(&mut self, id: &str) {
        if !self.has(&["broker", id, "url"]) {
            self.missing(
                &["broker", id, "url"],
                "give `mqtt://HOST`, `mqtts://HOST`, `ws://HOST`, `wss://HOST` or `embedded`",
            );
        }
    }
}

fn check_url(check: &mut Check<'_>, id: &str, text: &str) -> Option<CleanUrl> {
    let keys = ["broker", id, "url"];
    if text == EMBEDDED {
        return Some(CleanUrl {
            url: EMBEDDED.to_owned(),
            scheme: EMBEDDED.to_owned(),
            user: None,
            password: None,
        });
    }
    match url::parse(text, &SCHEMES) {
        Ok(clean) => {
            if clean.user.is_some() || clean.password.is_some() {
                check.warning(&keys, url::login_remedy("broker", id));
            }
            Some(clean)
        }
        Err(message) => {
            check.value_error(&keys, format!("{message}, {EMBEDDED}"));
            None
        }
    }
}

/// Only the embedded broker listens.
fn refuse_listen(check: &mut Check<'_>, id: &str, listen: Option<&str>) -> Option<SocketAddr> {
    if listen.is_some() {
        let message = format!("is for `url = \"{EMBEDDED}\"` alone: another broker listens by itself");
        check.value_error(&["broker", id, "listen"], message);
    }
    None
}

/// Where the embedded broker listens. Nobody may reach it from outside without a login, of which `user` and `password`
/// say whether there is one.
fn check_embedded(
    check: &mut Check<'_>,
    id: &str,
    listen: Option<String>,
    [user, password]: [bool; 2],
) -> Option<SocketAddr> {
    let keys = ["broker", id, "listen"];
    let address = listen.as_ref().and_then(|text| text.parse().ok());
    let address = address.filter(|address: &SocketAddr| address.port() > 0);
    let remedy = format!("give both in `vedette.secrets`: [broker.{id}] user = …, password = …");
    match (listen, address) {
        (Some(text), None) => {
            let message = format!("`{text}` is no address: write IP:PORT, such as `0.0.0.0:1883`");
            check.value_error(&keys, message);
        }
        (_, Some(at)) if !(at.ip().is_loopback() || user && password) => {
            let message = format!(
                "{at} is reached from other machines, so the embedded broker needs a user and a password: {remedy}"
            );
            check.value_error(&keys, message);
            return address;
        }
        _ => {}
    }
    if user != password {
        let given = if user { "user" } else { "password" };
        check.key_error(&["broker", id, given], format!("is of no use alone: {remedy}"));
    }
    address
}

fn check_dialects(check: &mut Check<'_>, id: &str, dialects: &[String], known: &[String]) {
    if dialects.is_empty() {
        check.value_error(&["broker", id, "dialects"], "is empty: no event would be sent");
    }
    for (index, dialect) in dialects.iter().enumerate() {
        if !known.contains(dialect) {
            let hint = hint(dialect, known.iter().map(String::as_str));
            let index = index.to_string();
            check.item_error(&["broker", id, "dialects", &index], format!("no dialect `{dialect}`{hint}"));
        }
    }
}

fn check_prefix(check: &mut Check<'_>, id: &str, prefix: &str) {
    let levels_fit = prefix.split('/').all(|level| !level.is_empty());
    if !levels_fit || prefix.starts_with('$') || prefix.contains(['#', '+', '\0']) {
        let message =
            format!("`{prefix}` is no topic prefix: levels parted by `/`, none empty, without #, + and $");
        check.value_error(&["broker", id, "prefix"], message);
    }
}

fn check_files(check: &mut Check<'_>, id: &str, files: &[Option<PathBuf>; 3]) {
    for (key, file) in FILES.into_iter().zip(files) {
        if let Some(file) = file
            && let Err(error) = std::fs::File::open(file)
        {
            let message = format!("{} cannot be opened: {error}", file.display());
            check.value_error(&["broker", id, key], message);
        }
    }
    for (given, lacking) in [(1, 2), (2, 1)] {
        if files[given].is_some() && files[lacking].is_none() {
            let remedy = format!("`{}` is of no use without it", FILES[given]);
            check.missing(&["broker", id, FILES[lacking]], remedy);
        }
    }
}

/// Of a connection that is not encrypted.
fn refuse_files(check: &mut Check<'_>, id: &str, files: &[Option<PathBuf>; 3], url: &str) {
    for (key, _) in FILES.into_iter().zip(files).filter(|(_, file)| file.is_some()) {
        let message =
            format!("needs an encrypted connection, but the URL is `{url}`: write `mqtts://…` or `wss://…`");
        check.value_error(&["broker", id, key], message);
    }
}

fn check_version(
    check: &mut Check<'_>,
    id: &str,
    version: Option<MqttVersion>,
    embedded: bool,
) -> Option<MqttVersion> {
    if embedded && version == Some(MqttVersion::V5) {
        check.value_error(&["broker", id, "version"], "the embedded broker speaks 3.1.1: leave this key out");
    }
    if embedded { Some(MqttVersion::V311) } else { version }
}
