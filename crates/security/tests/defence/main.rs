//! The defences, seen from outside: each attack has a test of its name.

mod authorisation;
mod cors;
mod csp;
mod csrf;
mod security_headers;
