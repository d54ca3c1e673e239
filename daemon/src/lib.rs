//! The service and its command line: everything that touches the outside but cameras and models. Begin with
//! ARCHITECTURE.md beside this crate's manifest.
#![deny(unsafe_code)]

pub mod arming;
pub mod camera;
pub mod cli;
pub mod commands;
pub mod config;
pub mod counters;
pub mod discover;
pub mod events_eval;
pub mod evidence;
pub mod exit;
#[cfg(any(test, fuzzing))]
pub mod fixtures;
pub mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
pub mod histogram;
pub mod infer;
pub mod logging;
pub mod node;
pub mod outbox;
pub mod pacer;
#[allow(unsafe_code)] // announced in its first line
pub mod process_env;
pub mod random;
pub mod replay;
pub mod service;
pub mod share;
pub mod signing;
pub mod sinks;
mod state_file;
pub mod time_sync;
pub mod usage;
pub mod wire;
pub mod words;
