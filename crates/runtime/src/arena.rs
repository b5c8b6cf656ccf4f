//! Page-aligned, zeroed memory that stays where it is.

use std::io;
use std::ptr::{self, NonNull};

const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// An anonymous mapping. It asks for huge pages where it is large enough to use them, and to be locked into
/// memory where `RLIMIT_MEMLOCK` allows; neither wish is an error when it is not granted.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: NonNull<u8>,
    bytes: usize,
    locked: bool,
}

impl Arena {
    pub(crate) fn new(bytes: usize, lock: bool) -> io::Result<Self> {
        // SAFETY: a fresh private anonymous mapping, which aliases nothing.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        if lock && bytes >= HUGE_PAGE_BYTES {
            // SAFETY: the range is the mapping made above. A refusal costs only speed.
            unsafe { libc::madvise(memory.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        // SAFETY: as above.
        let locked = lock && unsafe { libc::mlock(memory.as_ptr().cast(), bytes) } == 0;
        Ok(Self { memory, bytes, locked })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// Whether the kernel agreed to keep every page resident.
    pub(crate) fn is_locked(&self) -> bool {
        self.locked
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once; every pointer into it is held through a handle that keeps
        // the arena alive.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_page_aligned_and_zeroed() {
        let arena = Arena::new(3 * 4096, false).unwrap();
        assert_eq!(arena.as_ptr().addr() % 4096, 0);
        // SAFETY: the mapping is three pages long and nothing else refers to it.
        let bytes = unsafe { std::slice::from_raw_parts(arena.as_ptr(), 3 * 4096) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(!arena.is_locked());
    }
}
