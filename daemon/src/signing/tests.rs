//! Signatures against RFC 8032's key, keys on disk, and streams of messages.

use std::os::unix::fs::symlink;

use super::audit::{Audit, Kind};
use super::*;

/// RFC 8032, 7.1, test 1.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

fn signer() -> Signer {
    let seed = data_encoding::HEXLOWER.decode(SEED.as_bytes()).unwrap();
    Signer(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap())
}

fn message(seq: u64) -> Vec<u8> {
    signer().sign(format!(r#"{{"v":1,"epoch":"e","seq":{seq},"node":"box"}}"#).into_bytes())
}

fn kind(audit: &mut Audit, line: &[u8]) -> Kind {
    audit.take(line).unwrap().kind
}

#[test]
fn a_signature_is_exactly_the_documented_bytes() {
    assert_eq!(signer().public().to_string(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    let text = String::from_utf8(message(7)).unwrap();
    assert_eq!(text, include_str!("../../../tests/golden/signed.json").trim_end());
    assert_eq!(signer().public().verify(text.as_bytes()), Verdict::Valid);
    assert_eq!(message(7), message(7), "the same payload gives the same bytes");
}

#[test]
fn every_changed_byte_is_found() {
    let (key, payload) = (signer().public(), message(7));
    for at in 0..payload.len() {
        for change in [1, 0x20, 0x80] {
            let mut changed = payload.clone();
            changed[at] ^= change;
            assert_ne!(key.verify(&changed), Verdict::Valid, "byte {at} changed by {change:#x}");
        }
        assert_ne!(key.verify(&payload[..at]), Verdict::Valid, "cut at {at}");
    }
    assert_ne!(key.verify(&[payload.as_slice(), b" "].concat()), Verdict::Valid);
    let other = Signer(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
    assert_eq!(other.public().verify(&payload), Verdict::Invalid);
}

#[test]
fn reordered_and_rewritten_messages_are_invalid() {
    let text = String::from_utf8(message(7)).unwrap();
    let member = &text[text.find(r#""signature""#).unwrap()..text.len() - 1];
    let cases = [
        text.replace(r#""v":1,"epoch":"e""#, r#""epoch":"e","v":1"#),
        format!(r#"{{{member},"v":1,"epoch":"e","seq":7,"node":"box"}}"#),
        text.replace(r#""seq":7"#, r#""seq": 7"#),
        text.replace(r#""seq":7"#, r#""seq":8"#),
        text.replace(r#"{"v""#, r#"{"why":"","v""#),
        format!(r#"{},{member}}}"#, &text[..text.len() - 1]),
    ];
    for changed in cases {
        assert_ne!(changed, text);
        let mut audit = Audit::new(signer().public());
        assert_eq!(kind(&mut audit, changed.as_bytes()), Kind::Invalid, "{changed}");
        assert!(audit.report().epochs.is_empty(), "it has no say in what numbers there are");
    }
}

#[test]
fn what_is_no_object_is_not_touched() {
    for payload in ["", "{}", "[1]", "null"] {
        assert_eq!(signer().sign(payload.into()), payload.as_bytes());
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    assert!(Signer::read(&state).unwrap().is_none());
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("signing.key.new"), "cut off").unwrap();
    let made = Signer::open(&state).unwrap();
    let mode = std::fs::metadata(state.join(FILE)).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, state.join("signing.key.new").exists()), (0o600, false));
    let again = Signer::open(&state).unwrap();
    assert_eq!(again.public(), made.public());
    assert_eq!(again.public().verify(&made.sign(br#"{"v":1}"#.to_vec())), Verdict::Valid);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(Signer::open(other.path()).unwrap().public(), made.public());
    let told = format!("{made:?}");
    assert_eq!(told, format!("Signer({})", made.public()), "nothing of the private key");
}

#[test]
fn a_key_of_openssl_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    // PKCS#8 version 1: what `openssl genpkey -algorithm ed25519` writes.
    let mut der = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    der.extend(data_encoding::HEXLOWER.decode(SEED.as_bytes()).unwrap());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(pem(&der).as_bytes()).unwrap();
    assert_eq!(Signer::open(folder.path()).unwrap().public(), signer().public());
}

#[test]
fn keys_that_cannot_be_used_are_refused_and_stay() {
    struct Case(&'static str, Vec<u8>, u32, &'static str);
    let good = {
        let folder = tempfile::tempdir().unwrap();
        Signer::open(folder.path()).unwrap();
        std::fs::read(folder.path().join(FILE)).unwrap()
    };
    let cases = [
        Case("readable", good.clone(), 0o644, "chmod 0600"),
        Case("of a group", good.clone(), 0o640, "(mode 0640)"),
        Case("empty", Vec::new(), 0o600, "no PEM"),
        Case("cut", good[..good.len() / 2].to_vec(), 0o600, "no PEM"),
        Case("not text", vec![0xff; 64], 0o600, "no PEM"),
        Case("short", pem(&[1; 31]).into_bytes(), 0o600, "no Ed25519 key"),
        Case(
            "no base64",
            b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----".to_vec(),
            0o600,
            "no PEM",
        ),
        Case("endless", vec![b'-'; 1 << 16], 0o600, "no PEM"),
    ];
    for Case(what, content, mode, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, &content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Signer::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("remove it"), "{what}: {error}");
        assert!(error.contains(path.to_str().unwrap()), "{what}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{what}: somebody may need it");
    }
    let folder = tempfile::tempdir().unwrap();
    symlink("/proc/self/mem", folder.path().join(FILE)).unwrap();
    assert!(Signer::open(folder.path()).is_err());
}

#[test]
fn a_stream_is_told_line_by_line_and_by_its_numbers() {
    let mut audit = Audit::new(signer().public());
    let verbose = |topic: &str, payload: &[u8]| [topic.as_bytes(), b" ", payload, b"\n"].concat();
    for seq in [3, 4, 8, 4, 10] {
        assert_eq!(kind(&mut audit, &verbose("vedette/box/gate/event", &message(seq))), Kind::Valid);
    }
    let unsigned = br#"{"v":1,"epoch":"e","seq":5,"node":"box"}"#;
    let status = br#"{"v":1,"state":"online"}"#;
    assert_eq!(kind(&mut audit, unsigned), Kind::Unsigned);
    assert_eq!(kind(&mut audit, &verbose("vedette/box/gate/evidence", status)), Kind::Unsigned);
    assert_eq!(kind(&mut audit, &verbose("vedette/box/status", status)), Kind::Other);
    assert_eq!(kind(&mut audit, b"vedette/box/gate/state/gone (null)"), Kind::Other, "it is cleared");
    assert_eq!(kind(&mut audit, &signer().sign(status.to_vec())), Kind::Invalid, "no number");
    assert_eq!(audit.take(b"\n"), None);
    for broken in [b"".as_slice(), b"vedette/box/gate/event (null)", b"\xff\xfe", b"{\"v\":1"] {
        let expected = (!broken.is_empty()).then_some(Kind::Invalid);
        assert_eq!(audit.take(broken).map(|line| line.kind), expected);
    }
    let double = signer().sign(br#"{"v":2,"epoch":"e","seq":4,"node":"box"}"#.to_vec());
    let line = audit.take(&double).unwrap();
    assert_eq!((line.line, line.kind), (16, Kind::Invalid), "{line:?}");
    let report = audit.report();
    assert_eq!((report.valid, report.invalid, report.unsigned, report.other), (5, 5, 2, 2));
    assert!(!report.is_good());
    let [numbers] = report.epochs.as_slice() else { panic!("{report:?}") };
    assert_eq!((numbers.first, numbers.last, numbers.messages, numbers.repeats), (3, 10, 4, 1));
    assert_eq!(numbers.gaps, [(5, 7), (9, 9)]);
}

#[test]
fn nothing_at_all_is_not_good() {
    let audit = Audit::new(signer().public());
    assert!(!audit.report().is_good());
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_answered(bytes: Vec<u8>) {
        let mut audit = Audit::new(signer().public());
        let _ = audit.take(&bytes);
        proptest::prop_assert_ne!(signer().public().verify(&bytes), Verdict::Valid);
    }

    #[test]
    fn what_is_signed_is_valid(text: String) {
        let payload = serde_json::to_vec(&serde_json::json!({ "why": text })).unwrap();
        proptest::prop_assert_eq!(signer().public().verify(&signer().sign(payload)), Verdict::Valid);
    }
}
