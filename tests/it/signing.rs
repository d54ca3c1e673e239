//! Signed messages: from the outbox over a real broker to `vedette verify`, and what that answers to everything else.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use uuid::Uuid;
use vedette::signing::{FILE, Signer};
use vedette_tests::mosquitto::{Mosquitto, Options};

use crate::cli::{folder, vedette, write};
use crate::mqtt::{Rig, STOP};

/// What `mosquitto_sub -v` printed of three events and word of evidence, and the rig that sent them.
fn printed(rig: &Rig) -> Vec<String> {
    let broker = Mosquitto::start(Options::default());
    let sink = rig.sink(rig.config(broker.port()));
    rig.until(&sink, "the connection", |s| s.connected);
    let mut subscriber = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-t", "vedette/#", "-v", "-q", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The retained status: from here on nothing is missed.
    let mut all = vec![lines.next().unwrap()];
    rig.append("gate");
    rig.append_evidence("gate", Uuid::new_v4());
    rig.append("yard");
    rig.append("gate");
    all.extend(lines.by_ref().take(4));
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();
    assert!(sink.stop(STOP));
    all
}

#[test]
fn what_mosquitto_sub_printed_is_verified() {
    let rig = Rig::signing();
    let lines = printed(&rig);
    let key = rig.key().unwrap();
    let here = folder();
    write(here.path(), "all.txt", lines.join("\n") + "\n");
    let all = vedette(&here, &format!("verify all.txt --key {key}")).run();
    all.expect(
        0,
        &["4 valid, 0 invalid, 0 unsigned", "1 to 4, 4 messages, 0 repeated, no gap", "never signed"],
    );
    write(here.path(), "key.pub", format!("{key}\n"));
    vedette(&here, "verify all.txt --key key.pub").run().expect(0, &["4 valid"]);
    let own = format!("verify all.txt --state {}", rig.state.path().display());
    vedette(&here, &own).run().expect(0, &["4 valid"]);

    // Without topics, one taken away, one twice, one changed by a byte, one without its signature.
    let payloads: Vec<_> = lines[1..].iter().map(|l| l[l.find('{').unwrap()..].to_owned()).collect();
    let payload = |at: usize| payloads[at].clone();
    let changed = payload(2).replacen("it was a test", "it was a jest", 1);
    let naked = payload(3)[..payload(3).find(",\"signature\"").unwrap()].to_owned() + "}";
    write(here.path(), "some.txt", [payload(0), payload(0), payload(3), changed, naked].join("\n"));
    let some = vedette(&here, &format!("verify some.txt --key {key}")).run();
    some.expect(1, &["line 4: invalid: the signature does not match", "line 5: unsigned", "gaps: 2-3"]);
    some.expect(1, &["3 valid, 1 invalid, 1 unsigned", "1 to 4, 2 messages, 1 repeated"]);
    let json = vedette(&here, &format!("verify some.txt --key {key} --json")).run().expect(1, &[]).json();
    assert_eq!((&json["valid"], &json["epochs"][0]["gaps"]), (&3.into(), &serde_json::json!([[2, 3]])));
    assert_eq!((&json["lines"][0]["line"], &json["lines"][0]["kind"]), (&4.into(), &"invalid".into()));
    let other = Signer::open(here.path()).unwrap().public();
    let other = vedette(&here, &format!("verify all.txt --key {other}")).run();
    other.expect(1, &["0 valid, 4 invalid"]);
}

#[test]
fn without_a_key_nothing_is_signed_and_verify_says_so() {
    let rig = Rig::new();
    let lines = printed(&rig);
    assert!(lines.iter().all(|line| !line.contains("signature")), "{lines:?}");
    let here = folder();
    write(here.path(), "all.txt", lines.join("\n"));
    let none = vedette(&here, "verify all.txt --state .").run();
    none.expect(2, &["no signing.key in .", "--key", "--state"]);
    let key = Signer::open(here.path()).unwrap().public();
    let unsigned = vedette(&here, "verify all.txt --state .").run();
    unsigned.expect(1, &["line 2: unsigned: no signature", "0 valid, 0 invalid, 4 unsigned"]);
    vedette(&here, &format!("verify gone.txt --key {key}")).run().expect(2, &["gone.txt cannot be read"]);
    vedette(&here, "verify all.txt --key short").run().expect(2, &["32 bytes in base64", "no file"]);
    vedette(&here, "verify all.txt --key all.txt").run().expect(2, &["--key all.txt", "32 bytes in base64"]);
    write(here.path(), "empty.txt", "");
    vedette(&here, &format!("verify empty.txt --key {key}")).run().expect(1, &["0 valid"]);

    std::fs::set_permissions(here.path().join(FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = vedette(&here, "verify all.txt --state .").run();
    open.expect(2, &["signing key ./signing.key", "mode 0644", "chmod 0600"]);
    write(here.path(), FILE, "nothing");
    std::fs::set_permissions(here.path().join(FILE), std::fs::Permissions::from_mode(0o600)).unwrap();
    let damaged = vedette(&here, "verify all.txt --state .").run();
    damaged.expect(2, &["damaged", "restore it from a backup"]);
}
