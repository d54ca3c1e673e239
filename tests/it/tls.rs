//! Whom the daemon does not talk to: each refusal by TLS, at a broker and at a webhook, with the one line that it logs.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::path::PathBuf;
use std::time::Duration;

use vedette::sinks::{Address, MqttConfig};
use vedette_core::{Clock, Shutdown, SystemClock};
use vedette_tests::certificates::{Authority, FUTURE, Identity, NOW, PAST, TlsServer};
use vedette_tests::mosquitto::{Mosquitto, Options};

use crate::mqtt::{Rig, STOP};
use crate::webhook;

const OLD: [&str; 2] = ["-cipher", "DEFAULT@SECLEVEL=0"];

/// What `sink` logs at level ERROR or WARN until it has tried at least twice: one line.
fn the_line(sink: &str) -> String {
    let clock = SystemClock::new();
    let about = format!("{sink}: ");
    loop {
        let log = webhook::LOG.0.lock().unwrap().clone();
        let mine: Vec<_> = log.lines().filter(|line| line.contains(&about)).collect();
        if mine.iter().any(|line| line.starts_with("DEBUG") && line.contains("still: ")) {
            let said: Vec<_> =
                mine.iter().filter(|l| l.starts_with("ERROR") || l.starts_with("WARN")).collect();
            assert_eq!(said.len(), 1, "{said:#?}");
            return (*said[0]).to_owned();
        }
        assert!(clock.now().0 < Duration::from_secs(60), "waited 60 s for a second try: {mine:#?}");
        clock.pause(Duration::from_millis(20), &Shutdown::new());
    }
}

/// A broker that is refused: what is logged; nothing has reached it, the event is kept.
fn refused(port: u16, change: impl FnOnce(&mut MqttConfig)) -> String {
    webhook::listen();
    webhook::LOG.0.lock().unwrap().clear();
    let rig = Rig::new();
    let mut config = rig.config(0);
    config.address = Address::parse(&format!("mqtts://localhost:{port}")).unwrap();
    change(&mut config);
    rig.append("gate");
    let sink = rig.sink(config);
    let line = the_line("broker b");
    let status = sink.status();
    assert!(!status.connected && status.acked == 0 && rig.depth() == 1, "{status:?}");
    assert!(line.contains(status.last_error.as_deref().unwrap()), "{status:?}: {line}");
    assert!(!sink.stop(Duration::ZERO), "an event is left");
    line
}

fn broker(identity: Identity, client_ca: Option<PathBuf>) -> Mosquitto {
    Mosquitto::start(Options { tls: true, identity: Some(identity), client_ca, ..Options::default() })
}

/// … a Mosquitto, which has seen no session.
fn refuses(broker: &Mosquitto, words: &[&str], change: impl FnOnce(&mut MqttConfig)) {
    let line = refused(broker.tls_port(), change);
    for words in words {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(line.starts_with("ERROR"), "{line}");
    assert!(!broker.log().contains("as vedette-box"), "{}", broker.log());
}

#[test]
fn a_broker_with_a_certificate_that_is_not_good_is_refused() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let good = broker(ours.sign("DNS:localhost", NOW), None);
    refuses(&good, &["is not signed by a CA in", "as `ca`"], |c| c.ca = Some(other.ca()));
    let trusting = |c: &mut MqttConfig| c.ca = Some(ours.ca());
    let expired = broker(ours.sign("DNS:localhost", PAST), None);
    refuses(&expired, &["the certificate of localhost:", "expired on 2026-01-02: ", "renew it"], trusting);
    let early = broker(ours.sign("DNS:localhost", FUTURE), None);
    refuses(&early, &["is not valid before 2098-01-02: set this machine's clock"], trusting);
    let elsewhere = broker(ours.sign("DNS:broker.plant7", NOW), None);
    refuses(&elsewhere, &["is for broker.plant7, not for localhost: correct the host"], trusting);
}

