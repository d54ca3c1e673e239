//! Cameras that are watched over TLS: which certificates are good, and what is said of those that are not. The camera is
//! gst-rtsp-server, certificates and fingerprints are OpenSSL's.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{CameraId, SystemClock};
use vedette_ingest::{
    Descriptions, Fault, FaultClass, Item, Receiver, SourceConfig, Transport, Trust, probe::probe,
};
use vedette_tests::certificates::{Authority, FUTURE, Identity, NOW, PAST};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::testcam::{Options, TestCam};

use crate::cli::{folder, root, vedette};

/// Everything here happens within this, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

fn camera(identity: Option<&Identity>) -> TestCam {
    let tls = identity.map(Identity::both);
    TestCam::start(Options { tls, ..Options::new(small_clip(Kind::H264).unwrap()) }).unwrap()
}

fn descriptions() -> Descriptions {
    vedette_ingest::init().unwrap();
    Descriptions::load(&[root().join("pipelines/descriptions")]).unwrap()
}

fn config(url: &str, trust: Trust) -> SourceConfig {
    SourceConfig {
        camera: CameraId::new("gate").unwrap(),
        url: url.to_owned(),
        user: None,
        password: None,
        transport: Transport::Auto,
        route: Arc::default(),
        trust,
        pipeline: None,
    }
}

/// Whether a packet comes, or why not.
fn watch(camera: &TestCam, trust: &Trust) -> Result<(), Fault> {
    let config = config(camera.url(), trust.clone());
    let receiver = Receiver::open(&config, &descriptions(), Arc::new(SystemClock::new()))?;
    match receiver.items().recv_timeout(DEADLINE).unwrap() {
        Item::Packet(_) => Ok(()),
        Item::Fault(fault) => Err(fault),
    }
}

fn ca(authority: &Authority) -> Trust {
    Trust::Ca(authority.ca())
}

fn pin(identity: &Identity) -> Trust {
    Trust::Pin(format!("sha256:{}", identity.fingerprint()).parse().unwrap())
}

#[test]
fn a_certificate_is_good_by_its_authority_or_its_pin() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let good = ours.sign("IP:127.0.0.1", NOW);
    let expired = ours.sign("IP:127.0.0.1,DNS:old", PAST);
    let early = ours.sign("IP:127.0.0.1,DNS:new", FUTURE);
    let elsewhere = ours.sign("DNS:elsewhere", NOW);
    struct Case<'a>(&'a Identity, Trust, &'a [&'a str]);
    let unknown =
        ["is signed by no CA that this system knows", "give the CA that signed it as `ca`, or", "pin = "];
    let cases = [
        Case(&good, ca(&ours), &[]),
        Case(&good, ca(&other), &["is not signed by a CA in", "ca.pem"]),
        Case(&good, Trust::System, &unknown),
        Case(&expired, ca(&ours), &["has expired", "renew it in the camera"]),
        Case(&early, ca(&ours), &["is not valid yet", "set this machine's clock"]),
        Case(&elsewhere, ca(&ours), &["is not for 127.0.0.1", "write the name"]),
        Case(&good, pin(&good), &[]),
        // What is pinned needs neither a name nor a date.
        Case(&expired, pin(&expired), &[]),
        Case(&elsewhere, pin(&elsewhere), &[]),
        Case(&good, pin(&expired), &["another certificate than the pinned one", "correct `pin`"]),
        Case(&elsewhere, Trust::Insecure, &[]),
    ];
    for Case(identity, trust, words) in cases {
        let camera = camera(Some(identity));
        match watch(&camera, &trust) {
            Ok(()) => assert!(words.is_empty(), "{trust:?} took {identity:?}"),
            Err(fault) => {
                let text = fault.to_string();
                assert!(
                    !words.is_empty() && fault.class == FaultClass::Tls && fault.is_configuration(),
                    "{text}"
                );
                assert!(words.iter().all(|words| text.contains(words)), "{words:?}: {text}");
                let shown = fault.class == FaultClass::Tls && text.contains("sha256:");
                assert!(shown, "{text}");
            }
        }
    }
}

#[test]
fn what_is_no_certificate_is_told_apart() {
    let ours = Authority::new("ours");
    let plain = camera(None);
    let secure = plain.url().replace("rtsp:", "rtsps:");
    let of = |config: &SourceConfig| {
        let receiver = Receiver::open(config, &descriptions(), Arc::new(SystemClock::new()))?;
        match receiver.items().recv_timeout(DEADLINE).unwrap() {
            Item::Packet(packet) => panic!("{packet:?}"),
            Item::Fault(fault) => Err::<(), _>(fault),
        }
    };
    let fault = of(&config(&secure, ca(&ours))).unwrap_err();
    assert!(fault.class == FaultClass::Tls && fault.message.contains("does not speak TLS"), "{fault}");
    plain.command("refuse on").unwrap();
    let fault = of(&config(&secure, ca(&ours))).unwrap_err();
    assert_eq!(fault.class, FaultClass::Refused, "{fault}");
    let absent = Trust::Ca(PathBuf::from("/nonexistent/ca.pem"));
    let fault = of(&config(&secure, absent)).unwrap_err();
    assert!(fault.class == FaultClass::Tls && fault.message.contains("cannot be used"), "{fault}");
}

#[test]
fn probe_prints_what_pin_takes() {
    let ours = Authority::new("ours");
    let identity = ours.sign("DNS:elsewhere", NOW);
    let camera = camera(Some(&identity));
    let expected = format!("sha256:{}", identity.fingerprint().replace(':', "").to_lowercase());
    let seen = probe(
        &config(camera.url(), pin(&identity)),
        &descriptions(),
        Arc::new(SystemClock::new()),
        Duration::from_secs(3),
    )
    .unwrap();
    assert_eq!(seen.certificate.unwrap().to_string(), expected);
    // Whoever has no pin yet finds it in what is said.
    let folder = folder();
    let refused = vedette(&folder, &format!("probe {}", camera.url())).run();
    refused.expect(1, &["tls:", &format!("`--pin {expected}`"), "--ca"]);
    let json = vedette(&folder, &format!("probe {} --pin {expected} --json", camera.url()))
        .run()
        .expect(0, &[])
        .json();
    assert_eq!(
        (json["certificate"].as_str(), json["transport"].as_str()),
        (Some(expected.as_str()), Some("tcp"))
    );
}
