//! Cores that fail while they run, and what becomes of the others.

use std::sync::{Arc, Mutex, PoisonError};

use crate::remote::CoreHandle;

/// Says what the other cores do when one fails.
///
/// A core fails when its ring does, or by a panic outside of any task. A panic in a task ends that task alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoreFailure {
    /// The others are shut down gracefully, so that whoever started the process can start it again. The default.
    #[default]
    StopAll,
    /// The others go on, and take all new connections.
    KeepServing,
}

/// Tells which core failed while it ran, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {core} failed: {cause}")]
#[non_exhaustive]
pub struct FailedCore {
    /// Which core.
    pub core: usize,
    /// What happened.
    pub cause: String,
}

/// What a core tells of its own failure, and whom.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) handles: Arc<[CoreHandle]>,
    pub(crate) on_failure: CoreFailure,
    pub(crate) failures: Failures,
}

impl Watch {
    /// Notes the failure and has the others act on it. Gives the cause back.
    pub(crate) fn tell(&self, core: usize, cause: String) -> String {
        self.failures.add(FailedCore { core, cause: cause.clone() });
        match self.on_failure {
            CoreFailure::StopAll => {
                tracing::error!(core, cause, "a core failed; the others are shut down");
                self.handles.iter().for_each(CoreHandle::drain);
            }
            CoreFailure::KeepServing => tracing::error!(core, cause, "a core failed; the others go on"),
        }
        cause
    }
}

/// The cores that have failed, the first one first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Arc<Mutex<Vec<FailedCore>>>);

impl Failures {
    fn add(&self, failed: FailedCore) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
    }

    pub(crate) fn all(&self) -> Vec<FailedCore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
