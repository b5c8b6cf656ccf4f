#![forbid(unsafe_code)]
//! security
