//! What a protobuf message would cost in memory, found out before any of it is decoded.
//!
//! Owns: walking the wire format along the messages of `onnx.rs` and adding up an upper bound. Does not know: what a
//! model means. An empty message takes two bytes of a file and some hundred of memory, so the size of a file alone
//! bounds nothing.

use std::mem::size_of;

use super::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// What decoding may allocate.
pub(crate) const MOST_DECODED: usize = 512 << 20;
/// Messages and strings of one file; large networks have some ten thousand.
pub(crate) const MOST_ENTRIES: usize = 1_000_000;
/// A vector that grows holds its old and its doubled self at once, and never starts below four: at most four times
/// its values.
const GROWTH: usize = 4;

/// Why a file is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("is no ONNX file, or a damaged one: byte {at}, in {message}: {what}")]
    Damaged { at: usize, message: &'static str, what: &'static str },
    #[error("has more than {MOST_ENTRIES} messages and names; a network has some ten thousand")]
    Entries,
    #[error("would take more than {} MiB of memory; store weights as raw_data", MOST_DECODED >> 20)]
    Memory,
}

enum Kind {
    /// Numbers, packed or not: bytes of each in memory.
    Numbers(usize),
    /// A string or bytes.
    Bytes,
    Message(&'static Schema),
}

struct Schema {
    name: &'static str,
    size: usize,
    fields: &'static [(u64, Kind)],
}

macro_rules! schema {
    ($constant:ident, $message:ty, [$(($tag:literal, $kind:expr)),* $(,)?]) => {
        static $constant: Schema =
            Schema { name: stringify!($message), size: size_of::<$message>(), fields: &[$(($tag, $kind)),*] };
    };
}

use Kind::{Bytes, Message, Numbers};
schema!(
    MODEL,
    ModelProto,
    [
        (2, Bytes),
        (3, Bytes),
        (4, Bytes),
        (6, Bytes),
        (7, Message(&GRAPH)),
        (8, Message(&OPSET)),
        (14, Message(&ENTRY)),
        (20, Bytes),
        (25, Bytes),
    ]
);
schema!(OPSET, OperatorSetIdProto, [(1, Bytes)]);
schema!(ENTRY, StringStringEntryProto, [(1, Bytes), (2, Bytes)]);
schema!(
    GRAPH,
    GraphProto,
    [
        (1, Message(&NODE)),
        (2, Bytes),
        (5, Message(&TENSOR)),
        (10, Bytes),
        (11, Message(&VALUE)),
        (12, Message(&VALUE)),
        (13, Message(&VALUE)),
        (15, Bytes),
        (16, Message(&ENTRY)),
    ]
);
schema!(
    NODE,
    NodeProto,
    [
        (1, Bytes),
        (2, Bytes),
        (3, Bytes),
        (4, Bytes),
        (5, Message(&ATTRIBUTE)),
        (6, Bytes),
        (7, Bytes),
        (8, Bytes),
    ]
);
schema!(
    ATTRIBUTE,
    AttributeProto,
    [
        (1, Bytes),
        (4, Bytes),
        (5, Message(&TENSOR)),
        (6, Bytes),
        (7, Numbers(4)),
        (8, Numbers(8)),
        (9, Bytes),
        (10, Message(&TENSOR)),
        (11, Bytes),
        (21, Bytes),
        (22, Bytes),
        (23, Bytes),
    ]
);
schema!(
    TENSOR,
    TensorProto,
    [
        (1, Numbers(8)),
        (4, Numbers(4)),
        (5, Numbers(4)),
        (6, Bytes),
        (7, Numbers(8)),
        (8, Bytes),
        (9, Bytes),
        (10, Numbers(8)),
        (11, Numbers(8)),
        (12, Bytes),
        (13, Message(&ENTRY)),
    ]
);
schema!(VALUE, ValueInfoProto, [(1, Bytes), (2, Message(&TYPE)), (3, Bytes)]);
schema!(TYPE, TypeProto, [(1, Message(&TENSOR_TYPE)), (4, Bytes), (5, Bytes), (8, Bytes), (9, Bytes)]);
schema!(TENSOR_TYPE, TensorTypeProto, [(2, Message(&SHAPE))]);
schema!(SHAPE, TensorShapeProto, [(1, Message(&DIMENSION))]);
schema!(DIMENSION, DimensionProto, [(2, Bytes)]);

/// Walks a model file; an upper bound of what its decoded form takes, in bytes.
pub(crate) fn cost(bytes: &[u8]) -> Result<usize, WireError> {
    let mut walk = Walk { bytes, at: 0, cost: 0, entries: 0 };
    walk.message(&MODEL, bytes.len())?;
    Ok(walk.cost)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    cost: usize,
    entries: usize,
}

impl Walk<'_> {
    /// As deep as the schemas are, six levels: none of them holds itself.
    fn message(&mut self, schema: &'static Schema, end: usize) -> Result<(), WireError> {
        let damaged = |at: usize, what| WireError::Damaged { at, message: schema.name, what };
        while self.at < end {
            let start = self.at;
            let key = self.varint(end).ok_or_else(|| damaged(start, "a cut or overlong number"))?;
            let (tag, wire_type) = (key >> 3, key & 7);
            let kind = schema.fields.iter().find(|(number, _)| *number == tag).map(|(_, kind)| kind);
            match wire_type {
                0 => {
                    self.varint(end).ok_or_else(|| damaged(start, "a cut or overlong number"))?;
                }
                1 | 5 => {
                    let width = if wire_type == 1 { 8 } else { 4 };
                    self.at += width;
                    if self.at > end {
                        return Err(damaged(start, "a number that reaches beyond its message"));
                    }
                }
                2 => {
                    let length = self.varint(end).and_then(|n| usize::try_from(n).ok());
                    let stop = length.and_then(|n| self.at.checked_add(n)).filter(|stop| *stop <= end);
                    let stop =
                        stop.ok_or_else(|| damaged(start, "a part that reaches beyond its message"))?;
                    self.part(kind, stop)?;
                    self.at = stop;
                    continue;
                }
                3 | 4 => return Err(damaged(start, "a group, which ONNX does not have")),
                _ => return Err(damaged(start, "an unknown wire type")),
            }
            if let Some(Numbers(size)) = kind {
                self.charge(*size)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, kind: Option<&Kind>, stop: usize) -> Result<(), WireError> {
        match kind {
            Some(Message(schema)) => {
                self.entry(schema.size)?;
                self.message(schema, stop)
            }
            Some(Bytes) => {
                self.entry(size_of::<Vec<u8>>())?;
                self.add(stop - self.at + 8)
            }
            // Packed: varints of one byte at least, or numbers of four or eight.
            Some(Numbers(size)) => self.charge((stop - self.at).saturating_mul(*size)),
            None => Ok(()),
        }
    }

    fn varint(&mut self, end: usize) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).filter(|_| self.at < end)?;
            self.at += 1;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn entry(&mut self, size: usize) -> Result<(), WireError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(WireError::Entries);
        }
        self.charge(size)
    }

    fn charge(&mut self, size: usize) -> Result<(), WireError> {
        self.add(size.saturating_mul(GROWTH))
    }

    fn add(&mut self, bytes: usize) -> Result<(), WireError> {
        self.cost = self.cost.saturating_add(bytes);
        if self.cost > MOST_DECODED { Err(WireError::Memory) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(body.len(), &mut bytes).unwrap();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn many_empty_parts_are_refused_before_they_are_made() {
        // Strings are the cheapest entries: a million of them fit the memory, so their number is what stops them.
        let names = field(4, &[]).repeat(MOST_ENTRIES + 1);
        assert_eq!(cost(&names), Err(WireError::Entries));
        let nodes = field(1, &[]).repeat(900_000);
        assert_eq!(cost(&field(7, &nodes)), Err(WireError::Memory));
    }

    #[test]
    fn one_byte_numbers_cost_what_they_take_in_memory() {
        let tensor = field(7, &vec![1; 20 << 20]);
        assert_eq!(cost(&field(7, &field(5, &tensor))), Err(WireError::Memory));
        let small = cost(&field(7, &field(5, &field(7, &[1; 100])))).unwrap();
        assert!((100 * 8..20_000).contains(&small), "{small}");
    }

    #[test]
    fn parts_end_where_their_message_ends() {
        for bytes in [&[0x3a, 5, 0][..], &[0x3a, 2, 0x0a, 1], &[0x80; 11], &[0x3b], &[0x0f], &[0x0d, 1]] {
            assert!(matches!(cost(bytes), Err(WireError::Damaged { .. })), "{bytes:?}");
        }
    }
}
