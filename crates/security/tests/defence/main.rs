//! The defences, seen from outside: each attack has a test of its name.

mod audit;
mod authorisation;
mod cors;
mod csp;
mod csrf;
mod decompression_bomb;
mod header_injection;
mod host_header_poisoning;
mod json_bomb;
mod log_secrets;
mod open_redirect;
mod path_traversal;
mod proxy_protocol;
mod rate_limit;
mod security_headers;
mod spoofed_address;
