//! The one integration binary: behaviour of the whole product against real peers.

mod adaptive;
mod cli;
mod delivery;
mod demo;
mod dialects;
mod embedded;
mod evidence;
mod faults;
mod mqtt;
mod node;
mod outbox;
mod privacy;
mod providers;
mod readme;
mod replay;
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
