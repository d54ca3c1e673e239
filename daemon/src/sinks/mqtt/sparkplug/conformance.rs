//! The specification's numbered assertions on edge nodes (Sparkplug 3.0.0, `tck-id-` and these), with what shows each:
//! tests, or the reason why it does not apply. Those on hosts and brokers, and on templates' insides, are left out.

use std::collections::BTreeSet;

/// Assertions, the tests that show them, a remark.
struct Row(&'static [&'static str], &'static [&'static str], &'static str);

const TABLE: &[Row] = &[
    // 1 Introduction, 2 Principles.
    Row(
        &["intro-group-id-string", "intro-group-id-chars", "topic-structure-namespace-valid-group-id"],
        &["groups_and_hosts_are_one_level_of_a_topic"],
        "",
    ),
    Row(
        &[
            "intro-edge-node-id-string",
            "intro-edge-node-id-chars",
            "intro-device-id-string",
            "intro-device-id-chars",
        ],
        &["births_come_first_and_say_everything"],
        "ids are names: a-z, 0-9 and -",
    ),
    Row(
        &["topic-structure-namespace-valid-edge-node-id", "topic-structure-namespace-valid-device-id"],
        &["births_come_first_and_say_everything"],
        "as above",
    ),
    Row(
        &[
            "intro-edge-node-id-uniqueness",
            "topic-structure-namespace-unique-edge-node-descriptor",
            "payloads-nbirth-edge-node-descriptor",
        ],
        &[],
        "node.id and group are the user's; the default id is the host's name",
    ),
    Row(
        &[
            "topic-structure-namespace-unique-device-id",
            "topic-structure-namespace-duplicate-device-id-across-edge-node",
        ],
        &[],
        "cameras are keys of one table in the configuration",
    ),
    Row(&["principles-rbe-recommended"], &["only_what_changed_is_told"], ""),
    Row(&["principles-birth-certificates-order"], &["births_come_first_and_say_everything"], ""),
    Row(
        &["principles-persistence-clean-session-311"],
        &["a_host_hears_births_events_and_death_over_mqtt_3"],
        "",
    ),
    Row(
        &["principles-persistence-clean-session-50"],
        &["a_host_hears_births_events_and_death_over_mqtt_5"],
        "rumqttc sends no session expiry, which is one of 0",
    ),
    // 4 Topics.
    Row(
        &[
            "topic-structure",
            "topic-structure-namespace-a",
            "topic-structure-namespace-device-id-associated-message-types",
            "topic-structure-namespace-device-id-non-associated-message-types",
        ],
        &["births_come_first_and_say_everything", "a_lost_camera_dies_and_the_node_speaks_for_it"],
        "",
    ),
    Row(
        &[
            "topics-nbirth-topic",
            "topics-nbirth-mqtt",
            "topics-nbirth-seq-num",
            "topics-nbirth-timestamp",
            "topics-nbirth-metrics",
        ],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(
        &["topics-nbirth-metric-reqs", "topics-dbirth-metric-reqs"],
        &[
            "every_metric_of_an_event_is_in_the_birth_with_its_type",
            "a_new_rule_is_born_before_it_is_told_of",
            "a_host_hears_births_events_and_death_over_mqtt_3",
        ],
        "",
    ),
    Row(&["topics-nbirth-templates"], &[], "no templates"),
    Row(
        &["topics-nbirth-bdseq-included", "topics-nbirth-bdseq-matching", "topics-nbirth-bdseq-increment"],
        &[
            "every_connect_has_another_number_in_will_and_birth",
            "numbers_grow_over_restarts_and_wrap",
            "attempts_that_reach_nobody_use_up_no_number",
            "the_broker_says_the_node_is_dead_and_the_next_life_has_another_number",
        ],
        "",
    ),
    Row(&["topics-nbirth-rebirth-metric"], &["births_come_first_and_say_everything"], ""),
    Row(
        &[
            "topics-ndata-topic",
            "topics-ndata-mqtt",
            "topics-ndata-seq-num",
            "topics-ndata-timestamp",
            "topics-ndata-payload",
        ],
        &["only_what_changed_is_told"],
        "",
    ),
    Row(
        &[
            "topics-ddata-topic",
            "topics-ddata-mqtt",
            "topics-ddata-seq-num",
            "topics-ddata-timestamp",
            "topics-ddata-payload",
        ],
        &["only_what_changed_is_told"],
        "",
    ),
    Row(
        &["topics-ndeath-topic", "topics-ndeath-payload", "topics-ndeath-seq"],
        &["a_death_holds_its_number_alone", "every_connect_has_another_number_in_will_and_birth"],
        "",
    ),
    Row(
        &[
            "topics-dbirth-topic",
            "topics-dbirth-mqtt",
            "topics-dbirth-seq",
            "topics-dbirth-timestamp",
            "topics-dbirth-metrics",
        ],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(
        &["topics-ddeath-topic", "topics-ddeath-mqtt", "topics-ddeath-seq-num"],
        &["a_lost_camera_dies_and_the_node_speaks_for_it"],
        "",
    ),
    Row(&["topics-ncmd-topic"], &["a_rebirth_is_answered_and_rubbish_is_not"], ""),
    Row(
        &["topics-dcmd-topic", "message-flow-device-dcmd-subscribe"],
        &[],
        "cameras take no commands: nothing is subscribed",
    ),
    // 5 Operational behaviour.
    Row(&["case-sensitivity-sparkplug-ids"], &[], "names are lower case"),
    Row(&["case-sensitivity-metric-names"], &["metric_names_differ_in_more_than_case"], ""),
    Row(&["message-flow-edge-node-ncmd-subscribe"], &["births_come_first_and_say_everything"], ""),
    Row(
        &[
            "message-flow-edge-node-birth-publish-connect",
            "message-flow-edge-node-birth-publish-will-message",
        ],
        &["the_broker_says_the_node_is_dead_and_the_next_life_has_another_number"],
        "",
    ),
    Row(
        &[
            "message-flow-edge-node-birth-publish-will-message-topic",
            "message-flow-edge-node-birth-publish-will-message-payload",
            "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
            "message-flow-edge-node-birth-publish-will-message-qos",
            "message-flow-edge-node-birth-publish-will-message-will-retained",
        ],
        &[
            "every_connect_has_another_number_in_will_and_birth",
            "the_broker_says_the_node_is_dead_and_the_next_life_has_another_number",
        ],
        "",
    ),
    Row(
        &[
            "message-flow-edge-node-birth-publish-phid-wait",
            "message-flow-edge-node-birth-publish-phid-wait-id",
            "message-flow-edge-node-birth-publish-phid-wait-online",
            "message-flow-edge-node-birth-publish-phid-wait-timestamp",
            "operational-behavior-edge-node-birth-sequence-wait",
        ],
        &["births_wait_for_the_primary_host", "events_wait_for_the_primary_host_and_are_history_then"],
        "",
    ),
    Row(
        &[
            "message-flow-edge-node-birth-publish-phid-offline",
            "operational-behavior-edge-node-termination-host-offline",
            "operational-behavior-edge-node-termination-host-offline-timestamp",
        ],
        &[
            "a_host_that_goes_away_ends_the_session_and_nothing_is_taken_for_delivered",
            "events_wait_for_the_primary_host_and_are_history_then",
        ],
        "",
    ),
    Row(
        &[
            "operational-behavior-edge-node-termination-host-offline-reconnect",
            "operational-behavior-primary-application-state-with-multiple-servers-walk",
        ],
        &["events_wait_for_the_primary_host_and_are_history_then"],
        "a broker entry is one server: the next one is the same",
    ),
    Row(
        &["operational-behavior-primary-application-state-with-multiple-servers-single-server"],
        &[],
        "one connection of a worker at a time; two broker entries are two infrastructures",
    ),
    Row(
        &[
            "message-flow-edge-node-birth-publish-nbirth-topic",
            "message-flow-edge-node-birth-publish-nbirth-payload",
            "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
            "message-flow-edge-node-birth-publish-nbirth-qos",
            "message-flow-edge-node-birth-publish-nbirth-retained",
            "message-flow-edge-node-birth-publish-nbirth-payload-seq",
        ],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(
        &[
            "operational-behavior-edge-node-intentional-disconnect-ndeath",
            "operational-behavior-edge-node-intentional-disconnect-packet",
        ],
        &["a_host_hears_births_events_and_death_over_mqtt_3"],
        "",
    ),
    Row(
        &[
            "message-flow-device-birth-publish-nbirth-wait",
            "message-flow-device-birth-publish-dbirth-topic",
            "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
            "message-flow-device-birth-publish-dbirth-payload",
            "message-flow-device-birth-publish-dbirth-qos",
            "message-flow-device-birth-publish-dbirth-retained",
            "message-flow-device-birth-publish-dbirth-payload-seq",
        ],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(
        &["operational-behavior-device-ddeath"],
        &["a_lost_camera_dies_and_the_node_speaks_for_it", "a_camera_comes_and_goes"],
        "",
    ),
    Row(
        &["operational-behavior-data-publish-nbirth", "operational-behavior-data-publish-dbirth"],
        &[
            "every_metric_of_an_event_is_in_the_birth_with_its_type",
            "a_new_rule_is_born_before_it_is_told_of",
        ],
        "",
    ),
    Row(
        &[
            "operational-behavior-data-publish-nbirth-values",
            "operational-behavior-data-publish-dbirth-values",
        ],
        &[
            "births_come_first_and_say_everything",
            "a_rebirth_repeats_all_births_and_data_goes_on_behind_them",
        ],
        "",
    ),
    Row(
        &[
            "operational-behavior-data-publish-nbirth-change",
            "operational-behavior-data-publish-dbirth-change",
        ],
        &["only_what_changed_is_told"],
        "an event is a whole record: facts that it shares with the one before are told again",
    ),
    Row(
        &["operational-behavior-data-publish-nbirth-order", "operational-behavior-data-publish-dbirth-order"],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(
        &[
            "operational-behavior-data-commands-rebirth-name",
            "operational-behavior-data-commands-rebirth-datatype",
            "operational-behavior-data-commands-rebirth-value",
        ],
        &["births_come_first_and_say_everything"],
        "",
    ),
    Row(&["operational-behavior-data-commands-rebirth-name-aliases"], &[], "no aliases"),
    Row(
        &[
            "operational-behavior-data-commands-rebirth-action-1",
            "operational-behavior-data-commands-rebirth-action-2",
            "operational-behavior-data-commands-rebirth-action-3",
        ],
        &[
            "a_rebirth_repeats_all_births_and_data_goes_on_behind_them",
            "a_rebirth_is_answered_and_rubbish_is_not",
        ],
        "",
    ),
    // 6 Payloads.
    Row(
        &[
            "payloads-timestamp-in-UTC",
            "payloads-metric-timestamp-in-UTC",
            "payloads-name-birth-data-requirement",
        ],
        &["births_come_first_and_say_everything", "what_waited_is_historical_in_order_and_with_its_times"],
        "",
    ),
    Row(
        &[
            "payloads-sequence-num-always-included",
            "payloads-sequence-num-req-nbirth",
            "payloads-sequence-num-incrementing",
        ],
        &[
            "sequence_numbers_go_round",
            "a_full_link_loses_no_number",
            "a_host_hears_births_events_and_death_over_mqtt_3",
        ],
        "",
    ),
    Row(
        &[
            "payloads-name-requirement",
            "payloads-metric-datatype-req",
            "payloads-metric-datatype-value",
            "payloads-metric-datatype-value-type",
        ],
        &["births_come_first_and_say_everything", "an_event_is_exactly_the_bytes_that_tahu_has_read"],
        "",
    ),
    Row(
        &[
            "payloads-alias-uniqueness",
            "payloads-alias-birth-requirement",
            "payloads-alias-data-cmd-requirement",
        ],
        &[],
        "no aliases",
    ),
    Row(
        &["payloads-metric-datatype-not-req"],
        &[],
        "a SHOULD that is not followed: common decoders cannot read data without the type",
    ),
    Row(
        &[
            "payloads-propertyset-keys-array-size",
            "payloads-propertyset-values-array-size",
            "payloads-metric-propertyvalue-type-type",
            "payloads-metric-propertyvalue-type-value",
            "payloads-metric-propertyvalue-type-req",
            "payloads-propertyset-quality-value-type",
            "payloads-propertyset-quality-value-value",
        ],
        &[],
        "no properties",
    ),
    Row(
        &[
            "payloads-dataset-column-size",
            "payloads-dataset-column-num-headers",
            "payloads-dataset-types-def",
            "payloads-dataset-types-num",
            "payloads-dataset-types-type",
            "payloads-dataset-types-value",
            "payloads-dataset-parameter-type-req",
            "payloads-template-dataset-value",
        ],
        &[],
        "no data sets",
    ),
    Row(
        &[
            "payloads-nbirth-timestamp",
            "payloads-nbirth-seq",
            "payloads-nbirth-bdseq",
            "payloads-nbirth-bdseq-repeat",
            "payloads-nbirth-rebirth-req",
            "payloads-nbirth-qos",
            "payloads-nbirth-retain",
        ],
        &["births_come_first_and_say_everything", "every_connect_has_another_number_in_will_and_birth"],
        "",
    ),
    Row(
        &[
            "payloads-dbirth-timestamp",
            "payloads-dbirth-seq",
            "payloads-dbirth-seq-inc",
            "payloads-dbirth-order",
            "payloads-dbirth-qos",
            "payloads-dbirth-retain",
        ],
        &["births_come_first_and_say_everything", "sequence_numbers_go_round"],
        "",
    ),
    Row(
        &[
            "payloads-ndata-timestamp",
            "payloads-ndata-seq",
            "payloads-ndata-seq-inc",
            "payloads-ndata-order",
            "payloads-ndata-qos",
            "payloads-ndata-retain",
        ],
        &["only_what_changed_is_told", "sequence_numbers_go_round"],
        "",
    ),
    Row(
        &[
            "payloads-ddata-timestamp",
            "payloads-ddata-seq",
            "payloads-ddata-seq-inc",
            "payloads-ddata-order",
            "payloads-ddata-qos",
            "payloads-ddata-retain",
        ],
        &["only_what_changed_is_told", "sequence_numbers_go_round"],
        "",
    ),
    Row(
        &[
            "payloads-ndeath-seq",
            "payloads-ndeath-bdseq",
            "payloads-ndeath-will-message",
            "payloads-ndeath-will-message-qos",
            "payloads-ndeath-will-message-retain",
        ],
        &[
            "every_connect_has_another_number_in_will_and_birth",
            "the_broker_says_the_node_is_dead_and_the_next_life_has_another_number",
        ],
        "",
    ),
    Row(
        &[
            "payloads-ndeath-will-message-publisher",
            "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
        ],
        &[
            "a_host_hears_births_events_and_death_over_mqtt_3",
            "a_host_that_goes_away_ends_the_session_and_nothing_is_taken_for_delivered",
        ],
        "",
    ),
    Row(
        &["payloads-ndeath-will-message-publisher-disconnect-mqtt50"],
        &[],
        "not with `version = \"5\"`, where NDEATH is published but DISCONNECT has no reason 0x04: rumqttc cannot give one; the default is 3.1.1",
    ),
    Row(
        &[
            "payloads-ddeath-timestamp",
            "payloads-ddeath-seq",
            "payloads-ddeath-seq-inc",
            "payloads-ddeath-seq-number",
        ],
        &["a_lost_camera_dies_and_the_node_speaks_for_it"],
        "",
    ),
];

/// Where the tests stand.
const SOURCES: [&str; 4] = [
    include_str!("tests.rs"),
    include_str!("bd_seq.rs"),
    include_str!("../../../wire/sparkplug/tests.rs"),
    include_str!("../../../../../tests/it/sparkplug.rs"),
];

#[test]
fn every_assertion_has_a_test_that_is_there_or_a_reason() {
    let mut seen = BTreeSet::new();
    for Row(assertions, tests, remark) in TABLE {
        assert!(!tests.is_empty() || !remark.is_empty(), "{assertions:?}");
        for assertion in *assertions {
            assert!(seen.insert(assertion), "{assertion} stands twice");
        }
        for test in *tests {
            let head = format!("#[test]\nfn {test}()");
            let nested = format!("    #[test]\n    fn {test}()");
            let found = SOURCES.iter().any(|source| source.contains(&head) || source.contains(&nested));
            assert!(found, "{assertions:?}: no test `{test}`");
        }
    }
}
