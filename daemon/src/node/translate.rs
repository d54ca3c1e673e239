//! From one room's types to another's: configuration into what workers and sessions want, counters into messages.
//!
//! Owns: only these translations. Does not know: anything that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{Class, Name};
use vedette_ingest::Descriptions;
use vedette_models::{DetectorOptions, Provider, Served, TensorRtOptions};

use crate::config::{self, Config};
use crate::counters::CameraCounters;
use crate::evidence::EvidenceDeps;
use crate::infer::{LaneStats, SessionStats};
use crate::node::Host;
use crate::outbox::{Limits, Outbox};
use crate::signing::Signer;
use crate::sinks::embedded::EmbeddedConfig;
use crate::sinks::mqtt::Expiry;
use crate::sinks::webhook::Hook;
use crate::sinks::{self, Address, MqttConfig, SinkConfig, SinkError, WebhookConfig};
use crate::wire::{
    self, CameraStats, Dialect, Interest, ModelStamp, ModelStats, ProviderShare, ShareStats, Stamp,
};

/// In the place of the embedded broker's address where that says nothing.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// TensorRT's engines, within the state folder; that folder's only content.
const ENGINES: &str = "tensorrt";

/// How the detector is to run: only classes that some rule counts are looked for. What takes minutes is waited for.
pub(super) fn detector_options(config: &Config, host: &Host, labels: &[Class]) -> DetectorOptions {
    let inference = &config.inference;
    let wanted = wanted_classes(config);
    let classes: Vec<_> = labels.iter().filter(|label| wanted.contains(label.as_str())).cloned().collect();
    DetectorOptions {
        providers: inference.providers.iter().filter_map(|p| p.parse::<Provider>().ok()).collect(),
        threads: inference.threads,
        strict: inference.strict,
        tensorrt: TensorRtOptions {
            fp16: inference.tensorrt.fp16,
            int8: inference.tensorrt.int8,
            workspace_mib: inference.tensorrt.workspace_mib,
            cache: inference.tensorrt.cache.then(|| host.state.join(ENGINES)),
            background: false,
        },
        // Without a rule everything is shown to whoever looks.
        classes: (!classes.is_empty()).then_some(classes),
        ..DetectorOptions::default()
    }
}

/// What evidence needs of the node.
pub(super) fn evidence_deps(
    host: &Host,
    outbox: &Arc<dyn Outbox>,
    descriptions: &Arc<Descriptions>,
) -> EvidenceDeps {
    EvidenceDeps {
        state: host.state.clone(),
        clock: Arc::clone(&host.clock),
        outbox: Arc::clone(outbox),
        descriptions: Arc::clone(descriptions),
    }
}

/// What the rules of all cameras count, named or by default.
fn wanted_classes(config: &Config) -> BTreeSet<String> {
    let rules = config.cameras.values().flat_map(|camera| camera.rules.values());
    rules
        .flat_map(|rule| match &rule.common.classes {
            Some(named) => named.iter().map(|c| c.as_str().to_owned()).collect::<Vec<_>>(),
            None => rule.config.default_classes().iter().map(|&c| c.to_owned()).collect(),
        })
        .collect()
}

/// Which provider ran which share of the model, for the status topic.
pub(super) fn provider_shares(model: &str, served: &Served) -> Vec<ProviderShare> {
    let shares = served.report.shares.iter();
    shares
        .map(|s| ProviderShare {
            model: model.to_owned(),
            provider: s.provider.clone(),
            share: s.mac_share,
            time_share: s.time_share,
        })
        .collect()
}

/// The bounds of the outbox, whose pages have 4 KiB.
pub(super) fn limits(config: &Config) -> Limits {
    let config::Outbox { max_events, max_mib } = config.outbox;
    Limits { events: max_events, pages: max_mib.saturating_mul(256) }
}

