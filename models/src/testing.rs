//! Networks for tests.
//!
//! Owns: graphs made by code instead of files. Does not know: what is tested with them.

pub(crate) mod mobilenet_v2;
