//! See ARCHITECTURE.md.
#![forbid(unsafe_code)]

pub mod mosquitto;
pub mod proxy;
pub mod schemas;
pub mod subscriber;
