//! Certificates from Pebble, Let's Encrypt's ACME server for tests, by HTTP-01 and TLS-ALPN-01.
//!
//! Needs `pebble` and `pebble-challtestsrv` (Debian's package `pebble`).

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod authority;
mod certificates;
mod fetch;
mod pebble;
