//! What the end-to-end tests have in common.

pub mod peers;
pub mod proxies;
