//! What the operations of a connection are addressed to.
//!
//! The kernel hands out a freed direct descriptor to the next client at once, so an entry that names one after it was closed
//! would act on a stranger's connection. The types here make such an entry unwritable: only what owns a [`SocketFile`] can
//! build an entry that names it, and closing takes the value.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::Ring;

/// A direct descriptor of the ring that is open, owned by whoever holds the value.
///
/// It is neither `Copy` nor `Clone`, and its number leaves this module only inside of an entry.
pub(crate) struct Slot(u32);

impl Slot {
    /// Takes over the direct descriptor that a completion of accepting reported.
    pub(super) fn accepted(index: u32) -> Self {
        Self(index)
    }

    /// Closes the direct descriptor. The caller has seen the completion of every operation that names it.
    pub(super) fn close(self, ring: &mut Ring) {
        ring.push_unwatched(opcode::Close::new(types::Fixed(self.0)).build());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

/// The socket of a connection: a direct descriptor, as accepting gives, or a descriptor of the process, as an outgoing
/// connection and one that was accepted while the core drained have.
#[derive(Debug)]
pub(crate) enum SocketFile {
    Direct(Slot),
    Descriptor(OwnedFd),
}

impl SocketFile {
    /// Builds an entry that names this socket.
    #[inline(always)]
    pub(super) fn entry(
        &self,
        fixed: impl FnOnce(types::Fixed) -> squeue::Entry,
        plain: impl FnOnce(types::Fd) -> squeue::Entry,
    ) -> squeue::Entry {
        match self {
            Self::Direct(slot) => fixed(types::Fixed(slot.0)),
            Self::Descriptor(descriptor) => plain(types::Fd(descriptor.as_raw_fd())),
        }
    }

    /// Closes the socket. The caller has seen the completion of every operation that names it.
    pub(super) fn close(self, ring: &mut Ring) {
        match self {
            Self::Direct(slot) => slot.close(ring),
            Self::Descriptor(descriptor) => drop(descriptor),
        }
    }
}

/// Builds `$operation` for either kind of socket file.
macro_rules! addressed {
    ($file:expr, |$target:ident| $operation:expr) => {
        $file.entry(|$target| $operation, |$target| $operation)
    };
}
pub(super) use addressed;
