//! Runs one piece under callgrind, for `scripts/instructions`.
//!
//! Only what happens inside `measured` is counted, so that setting up costs nothing.

use std::io::{self, Write as _};
use std::process::ExitCode;

use gimmal_benches::pieces::{self, Piece};

/// Runs before the count begins, so that what is made once has been made.
const WARM_UP_RUNS: u32 = 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(runs)) = (arguments.next(), arguments.next()) else {
        for piece in pieces::all() {
            // A closed pipe has read enough.
            let _ = writeln!(io::stdout(), "{}", piece.name());
        }
        return ExitCode::SUCCESS;
    };
    let piece = pieces::all().into_iter().find(|piece| piece.name() == name);
    let (Some(mut piece), Ok(runs)) = (piece, runs.parse()) else { return ExitCode::FAILURE };
    (0..WARM_UP_RUNS).for_each(|_| piece.run());
    measured(&mut piece, runs);
    ExitCode::SUCCESS
}

/// The function that callgrind is told to watch.
#[inline(never)]
fn measured(piece: &mut Piece, runs: u32) {
    for _ in 0..runs {
        piece.run();
    }
}
