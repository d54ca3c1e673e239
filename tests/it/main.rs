//! The one integration binary: behaviour of the whole product against real peers.

mod cli;
mod delivery;
mod demo;
mod dialects;
mod drops;
mod embedded;
mod faults;
mod mqtt;
mod node;
mod outbox;
mod providers;
mod readme;
mod recovery;
mod replay;
mod rtsps;
mod scenarios;
mod secrets;
mod signing;
mod sparkplug;
mod sweep;
mod testcam;
mod tidy;
mod tls;
mod vlc;
mod webhook;
mod wire;
