//! The one integration binary: each module plays one room against real peers or data.

mod scenarios;
