//! See ARCHITECTURE.md.
#![deny(unsafe_code)]

pub mod config;
pub mod logging;
#[allow(unsafe_code)] // announced in its first line
pub mod process_env;
pub mod share;
