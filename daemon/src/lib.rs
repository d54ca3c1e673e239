//! See ARCHITECTURE.md.

pub mod outbox;
pub mod sinks;
pub mod wire;
