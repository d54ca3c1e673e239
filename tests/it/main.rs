//! The one integration binary: behaviour of the whole product against real peers.

mod faults;
mod mqtt;
mod node;
mod scenarios;
mod testcam;
mod tidy;
mod wire;
