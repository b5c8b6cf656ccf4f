#![forbid(unsafe_code)]
//! http
