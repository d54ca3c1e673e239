//! The one integration binary: behaviour of the whole product against real peers.

mod scenarios;
mod testcam;
mod tidy;
