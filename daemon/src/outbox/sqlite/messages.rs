//! The messages of one event as one value of the store.
//!
//! Owns: that format: dialect, topic and payload of each message, each after its length (u8, u16, u32, little-endian).
//! One value and not rows of their own: a commit then touches one page less for every message. Does not know: SQL.

use bytes::Bytes;

use crate::outbox::Frozen;

/// Packs messages. A topic longer than 64 KiB does not exist in MQTT; its message is left out.
pub(super) fn pack(messages: &[Frozen]) -> Vec<u8> {
    let length = |m: &Frozen| 7 + m.dialect.len() + m.topic.len() + m.payload.len();
    let mut packed = Vec::with_capacity(messages.iter().map(length).sum());
    for Frozen { dialect, topic, payload } in messages {
        let lengths = (u8::try_from(dialect.len()), u16::try_from(topic.len()), u32::try_from(payload.len()));
        let (Ok(d), Ok(t), Ok(p)) = lengths else { continue };
        packed.push(d);
        packed.extend_from_slice(dialect.as_bytes());
        packed.extend_from_slice(&t.to_le_bytes());
        packed.extend_from_slice(topic.as_bytes());
        packed.extend_from_slice(&p.to_le_bytes());
        packed.extend_from_slice(payload);
    }
    packed
}

/// Reads what [`pack`] wrote; none where it is damaged. Payloads share the one allocation. What of it a sink's dialects
/// know is the sink's own question.
pub(super) fn unpack(packed: Vec<u8>) -> Option<Vec<Frozen>> {
    let mut rest = Bytes::from(packed);
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(take(&mut rest, 1)?[0]);
        let dialect = take(&mut rest, length)?;
        let length = usize::from(u16::from_le_bytes(take(&mut rest, 2)?.as_ref().try_into().ok()?));
        let topic = take(&mut rest, length)?;
        let length = u32::from_le_bytes(take(&mut rest, 4)?.as_ref().try_into().ok()?);
        let payload = take(&mut rest, usize::try_from(length).ok()?)?;
        let topic = std::str::from_utf8(&topic).ok()?.to_owned();
        let dialect = std::str::from_utf8(&dialect).ok()?.to_owned();
        messages.push(Frozen { dialect, topic, payload });
    }
    Some(messages)
}

fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(dialect: &str, payload: &'static [u8]) -> Frozen {
        Frozen {
            dialect: dialect.to_owned(),
            topic: "gate/event".to_owned(),
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn what_was_packed_comes_back() {
        let messages = vec![frozen("vedette", b"{}"), frozen("custom:factory", b"-.-"), frozen("onvif", b"")];
        assert_eq!(unpack(pack(&messages)), Some(messages));
        assert_eq!(unpack(Vec::new()), Some(Vec::new()));
    }

    #[test]
    fn what_is_cut_off_is_damaged() {
        let packed = pack(&[frozen("vedette", b"{}")]);
        for length in 1..packed.len() {
            assert_eq!(unpack(packed[..length].to_vec()), None, "{length} of {} bytes", packed.len());
        }
    }
}
