//! The one integration binary: behaviour of the whole product against real peers.

mod mqtt;
mod wire;
