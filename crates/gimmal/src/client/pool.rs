//! The connections that wait for their next request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use gimmal_runtime::Core;

use super::exchange::Link;
use super::origin::Origin;

/// The idle connections of one core, by server.
pub(super) struct Pool {
    idle: RefCell<HashMap<Origin, Vec<Idle>>>,
    per_origin: usize,
    keep: Duration,
    /// Somebody looks for connections that have waited too long.
    is_swept: Cell<bool>,
}

struct Idle {
    link: Rc<Link>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(per_origin: usize, keep: Duration) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), per_origin, keep, is_swept: Cell::new(false) })
    }

    pub(super) fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// A connection to `origin` that the server has not closed, as far as is known; the one that was used last.
    pub(super) async fn take(&self, origin: &Origin) -> Option<Rc<Link>> {
        loop {
            let Idle { link, since } = self.idle.borrow_mut().get_mut(origin)?.pop()?;
            if since.elapsed() < self.keep && is_quiet(&link).await {
                link.stream().set_idle(false);
                return Some(link);
            }
        }
    }

    /// Keeps a connection for later.
    pub(super) fn put(self: &Rc<Self>, core: &Rc<Core>, link: Rc<Link>) {
        if core.is_draining() || self.per_origin == 0 {
            return;
        }
        link.stream().set_deadline(None);
        link.stream().set_idle(true);
        let surplus = {
            let mut idle = self.idle.borrow_mut();
            let of_origin = match idle.get_mut(link.origin()) {
                Some(known) => known,
                None => idle.entry(link.origin().clone()).or_default(),
            };
            let surplus = (of_origin.len() >= self.per_origin).then(|| of_origin.remove(0));
            of_origin.push(Idle { link, since: Instant::now() });
            surplus
        };
        drop(surplus);
        if !self.is_swept.replace(true) {
            core.spawn(sweep(Rc::clone(core), Rc::downgrade(self), self.keep));
        }
    }

    /// Closes what has waited too long; whether anything is left.
    fn close_old(&self) -> bool {
        let mut closed = Vec::new();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, of_origin| {
            // The oldest come first.
            let old = of_origin.iter().take_while(|idle| idle.since.elapsed() >= self.keep).count();
            closed.extend(of_origin.drain(..old));
            !of_origin.is_empty()
        });
        !idle.is_empty()
    }
}

/// Tells whether nothing has come on a connection on which nothing was asked: neither its end nor bytes.
async fn is_quiet(link: &Link) -> bool {
    let stream = link.stream();
    let has_received = poll_fn(|cx| Poll::Ready(stream.poll_recv(cx).is_ready())).await;
    // Pending may say that the task has had its share, or that the core has yet to go round. So the socket itself is asked:
    // its bytes would be taken for the response to the next request.
    !has_received && !stream.has_arrived()
}

/// Closes connections that have waited too long, and all of them when the core is to stop; ends when there are none.
async fn sweep(core: Rc<Core>, pool: Weak<Pool>, keep: Duration) {
    let pause = (keep / 4).clamp(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let stops = tokio::select! {
            () = core.draining() => true,
            () = tokio::time::sleep(pause) => false,
        };
        let Some(pool) = pool.upgrade() else { return };
        if stops {
            let all = pool.idle.take();
            drop(all);
        }
        if stops || !pool.close_old() {
            pool.is_swept.set(false);
            return;
        }
    }
}
