//! The hot parts of the codec and of an app, and its guards, each ready to be run over and over.

mod app;
mod codec;
mod guards;

use std::fmt;

/// Something to measure: `group/case`, and how many bytes one run is about, if it is about bytes.
pub struct Piece {
    /// What is measured, for charts that show several cases together.
    pub group: &'static str,
    /// Which case of it.
    pub case: &'static str,
    /// Bytes that one run goes through; 0 if that says nothing.
    pub bytes: usize,
    run: Box<dyn FnMut()>,
}

impl Piece {
    fn new(group: &'static str, case: &'static str, run: impl FnMut() + 'static) -> Self {
        Self { group, case, bytes: 0, run: Box::new(run) }
    }

    fn of_bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// Runs it once.
    pub fn run(&mut self) {
        (self.run)();
    }

    /// The group and the case.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.group, self.case)
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("group", &self.group).field("case", &self.case).finish_non_exhaustive()
    }
}

/// All of them, group by group.
#[must_use]
pub fn all() -> Vec<Piece> {
    codec::pieces().into_iter().chain(app::pieces()).chain(guards::pieces()).collect()
}
