//! What a receiver of a webhook may answer.
//!
//! Owns: what must hold whatever its headers say. Does not know: sockets.

use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;

use super::post;

/// The value of `Retry-After`, at any time of the host's clock.
pub fn retry_after(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let after = post::retry_after(&headers, now);
        let is_text = bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        assert!(after.is_none() || is_text);
    }
}
