//! `vedette run`: the service.
//!
//! Owns: signals, reload, what systemd is told and when. Does not know: what a node is made of.

use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, select, tick, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vedette_core::EndedBy;

use super::Global;
use crate::config;
use crate::exit::{Exit, Failure, Outcome};
use crate::node::{self, Host, Node};
use crate::service::Service;
use crate::words::count;

/// A stop takes at most so long (systemd allows 20 s).
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How often the counters are published.
const STATS_EVERY: u64 = 60;

/// What ended one life of the node.
enum End {
    Stop,
    Reload(Box<config::Config>),
}

pub(super) fn run(global: &Global) -> Outcome {
    let config = global.load()?;
    let host = global.host()?;
    let signals = signals()?;
    let mut service = Service::from_environment(&*host.clock);
    let mut node = Node::build(config, host.clone())?;
    loop {
        log_start(&node);
        service.ready(&*host.clock, &node.status_line());
        let (ended, end) = watch(global, node, &host, &signals, &mut service);
        match end {
            End::Stop => {
                service.stopping(STOP_WITHIN);
                let clean = ended.stop(STOP_WITHIN);
                log::info!("stopped");
                return if clean {
                    Ok(())
                } else {
                    Err(Failure::new(Exit::Failed, "not everything stopped in time"))
                };
            }
            End::Reload(next) => {
                service.reloading();
                node = rebuild(ended, *next, &host)?;
            }
        }
    }
}

/// The node of another configuration; the one before where that does not start (a file of certificates that is not
/// there, a port that is taken: seen only when it is opened).
fn rebuild(running: Node, next: config::Config, host: &Host) -> Result<Node, Failure> {
    let before = running.config().clone();
    let (kept, _) = running.stop_keeping(EndedBy::Config, STOP_WITHIN);
    let (mut kept, hash) = (Some(kept), next.hash.clone());
    match Node::rebuild(next, host.clone(), &mut kept) {
        Ok(node) => {
            log::info!("reloaded: configuration {hash}");
            Ok(node)
        }
        Err(error) => {
            log::error!("reload refused, the configuration before runs again:\n{error}");
            Ok(Node::rebuild(before, host.clone(), &mut kept)?)
        }
    }
}

fn signals() -> Result<Inbox<i32>, Failure> {
    let refused = |e: std::io::Error| Failure::failed(format!("cannot listen for signals: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(refused)?;
    let (tx, rx) = unbounded();
    let forward = move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked && signal != SIGHUP {
                // The second wish to stop is obeyed at once.
                std::process::exit(i32::from(Exit::Failed as u8));
            }
            asked |= signal != SIGHUP;
            if tx.send(signal).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(refused)?;
    Ok(rx)
}

fn log_start(node: &Node) {
    let config = node.config();
    log::info!(
        "vedette {} on node {}: {}, {}, configuration {}",
        env!("CARGO_PKG_VERSION"),
        config.node.id,
        count(config.cameras.len(), "camera"),
        count(config.brokers.len(), "broker"),
        config.hash
    );
}

/// Looks after a running node until a signal ends its life.
fn watch(
    global: &Global,
    mut node: Node,
    host: &Host,
    signals: &Inbox<i32>,
    service: &mut Service,
) -> (Node, End) {
    let clock = &*host.clock;
    let ticks = tick(Duration::from_secs(1));
    let mut seconds = 0u64;
    loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(SIGHUP) => if let Some(next) = reloaded(global, host) { return (node, End::Reload(next)) },
                _ => return (node, End::Stop),
            },
            recv(ticks) -> _ => {
                seconds += 1;
                node.tick();
                service.status(clock, &node.status_line());
                service.feed(clock, node.progress());
                if seconds.is_multiple_of(STATS_EVERY) {
                    node.publish_stats();
                }
            }
        }
    }
}

/// The configuration as it is now; a bad one changes nothing.
fn reloaded(global: &Global, host: &Host) -> Option<Box<config::Config>> {
    let loaded = global.load().and_then(|config| {
        node::judge(&config, host)?;
        Ok(config)
    });
    match loaded {
        Ok(config) => Some(Box::new(config)),
        Err(failure) => {
            log::error!("reload refused, the running configuration stays:\n{}", failure.message);
            None
        }
    }
}
