//! The one integration binary: behaviour of the whole product against real peers.

mod mqtt;
mod readme;
mod scenarios;
mod testcam;
mod tidy;
mod wire;
