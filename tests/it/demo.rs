//! What a newcomer sees first: the demo, with its real camera, login, broker and subscriber.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use vedette_tests::binary::{Vedette, beside_this};
use vedette_tests::clips::{ClipMakerError, Kind, demo_clip, footage_in};
use vedette_tests::{schemas, skipped};

use crate::cli::folder;

#[test]
fn the_demo_shows_incidents_of_both_kinds_in_valid_messages() {
    let folder = folder();
    if let Err(error @ ClipMakerError::NoFootage) = footage_in(folder.path()) {
        return skipped(error);
    }
    assert!(beside_this("testcam").is_ok());
    let clip = demo_clip().unwrap_or_else(|e| panic!("{:?}: {e}", Kind::Demo));
    // The first intrusion of the clip begins after 18 s.
    let run = Vedette::new(folder.path(), ["demo", "--jsonl", "--seconds", "26"]);
    let ran = run.env("VEDETTE_DEMO_CLIP", clip).start().end(Duration::from_secs(90));
    ran.expect(0, &["camera campus"]);
    let (mut keys, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for line in ran.out.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let topic = message["topic"].as_str().unwrap_or_default();
        let payload = serde_json::to_vec(&message["payload"]).unwrap_or_default();
        schemas::validate(topic, &payload).unwrap_or_else(|e| panic!("{e}: {line}"));
        if topic.ends_with("/event") {
            let event = &message["payload"];
            let key = ["node", "epoch", "seq"].map(|k| event[k].to_string()).join(" ");
            assert!(keys.insert(key), "twice: {line}");
            kinds.insert(event["kind"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(kinds, BTreeSet::from(["intrusion".to_owned(), "line_crossing".to_owned()]));
}
