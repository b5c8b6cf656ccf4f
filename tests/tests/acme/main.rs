//! Servers that get their certificates from Pebble, Let's Encrypt's ACME server for tests.
//!
//! Needs `pebble` and `pebble-challtestsrv` (Debian's package `pebble`).

mod issuing;
mod pebble;
#[path = "../tls/scene.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod scene;
