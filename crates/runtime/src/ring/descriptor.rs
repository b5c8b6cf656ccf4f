//! How system calls name the ring.

use std::io;
use std::os::fd::RawFd;
use std::ptr;

const REGISTER_RING_FDS: libc::c_uint = 20;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct ResourceUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// The ring's registered index where the kernel gives one, which saves a look-up and a reference count of the
/// descriptor in every call; else its descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Descriptor {
    Registered(u32),
    Plain(RawFd),
}

impl Descriptor {
    /// Registers `ring` for the calling thread.
    pub(super) fn new(ring: RawFd) -> Self {
        let mut update = ResourceUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
        // SAFETY: the kernel reads and writes one structure of its own layout, which lives through the call.
        let registered = unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_RING_FDS, &raw mut update, 1)
        };
        if registered == 1 { Self::Registered(update.offset) } else { Self::Plain(ring) }
    }

    pub(super) fn enter(self, submissions: u32, completions_min: u32, flags: u32) -> io::Result<usize> {
        let (ring, flags) = match self {
            Self::Registered(index) => (index as RawFd, flags | ENTER_REGISTERED_RING),
            Self::Plain(ring) => (ring, flags),
        };
        // SAFETY: io_uring_enter(2) without a signal mask; what the submissions point to is vouched for where
        // they are queued.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                submissions,
                completions_min,
                flags,
                ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
    }
}