#[test]
fn a_broker_that_wants_a_client_certificate_gets_the_right_one_or_says_so() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let broker = broker(ours.sign("DNS:localhost", NOW), Some(ours.ca()));
    refuses(&broker, &["demands a client certificate: give `client_certificate`"], |c| {
        c.ca = Some(ours.ca());
    });
    let show = |c: &mut MqttConfig, who: Identity| {
        c.ca = Some(ours.ca());
        (c.client_certificate, c.client_key) = (Some(who.certificate), Some(who.key));
    };
    let stranger = other.sign("DNS:box", NOW);
    refuses(&broker, &["refuses the daemon's certificate", "`client_certificate`"], |c| show(c, stranger));
    let late = ours.sign("DNS:box", PAST);
    refuses(&broker, &["refuses the daemon's certificate", "expired"], |c| show(c, late));

    let rig = Rig::new();
    rig.append("gate");
    let mut config = rig.config(0);
    config.address = Address::parse(&format!("mqtts://localhost:{}", broker.tls_port())).unwrap();
    show(&mut config, ours.sign("DNS:box", NOW));
    let sink = rig.sink(config);
    rig.until(&sink, "delivery", |s| s.acked == 1);
    assert!(sink.stop(STOP));
}

#[test]
fn a_broker_with_old_tls_or_none_is_refused() {
    let ours = Authority::new("ours");
    let who = ours.sign("DNS:localhost", NOW);
    for old in ["-tls1_1", "-tls1"] {
        let server = TlsServer::start(&who, &[old, OLD[0], OLD[1]]);
        assert!(server.accepts(&ours.ca(), &[old, OLD[0], OLD[1]]), "others talk {old} to it");
        let before = server.heard();
        let line = refused(server.port(), |c| c.ca = Some(ours.ca()));
        assert!(line.contains("offers no TLS 1.2 or newer") && line.contains("enable TLS 1.2"), "{line}");
        assert!(!server.heard()[before.len()..].contains("vedette-box"), "{}", server.heard());
    }
    let plain = Mosquitto::start(Options::default());
    let line = refused(plain.port(), |c| c.ca = Some(ours.ca()));
    assert!(line.contains("check that it speaks TLS, and the port of its URL"), "{line}");
    assert!(!plain.log().contains("as vedette-box"), "{}", plain.log());
}

/// A webhook that is refused: what is logged; nothing was posted, the event is kept.
fn hook_refused(server: &TlsServer, ca: PathBuf, words: &str) {
    let rig = webhook::Rig::new();
    webhook::LOG.0.lock().unwrap().clear();
    rig.append("gate");
    let sink = rig.sink(&format!("https://localhost:{}/", server.port()), ca);
    let line = the_line("webhook office");
    let status = sink.status();
    assert!(!status.connected && status.acked == 0 && status.queued == 1, "{status:?}");
    assert!(line.starts_with("ERROR") && line.contains(words), "{words}: {line}");
    assert!(!server.heard().contains("POST"), "{}", server.heard());
    assert!(!sink.stop(Duration::ZERO), "an event is left");
}

#[test]
fn a_webhook_that_is_not_to_be_trusted_gets_nothing() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let good = ours.sign("DNS:localhost", NOW);
    let server = TlsServer::start(&good, &[]);
    hook_refused(&server, other.ca(), "is not signed by a CA in");
    let identity = ours.sign("DNS:hooks.plant7", NOW);
    hook_refused(&TlsServer::start(&identity, &[]), ours.ca(), "is for hooks.plant7, not for localhost");
    let strict = other.ca().display().to_string();
    let strict = TlsServer::start(&good, &["-Verify", "1", "-verify_return_error", "-CAfile", &strict]);
    hook_refused(&strict, ours.ca(), "demands a client certificate");
    let old = TlsServer::start(&good, &["-tls1_1", OLD[0], OLD[1]]);
    assert!(old.accepts(&ours.ca(), &["-tls1_1", OLD[0], OLD[1]]));
    hook_refused(&old, ours.ca(), "offers no TLS 1.2 or newer");
    for (when, words) in [(PAST, "expired on 2026-01-02"), (FUTURE, "is not valid before 2098-01-02")] {
        hook_refused(&TlsServer::start(&ours.sign("DNS:localhost", when), &[]), ours.ca(), words);
    }
}
