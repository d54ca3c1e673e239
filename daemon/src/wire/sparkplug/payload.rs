//! Sparkplug B's payload in Protocol Buffers (specification 3.0, chapter 6), as our own structs.
//!
//! Owns: field numbers and data types. Does not know: what metrics mean. What no message of ours needs (metadata,
//! properties, data sets, templates) has no field here: a decoder skips it, so that a stranger's bytes cannot make it
//! build what nobody reads.

use std::fmt::Display;

use jiff::Timestamp;
use prost::Message;

/// The codes of `datatype` that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DataType {
    /// Signed, 64 bits; in `long_value` as two's complement.
    Int64 = 4,
    /// IEEE 754, 64 bits.
    Double = 10,
    /// One bit.
    Boolean = 11,
    /// UTF-8.
    String = 12,
    /// Milliseconds since 1970, UTC; in `long_value`.
    DateTime = 13,
}

/// A message of an edge node.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// When it was published: milliseconds since 1970, UTC.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// In the order of their times.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// 0..=255, counted over all messages of a session; none in an NDEATH.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// One value of one name.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Levels with `/` between; a consumer shows them as folders.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// When it became so: milliseconds since 1970, UTC.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// See [`DataType`].
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// It is for the archive: something newer is current.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// The value; none where `is_null`.
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15, 16")]
    pub value: Option<Value>,
}

/// What a metric says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// Up to 32 bits.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// 64 bits.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// 32 bits.
    #[prost(float, tag = "12")]
    Float(f32),
    /// 64 bits.
    #[prost(double, tag = "13")]
    Double(f64),
    /// Yes or no.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// UTF-8.
    #[prost(string, tag = "15")]
    String(String),
    /// Anything.
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
}

/// Milliseconds since 1970, UTC; what was before counts as 1970.
pub fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

impl Metric {
    fn new(name: impl Into<String>, datatype: DataType, value: Option<Value>) -> Self {
        Self {
            name: Some(name.into()),
            timestamp: None,
            datatype: Some(datatype as u32),
            is_historical: None,
            is_null: value.is_none().then_some(true),
            value,
        }
    }

    /// A text; none is null.
    pub fn text(name: impl Into<String>, value: Option<impl Display>) -> Self {
        Self::new(name, DataType::String, value.map(|v| Value::String(v.to_string())))
    }

    /// A whole number; none is null, and what is larger than 63 bits counts as the largest.
    pub fn whole(name: impl Into<String>, value: Option<u64>) -> Self {
        let long = |v: u64| Value::Long(v.min(i64::MAX.unsigned_abs()));
        Self::new(name, DataType::Int64, value.map(long))
    }

    /// A number; none, and what is not finite, is null.
    pub fn number(name: impl Into<String>, value: Option<f64>) -> Self {
        Self::new(name, DataType::Double, value.filter(|v| v.is_finite()).map(Value::Double))
    }

    /// Yes or no; none is null.
    pub fn flag(name: impl Into<String>, value: Option<bool>) -> Self {
        Self::new(name, DataType::Boolean, value.map(Value::Boolean))
    }

    /// A time; none is null.
    pub fn time(name: impl Into<String>, value: Option<Timestamp>) -> Self {
        Self::new(name, DataType::DateTime, value.map(|at| Value::Long(millis(at))))
    }

    /// The same, at this time.
    #[must_use]
    pub fn at(self, time: Timestamp) -> Self {
        Self { timestamp: Some(millis(time)), ..self }
    }
}
