//! Benchmarks of Gimmal.
