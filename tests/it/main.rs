//! The one integration binary: each module is a room's story with real peers.

mod testcam;