/// Every sink that the configuration wants, or why there cannot be one. `embedded` is where the broker in this process
/// is.
pub(super) fn sink_configs(
    config: &Config,
    embedded: Option<SocketAddr>,
) -> Vec<Result<Box<dyn SinkConfig>, SinkError>> {
    fn boxed(config: impl SinkConfig + 'static) -> Box<dyn SinkConfig> {
        Box::new(config)
    }
    let brokers = config.brokers.values().flat_map(|broker| match mqtt_configs(broker, embedded) {
        Ok(connections) => connections.into_iter().map(|c| Ok(boxed(c))).collect(),
        Err(error) => vec![Err(error)],
    });
    let webhooks = config.webhooks.values().map(|webhook| webhook_config(webhook).map(boxed));
    brokers.chain(webhooks).collect()
}

fn webhook_config(webhook: &config::Webhook) -> Result<WebhookConfig, SinkError> {
    let config::Webhook { id, url, token, ca, replay, filter } = webhook;
    Ok(WebhookConfig {
        id: id.clone(),
        hook: Hook::parse(url)?,
        token: token.clone(),
        ca: ca.clone(),
        replay: *replay,
        interest: filter.clone(),
    })
}

/// The broker in this process, where the configuration wants one; `port` where it names no address.
pub(super) fn embedded_config(config: &Config, port: u16) -> Option<EmbeddedConfig> {
    let broker = config.brokers.values().find(|broker| broker.url == config::EMBEDDED)?;
    let listen = broker.listen.unwrap_or_else(|| EmbeddedConfig::loopback(port).listen);
    let login = broker.user.clone().zip(broker.password.clone());
    Some(EmbeddedConfig { listen, login })
}

/// A broker as its workers want it: one for the dialects that can share a connection, and one for each that cannot.
/// `embedded` is where the broker in this process is.
fn mqtt_configs(broker: &config::Broker, embedded: Option<SocketAddr>) -> Result<Vec<MqttConfig>, SinkError> {
    let address = match embedded {
        Some(at) if broker.url == config::EMBEDDED => Address::embedded(at),
        _ => Address::parse(&broker.url)?,
    };
    let dialects = sinks::mqtt::dialects(&broker.id, &broker.dialects, &broker.settings)?;
    let (apart, together): (Vec<_>, Vec<_>) = dialects.into_iter().partition(|d| d.own_connection());
    let connection = |id: Name, client_id: String, dialects| MqttConfig {
        address: address.clone(),
        version: broker.version,
        prefix: broker.prefix.clone(),
        dialects,
        user: broker.user.clone(),
        password: broker.password.clone(),
        ca: broker.ca.clone(),
        client_certificate: broker.client_certificate.clone(),
        client_key: broker.client_key.clone(),
        client_id,
        keep_alive: broker.keep_alive,
        acknowledged: broker.acknowledged,
        replay_per_second: broker.replay_per_second,
        replay: broker.replay,
        expiry: Expiry {
            every: broker.expiry.map(|span| span.0),
            by_kind: broker.expiry_by_kind.iter().map(|(kind, span)| (kind.clone(), span.0)).collect(),
        },
        // One connection of a broker listens: two would obey twice.
        commands: if id == broker.id { broker.commands.clone() } else { Vec::new() },
        interest: broker.filter.clone(),
        id,
    };
    let mut configs = Vec::new();
    if !together.is_empty() {
        configs.push(connection(broker.id.clone(), broker.client_id.clone(), together));
    }
    for dialect in apart {
        let id = sink_name(broker, dialect.name());
        configs.push(connection(id, format!("{}-{}", broker.client_id, dialect.name()), vec![dialect]));
    }
    Ok(configs)
}

/// The name of the connection that a dialect of a broker has for itself.
fn sink_name(broker: &config::Broker, dialect: &str) -> Name {
    Name::new(&format!("{}-{dialect}", broker.id)).unwrap_or_else(|_| broker.id.clone())
}

