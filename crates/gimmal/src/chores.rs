//! What one core does for the whole server.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::Core;
use tokio::sync::Mutex;

#[cfg(feature = "acme")]
use crate::acme::Acme;
use crate::certificates::Certificates;

/// The chores, and whose turn it is: that of one core, until it ends, and then another one's.
#[derive(Clone)]
pub(crate) struct Chores {
    certificates: Certificates,
    #[cfg(feature = "acme")]
    acme: Acme,
    turn: Arc<Mutex<()>>,
}

impl Chores {
    pub(crate) fn new(certificates: Certificates, #[cfg(feature = "acme")] acme: Acme) -> Self {
        Self {
            certificates,
            #[cfg(feature = "acme")]
            acme,
            turn: Arc::default(),
        }
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Waits on `core` for the turn and does the chores for as long as the core runs. Returns whether it is this core's turn.
    pub(crate) fn take_turns(&self, core: &Rc<Core>) -> Rc<Cell<bool>> {
        let ours = Rc::new(Cell::new(false));
        let (this, is_ours) = (self.clone(), Rc::clone(&ours));
        #[cfg(feature = "acme")]
        let stopping = Rc::clone(core);
        core.spawn(async move {
            // Dropped with the task, when the core ends.
            let _turn = this.turn.lock().await;
            is_ours.set(true);
            #[cfg(feature = "acme")]
            this.acme.keep(&stopping);
            this.certificates.clone().watch().await;
            // Nothing is to be watched, and signals are acted on all the same.
            std::future::pending::<()>().await;
        });
        ours
    }
}
