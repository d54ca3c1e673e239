//! Requests that come over a connection, and the way of their answers back.
//!
//! Owns: what is a request, and where its answer may go. Does not know: verbs' arguments, sockets.

use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::sync::mpsc::UnboundedSender;
use vedette_core::Name;

use super::link::{Properties, Publish, Received};

/// A request, on its way to whoever runs verbs.
#[derive(Debug)]
pub struct Asked {
    /// The broker that it came from.
    pub broker: Name,
    /// As in `command/<verb>`.
    pub verb: String,
    /// What was sent.
    pub payload: Bytes,
    back: Back,
}

#[derive(Debug)]
struct Back {
    topic: Option<String>,
    correlation: Option<Bytes>,
    answers: UnboundedSender<Publish>,
}

impl Asked {
    /// Sends the answer to where it is wanted; nowhere, where nobody said so. A connection that has ended meanwhile
    /// takes none.
    pub fn answer(self, json: Vec<u8>) {
        let Back { topic, correlation, answers } = self.back;
        let Some(topic) = topic else { return };
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            correlation,
            ..Properties::default()
        };
        let publish = Publish { topic, payload: json.into(), retained: false, answered: true, properties };
        let _ = answers.send(publish);
    }
}

/// What a connection does with requests.
pub(super) struct Desk {
    pub(super) broker: Name,
    /// `<prefix>/<node>`.
    pub(super) root: String,
    /// Verbs that this broker's clients may use.
    pub(super) allowed: Vec<String>,
    pub(super) to: Option<Sender<Asked>>,
    pub(super) answers: UnboundedSender<Publish>,
}

impl Desk {
    /// The topic filter to listen on; none where nothing is allowed.
    pub(super) fn filter(&self) -> Option<String> {
        let open = !self.allowed.is_empty() && self.to.is_some();
        open.then(|| format!("{}/command/+", self.root))
    }

    /// True when the message was a request, whatever came of it.
    pub(super) fn take(&self, message: &Received) -> bool {
        let below = message.topic.strip_prefix(self.root.as_str()).and_then(|t| t.strip_prefix("/command/"));
        let (Some(verb), Some(to)) = (below, &self.to) else { return false };
        let id = &self.broker;
        if message.retained {
            // It would be obeyed again at every connection.
            log::warn!(broker = id.as_str(); "broker {id}: a retained request for `{verb}` is not obeyed");
            return true;
        }
        let topic = message.response.clone().filter(|topic| self.may_answer_on(topic));
        let back = Back { topic, correlation: message.correlation.clone(), answers: self.answers.clone() };
        let asked =
            Asked { broker: id.clone(), verb: verb.to_owned(), payload: message.payload.clone(), back };
        if !self.allowed.iter().any(|allowed| allowed == verb) {
            log::warn!(broker = id.as_str(); "broker {id}: `{verb}` was asked for and is not allowed there");
            asked.answer(refusal(&format!("`{verb}` is not allowed on this broker")));
        } else if let Err(error) = to.try_send(asked) {
            error.into_inner().answer(refusal("busy, ask again later"));
        }
        true
    }

    /// An answer among our own topics could be taken for what the appliance says by itself, or for a request.
    fn may_answer_on(&self, topic: &str) -> bool {
        let ours = topic
            .strip_prefix(self.root.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        !ours && !topic.is_empty() && !topic.starts_with('$') && !topic.contains(['+', '#', '\0'])
    }
}

fn refusal(error: &str) -> Vec<u8> {
    serde_json::json!({"ok": false, "error": error}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn desk() -> (Desk, crossbeam_channel::Receiver<Asked>, UnboundedReceiver<Publish>) {
        let (to, asked) = crossbeam_channel::bounded(1);
        let (answers, answered) = unbounded_channel();
        let desk = Desk {
            broker: Name::new("factory").unwrap(),
            root: "vedette/box".to_owned(),
            allowed: vec!["arm".to_owned()],
            to: Some(to),
            answers,
        };
        (desk, asked, answered)
    }

    fn request(topic: &str) -> Received {
        Received {
            topic: topic.to_owned(),
            payload: Bytes::from_static(b"{}"),
            response: Some("reply/1".to_owned()),
            correlation: Some(Bytes::from_static(b"7")),
            retained: false,
        }
    }

    #[test]
    fn an_allowed_verb_is_handed_on_and_its_answer_goes_where_it_is_wanted() {
        let (desk, asked, mut answered) = desk();
        assert!(desk.take(&request("vedette/box/command/arm")));
        let request = asked.try_recv().unwrap();
        assert_eq!((request.verb.as_str(), request.broker.as_str()), ("arm", "factory"));
        request.answer(b"{}".to_vec());
        let answer = answered.try_recv().unwrap();
        assert_eq!((answer.topic.as_str(), &answer.payload[..]), ("reply/1", &b"{}"[..]));
        assert_eq!(answer.properties.correlation.as_deref(), Some(&b"7"[..]));
    }

    #[test]
    fn what_is_not_allowed_is_refused_and_what_is_too_much_too() {
        let (desk, asked, mut answered) = desk();
        assert!(desk.take(&request("vedette/box/command/reboot")));
        let text = |publish: Publish| String::from_utf8(publish.payload.to_vec()).unwrap();
        assert!(text(answered.try_recv().unwrap()).contains("not allowed"));
        assert!(
            desk.take(&request("vedette/box/command/arm")) && desk.take(&request("vedette/box/command/arm"))
        );
        assert!(text(answered.try_recv().unwrap()).contains("busy"));
        assert_eq!(asked.len(), 1);
    }

    #[test]
    fn retained_requests_and_other_topics_are_left_alone() {
        let (desk, asked, _answered) = desk();
        assert!(desk.take(&Received { retained: true, ..request("vedette/box/command/arm") }));
        for other in ["vedette/box/status", "vedette/boxer/command/arm", "homeassistant/status"] {
            assert!(!desk.take(&request(other)), "{other}");
        }
        assert!(asked.is_empty());
    }

    #[test]
    fn nobody_makes_the_appliance_talk_to_itself() {
        let (desk, ..) = desk();
        for topic in ["vedette/box", "vedette/box/command/arm", "a/+", "#", "$SYS/x", ""] {
            assert!(!desk.may_answer_on(topic), "{topic}");
        }
        assert!(desk.may_answer_on("vedette/boxer/answers") && desk.may_answer_on("client-7/replies"));
    }
}