/// All sinks, by name: what the outbox keeps events for.
pub(super) fn sink_names(config: &Config) -> Vec<Name> {
    // What cannot be built is refused where it is built.
    sink_configs(config, Some(ANYWHERE)).into_iter().flatten().map(|sink| sink.id().clone()).collect()
}

/// Which events each sink gets.
fn interests(config: &Config) -> BTreeMap<Name, Interest> {
    let all = sink_configs(config, Some(ANYWHERE)).into_iter().flatten();
    all.map(|sink| (sink.id().clone(), sink.interest())).collect()
}

/// How often some broker wants the scene of each camera.
pub(super) fn scenes_every(config: &Config) -> Option<Duration> {
    let wants =
        |b: &&config::Broker| b.settings.onvif.metadata && b.dialects.iter().any(|d| d == wire::onvif::NAME);
    config.brokers.values().filter(wants).map(|broker| broker.settings.onvif.metadata_every.0).min()
}

/// Every dialect that some sink takes, each key once: what events are frozen in.
fn spoken(config: &Config) -> Vec<Arc<dyn Dialect>> {
    let mut all: Vec<Arc<dyn Dialect>> = Vec::new();
    // As above.
    for dialect in sink_configs(config, Some(ANYWHERE)).into_iter().flatten().flat_map(|sink| sink.dialects())
    {
        if all.iter().all(|known| known.key() != dialect.key()) {
            all.push(dialect);
        }
    }
    all
}

pub(super) fn stats_of(counters: &CameraCounters) -> CameraStats {
    let ((infer, delay), clock) = (counters.means(), counters.clock());
    let [quiet_s, watch_s, busy_s] = counters.state_seconds();
    CameraStats {
        damaged: counters.damaged.get(),
        skipped: counters.skipped.get(),
        transitions: counters.transitions.get(),
        quiet_s,
        watch_s,
        busy_s,
        received: counters.received.get(),
        received_bytes: counters.received_bytes.get(),
        decoded: counters.decoded.get(),
        analysed: counters.analysed.get(),
        dropped: [
            &counters.dropped_receiving,
            &counters.dropped_decoded,
            &counters.dropped_waiting,
            &counters.dropped_busy,
            &counters.dropped_failed,
        ]
        .iter()
        .map(|c| c.get())
        .sum(),
        reconnects: counters.reconnects.get(),
        events: counters.events.get(),
        events_lost: counters.events_lost.get(),
        evidence: counters.evidence.get(),
        evidence_lost: counters.evidence_lost.get(),
        infer_ms: infer * 1e3,
        delay_ms: delay * 1e3,
        clock_offset_ms: clock.offset.map(|seconds| seconds * 1e3),
        clock_drift_ppm: clock.drift_ppm,
        clock_steps: clock.steps,
    }
}

pub(super) fn model_stats(session: SessionStats) -> (String, ModelStats) {
    let share = |of: LaneStats| ShareStats {
        served: of.served,
        replaced: of.replaced,
        expired: of.expired,
        refused: of.refused,
        withdrawn: of.withdrawn,
        waiting: of.waiting,
        age_ms: of.age_mean * 1e3,
        age_max_ms: of.age_max * 1e3,
    };
    let cameras = session.cameras.into_iter().map(|(camera, of)| (camera, share(of))).collect();
    (session.model, ModelStats { role: session.role, busy: session.busy, cameras })
}

/// What the daemon adds to every event.
pub(super) fn stamp(config: &Config, model: &str, served: &Served, signer: Option<&Arc<Signer>>) -> Stamp {
    let provider = served.report.provider().to_owned();
    let model = ModelStamp { name: model.to_owned(), sha256: served.sha256.clone(), provider };
    Stamp {
        node: config.node.id.clone(),
        epoch: uuid::Uuid::nil(),
        config: config.hash.clone(),
        model,
        dialects: spoken(config),
        interests: interests(config),
        signer: signer.cloned(),
    }
}
