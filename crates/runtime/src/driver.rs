//! What drives a core: the future at the root of its Tokio runtime.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Duration, Instant, Sleep};

use crate::clock::Tick;
use crate::core::Core;
use crate::seed::panic_message;

/// Rounds made at most before Tokio gets its turn, so that its timers, sockets and files go on under load.
const ROUNDS_MAX: u32 = 32;

/// Goes round for as long as there is something to do; when there is not, it sleeps in Tokio's own wait, from
/// which the ring's eventfd, a timer, another thread or any Tokio resource wakes it.
pub(crate) struct Driver {
    core: Rc<Core>,
    /// The eventfd that the ring signals. It is never read: each signal is a new edge.
    ring: Option<AsyncFd<OwnedFd>>,
    tick: Pin<Box<Sleep>>,
    /// When `tick` wakes the driver.
    fires: Tick,
    /// A round had something to do since the last tick.
    active: bool,
    stop: Rc<Cell<bool>>,
}

impl Driver {
    /// Must be called within the core's Tokio runtime. It ends when `stop` is set.
    pub(crate) fn new(core: &Rc<Core>, ring: Option<OwnedFd>, stop: Rc<Cell<bool>>) -> io::Result<Self> {
        let register = |eventfd| {
            // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
            unsafe { AsyncFd::register_with_interest(eventfd, Interest::READABLE) }
        };
        let ring = ring.map(register).transpose()?;
        Ok(Self {
            core: Rc::clone(core),
            ring,
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
            fires: Tick::NEVER,
            active: false,
            stop,
        })
    }

    fn tick_if_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(wanted) = self.core.next_tick(self.active) else { return false };
        // A timer that fires too early is set again then; setting it each time would cost more.
        if wanted < self.fires {
            self.fires = wanted;
            self.tick.as_mut().reset(Instant::now() + wanted.since(self.core.now()));
        }
        let due = self.tick.as_mut().poll(cx).is_ready();
        if due {
            self.core.tick();
            self.fires = Tick::NEVER;
            self.active = false;
        }
        due
    }

    /// Whether the ring has signalled since the last look; if not, the next signal wakes the driver.
    fn ring_signalled(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(ring) = &self.ring else { return Ok(false) };
        match ring.poll_read_ready(cx) {
            Poll::Ready(guard) => {
                guard?.clear_ready();
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    fn mute_signals(&self) {
        if self.ring.is_some() {
            self.core.ring().mute_signals();
        }
    }

    /// Returns whether something has come already that the ring has not signalled.
    fn ask_for_signals(&self) -> bool {
        self.ring.is_some() && self.core.ring().ask_for_signals()
    }

    fn go_round(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.mute_signals();
        for _ in 0..ROUNDS_MAX {
            let busy = self.core.round()?;
            self.active |= busy;
            if self.stop.get() {
                return Poll::Ready(Ok(()));
            }
            if !busy && !self.ring_signalled(cx)? && !self.tick_if_due(cx) {
                if !self.ask_for_signals() {
                    return Poll::Pending;
                }
                self.mute_signals();
            }
        }
        self.tick_if_due(cx);
        self.give_way(cx)?;
        Poll::Pending
    }

    /// Lets Tokio go through its own wait once: only there it looks at timers and sockets, and tokio-uring
    /// submits what files have asked for. With the eventfd signalled the wait ends at once.
    fn give_way(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(ring) = &self.ring else {
            cx.waker().wake_by_ref();
            return Ok(());
        };
        // Signals from before are of no use: the next one must find this task waiting for it.
        while self.ring_signalled(cx)? {}
        signal(ring.get_ref())
    }
}

fn signal(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1_u64;
    // SAFETY: writes the eight bytes of a local to a descriptor that is open.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    // A counter that is full is signalled as well.
    if written < 0 && io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl Future for Driver {
    /// Why it cannot go on.
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.core.driver_starts(cx.waker());
        // A panic must not keep the core from closing its sockets.
        let polled = catch_unwind(AssertUnwindSafe(|| self.go_round(cx)));
        self.core.driver_pauses();
        match polled {
            Ok(polled) => polled.map_err(|error| format!("its ring failed: {error}")),
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    }
}
