//! Benchmarks of Gimmal.
//!
//! `floor` (`src/bin/floor.rs`) is the yardstick: an `io_uring` loop that does nothing but answer. Whole
//! servers are compared with it by `scripts/measure`; benchmarks of single parts live in `benches/`.
