//! Benchmarks of Gimmal.
//!
//! [`pieces`](pieces::all) are the hot parts, each ready to be run over and over: criterion times them
//! (`cargo bench -p gimmal-benches`), and `scripts/instructions` counts their instructions. Whole servers are measured
//! by `scripts/bench`.

pub mod pieces;
