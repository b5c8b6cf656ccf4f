#![forbid(unsafe_code)]
//! gimmal
