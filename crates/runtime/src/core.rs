//! One core: a thread with its ring, buffers, connections and tasks.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::backend::BackendKind;
use crate::bulk;
use crate::clock::{CoarseClock, Deadlines, Tick};
use crate::connection::{Connection, Io};
use crate::counters::{CoreCounters, Counter, Snapshot};
use crate::local_future::LocalFuture;
use crate::options::Options;
use crate::pinned::{BufferPool, PinnedBuf};
use crate::remote::{self, CoreHandle, Inbox};
use crate::ring::{Completion, Op, Ring, RingSocket};
use crate::stall::Heartbeat;
use crate::table::TableOwner;
use crate::tally::Tally;
use crate::tasks::{Polled, Tasks};

/// Bytes of a buffer for files: a piece of a file, and one page more, so that it fits into another one when it is
/// encrypted.
pub(crate) const FILE_BUFFER_BYTES: u32 = FILE_PIECE_BYTES as u32 + 4096;
/// Bytes of a file that are read at once.
pub(crate) const FILE_PIECE_BYTES: usize = 64 * 1024;

/// Ticks that an idle core with open connections sleeps at most: it sees requests to close within them.
const IDLE_TICKS: u32 = 20;

/// How long the ring of a core that ends may take to give back the operations in flight.
const LET_GO_MAX: Duration = Duration::from_secs(5);
/// How long of it is for memory alone: what was sent without copying to clients that read slowly, before their connections
/// were closed, the kernel has until they have taken it.
const MEMORY_MAX: Duration = Duration::from_millis(100);

/// What a task may do at one go with sockets that are always ready.
const SHARE: u32 = 64;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The core that the calling thread runs: what its tasks share. Everything reached through it is `!Send`.
pub struct Core {
    /// Unique in the process while the core runs; wakers carry it.
    number: u32,
    pub(crate) handle: CoreHandle,
    handles: Arc<[CoreHandle]>,
    backend: BackendKind,
    pub(crate) options: Options,
    pub(crate) counters: Arc<CoreCounters>,
    pub(crate) clock: CoarseClock,
    pub(crate) deadlines: Deadlines,
    pub(crate) table: RefCell<TableOwner>,
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    /// Bytes queued on all connections and not taken by the kernel.
    pub(crate) unsent: Tally,
    /// Bytes that all connections have received and not read.
    pub(crate) unread: Tally,
    pub(crate) receive_buffers: Rc<BufferPool>,
    file_buffers: Rc<BufferPool>,
    ring: Option<RefCell<Ring>>,
    /// Connections whose receive found no buffer.
    pub(crate) starved: RefCell<Vec<Rc<Connection>>>,
    /// Connections that wait for their turn at the bulk buffers.
    pub(crate) bulk_line: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections whose next send is handed over with the next turn.
    sending: RefCell<Vec<Rc<Connection>>>,
    tasks: Tasks,
    heartbeat: Arc<Heartbeat>,
    driver: RefCell<Option<Waker>>,
    /// The driver is under way and will see what becomes ready.
    running: Cell<bool>,
    /// What is left of the share of the task that is polled.
    share: Cell<u32>,
    draining: Cell<bool>,
    listeners: Cell<usize>,
    /// Direct sockets that have a descriptor of the process as well.
    pub(crate) installed: Cell<usize>,
    stop: Rc<Cell<bool>>,
    drain_begins: RefCell<Slab<Waker>>,
    connection_closes: WakerList,
    next_tick: WakerList,
    completions: RefCell<Vec<Completion>>,
    inbox: RefCell<Inbox>,
}

/// What a core is made of, prepared by its thread.
pub(crate) struct Parts {
    pub(crate) handle: CoreHandle,
    pub(crate) handles: Arc<[CoreHandle]>,
    pub(crate) backend: BackendKind,
    pub(crate) options: Options,
    pub(crate) table: TableOwner,
    pub(crate) receive_buffers: Rc<BufferPool>,
    pub(crate) file_buffers: Rc<BufferPool>,
    pub(crate) ring: Option<Ring>,
    pub(crate) heartbeat: Arc<Heartbeat>,
}

impl Core {
    /// Makes the core of the calling thread.
    pub(crate) fn enter(parts: Parts) -> Rc<Self> {
        let core = Rc::new(Self {
            number: remote::register(&parts.handle.remote),
            counters: Arc::clone(&parts.handle.counters),
            handle: parts.handle,
            handles: parts.handles,
            backend: parts.backend,
            unsent: Tally::new(parts.options.core_unsent_bytes_max),
            unread: Tally::new(parts.options.core_unread_bytes_max),
            options: parts.options,
            clock: CoarseClock::new(),
            deadlines: Deadlines::new(),
            table: RefCell::new(parts.table),
            connections: RefCell::default(),
            receive_buffers: parts.receive_buffers,
            file_buffers: parts.file_buffers,
            ring: parts.ring.map(RefCell::new),
            starved: RefCell::default(),
            bulk_line: RefCell::default(),
            sending: RefCell::default(),
            tasks: Tasks::default(),
            heartbeat: parts.heartbeat,
            driver: RefCell::default(),
            running: Cell::new(false),
            share: Cell::new(SHARE),
            draining: Cell::new(false),
            listeners: Cell::new(0),
            installed: Cell::new(0),
            stop: Rc::default(),
            drain_begins: RefCell::default(),
            connection_closes: WakerList::default(),
            next_tick: WakerList::default(),
            completions: RefCell::default(),
            inbox: RefCell::default(),
        });
        CURRENT.with_borrow_mut(|current| *current = Some(Rc::clone(&core)));
        core
    }

    /// The core that the calling thread runs, if it runs one.
    #[must_use]
    pub fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Which of the cores it is, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.handle.index
    }

    /// A handle to this core that other threads may hold.
    #[must_use]
    pub fn handle(&self) -> &CoreHandle {
        &self.handle
    }

    /// Handles to all cores that were started together, this one among them, by index.
    #[must_use]
    pub fn handles(&self) -> &[CoreHandle] {
        &self.handles
    }

    /// Which back end the core runs on.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// The limits and sizes that the core was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The core's counters, as they are now.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Seconds since 1970, at most 50 ms and the poll under way behind. It costs a load.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// Starts a task on this core. It need not be `Send`; it is polled when it is woken, and dropped when the
    /// core stops. A panic ends the task alone, and is logged and counted.
    ///
    /// Wake-ups cost a push onto a list, so this is the place for connections. Use
    /// `tokio::task::spawn_local` where a join handle is wanted.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_boxed(LocalFuture::new(future));
    }

    pub(crate) fn spawn_boxed(&self, future: LocalFuture<()>) {
        self.counters.tasks_spawned.add(1);
        self.tasks.spawn(future);
        self.rouse();
    }

    /// A pinned buffer of 68 KiB, which holds 64 KiB of a file, encrypted or not; `None` when all are taken.
    #[must_use]
    pub fn take_buffer(&self) -> Option<PinnedBuf> {
        self.file_buffers.take()
    }

    /// Whether a graceful shutdown has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Waits until a graceful shutdown begins.
    pub async fn draining(&self) {
        let mut waiter = self.drain_waiter();
        poll_fn(|cx| waiter.poll(cx)).await;
    }

    pub(crate) fn drain_waiter(&self) -> DrainWaiter<'_> {
        DrainWaiter { core: self, key: None }
    }

    /// Connections that are open on this core.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.table.borrow().len()
    }

    /// Waits until no connection is open on this core.
    pub async fn connections_closed(&self) {
        poll_fn(|cx| {
            if self.open_connections() == 0 {
                return Poll::Ready(());
            }
            self.connection_closes.add(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Waits until a graceful shutdown has come to its end: nothing listens on this core any more, and no
    /// connection is open.
    pub async fn drained(&self) {
        self.draining().await;
        poll_fn(|cx| {
            if self.listeners.get() == 0 && self.open_connections() == 0 {
                return Poll::Ready(());
            }
            self.connection_closes.add(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Begins a graceful shutdown of this core: listeners hand out what has come to them and stop, and idle
    /// connections have [`Options::drain_idle`] left.
    pub fn drain(&self) {
        if self.draining.replace(true) {
            return;
        }
        for connection in self.open().iter().filter(|connection| connection.is_idle()) {
            connection.set_deadline(Some(self.options.drain_idle));
        }
        let waiting = self.drain_begins.take();
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Set when the core is to stop.
    pub(crate) fn stop_flag(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.stop)
    }

    /// The ring, for an operation to be queued. A task that Tokio polls asks for it while the driver may be asleep, so the
    /// driver is woken to hand the operation over.
    pub(crate) fn ring(&self) -> RefMut<'_, Ring> {
        self.rouse();
        self.ring.as_ref().expect("ring sockets exist only on a core with a ring").borrow_mut()
    }

    pub(crate) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }
}

/// Connections.
impl Core {
    pub(crate) fn may_accept(&self) -> bool {
        !self.draining.get() && self.has_room()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Connections that the table has room for.
    pub(crate) fn room(&self) -> usize {
        self.table.borrow().room()
    }

    pub(crate) fn listener_opened(&self) {
        self.listeners.set(self.listeners.get() + 1);
    }

    pub(crate) fn listener_closed(&self) {
        self.listeners.set(self.listeners.get() - 1);
        self.connection_closes.wake_all();
    }

    pub(crate) fn wake_when_one_closes(&self, waker: &Waker) {
        self.connection_closes.add(waker);
    }

    pub(crate) fn wake_at_next_tick(&self, waker: &Waker) {
        self.next_tick.add(waker);
        // Nothing may have needed ticks before.
        self.rouse();
    }

    /// The coarse time that a deadline counts from. A round keeps it up to date; a task that Tokio polls while the driver is
    /// asleep finds it behind, and the driver without a tick to wait for.
    pub(crate) fn now(&self) -> Tick {
        if self.running.get() {
            return self.clock.now();
        }
        self.rouse();
        self.clock.refresh()
    }

    pub(crate) fn opened(&self, connection: &Rc<Connection>) {
        self.counters.opened.add(1);
        self.counters.open.set(self.table.borrow().len() as u64);
        let slot = connection.id.slot() as usize;
        let mut connections = self.connections.borrow_mut();
        if slot >= connections.len() {
            connections.resize(slot + 1, None);
        }
        connections[slot] = Some(Rc::clone(connection));
    }

    pub(crate) fn closed(&self, connection: &Connection) {
        let slot = connection.id.slot();
        self.deadlines.clear(slot);
        self.table.borrow_mut().remove(connection.id);
        self.counters.closed.add(1);
        self.counters.open.set(self.table.borrow().len() as u64);
        let entry = self.connections.borrow_mut()[slot as usize].take();
        drop(entry);
        self.connection_closes.wake_all();
    }

    pub(crate) fn open(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().flatten().cloned().collect()
    }

    fn connection(&self, slot: u32) -> Option<Rc<Connection>> {
        Ref::map(self.connections.borrow(), |all| all.get(slot as usize).unwrap_or(&None)).clone()
    }

    pub(crate) fn count_received(&self, connection: &Connection, bytes: usize) {
        self.counters.received_bytes.add(bytes as u64);
        self.table.borrow().add_received(connection.id, bytes);
    }

    pub(crate) fn count_sent(&self, connection: &Connection, bytes: usize) {
        self.counters.sent_bytes.add(bytes as u64);
        if !connection.is_closed() {
            self.table.borrow().add_sent(connection.id, bytes);
        }
    }
}

/// The way round.
impl Core {
    /// Notes who is to be woken when a task becomes ready while the driver sleeps.
    pub(crate) fn driver_starts(&self, waker: &Waker) {
        self.running.set(true);
        self.driver.borrow_mut().get_or_insert_with(|| waker.clone()).clone_from(waker);
        self.handle.remote.set_driver(waker);
    }

    pub(crate) fn driver_pauses(&self) {
        self.running.set(false);
    }

    fn rouse(&self) {
        if !self.running.get()
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// Pending, and woken again, once a task has had its share: a peer that sends or takes without end must not keep the
    /// core from all others. On the ring nothing comes or goes within a poll, so that only epoll asks.
    pub(crate) fn poll_share(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(left) = self.share.get().checked_sub(1) {
            self.share.set(left);
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        // Who is polled by Tokio gets its next share from a round, too.
        self.rouse();
        Poll::Pending
    }

    fn wake(&self, task: u32) {
        self.tasks.wake(task);
        self.rouse();
    }

    /// One round: what other threads want, one turn of the ring with all that it completed, then every task
    /// that is ready. Returns whether there was anything to do.
    ///
    /// # Errors
    /// What the ring fails with for good.
    pub(crate) fn round(self: &Rc<Self>) -> io::Result<bool> {
        self.share.set(SHARE);
        // A clock that stood still while the core slept would let the deadlines of whoever comes now pass at once.
        self.clock.refresh();
        let mut busy = self.take_posts();
        if let Some(ring) = &self.ring {
            self.start_sends();
            busy |= self.turn(ring)?;
            self.feed_starved();
            busy |= self.feed_bulk_line();
        }
        busy |= self.run_ready();
        Ok(busy)
    }

    /// One turn of the ring, with all that it completed. Returns whether there was anything, or is more.
    #[inline(always)]
    fn turn(&self, ring: &RefCell<Ring>) -> io::Result<bool> {
        let mut batch = Batch { core: self, completions: self.completions.take(), next: 0 };
        let left_over = ring.borrow_mut().turn(&mut batch.completions)?;
        let busy = left_over || !batch.completions.is_empty();
        batch.complete();
        Ok(busy)
    }

    fn take_posts(self: &Rc<Self>) -> bool {
        let mut inbox = self.inbox.take();
        let any = self.handle.remote.take(&mut inbox);
        for task in inbox.woken.drain(..) {
            self.tasks.wake(task);
        }
        for job in inbox.jobs.drain(..) {
            if catch_unwind(AssertUnwindSafe(|| job(self))).is_err() {
                self.counters.panics.add(1);
                tracing::error!(core = self.index(), "work from another thread panicked; it alone has ended");
            }
        }
        self.inbox.replace(inbox);
        any
    }

    fn complete(&self, completion: Completion) {
        let op = self.ring().complete(completion);
        match op {
            Some(op) => dispatch(op, completion),
            None => tracing::error!(?completion, "a completion came for an operation that is not in flight"),
        }
    }

    /// Has what a connection sends handed over with the next turn, together with what is queued on it until then.
    pub(crate) fn send_soon(&self, connection: &Rc<Connection>) {
        self.sending.borrow_mut().push(Rc::clone(connection));
        self.rouse();
    }

    fn start_sends(&self) {
        let mut sending = self.sending.take();
        for connection in sending.drain(..) {
            with_ring(&connection, |socket| socket.start_send(&connection));
        }
        self.sending.replace(sending);
    }

    fn feed_starved(&self) {
        if self.starved.borrow().is_empty() {
            return;
        }
        for connection in self.starved.take() {
            if let Io::Ring(socket) = connection.io() {
                socket.receive_again(&connection);
            }
        }
    }

    /// Lets as many receive as there are bulk buffers listed; returns whether there were any.
    fn feed_bulk_line(&self) -> bool {
        let mut fed = 0;
        while fed < bulk::PROVIDED {
            let next = self.bulk_line.borrow_mut().pop_front();
            let Some(connection) = next else { break };
            with_ring(&connection, |socket| fed += u16::from(socket.take_bulk_turn(&connection)));
        }
        fed > 0
    }

    /// Polls each task that is ready now, and once.
    fn run_ready(&self) -> bool {
        let ready = self.tasks.ready();
        if ready > 0 {
            self.heartbeat.wake_watcher();
        }
        for _ in 0..ready {
            let Some(task) = self.tasks.next_ready() else { break };
            self.counters.task_polls.add(1);
            self.heartbeat.begin(task);
            self.share.set(SHARE);
            if self.tasks.poll(self.number, task) == Polled::Panicked {
                self.counters.panics.add(1);
                tracing::error!(core = self.index(), task, "a task panicked; it alone has ended");
            }
        }
        self.heartbeat.end();
        ready > 0
    }

    /// The tick that the core has to be awake for, if any: the next one when it is `active`, or something waits for it; else that
    /// of the first deadline.
    pub(crate) fn next_tick(&self, active: bool) -> Option<Tick> {
        let is_open = self.open_connections() > 0;
        let now = self.clock.now();
        // The gauges wait, if the last connection has closed since the last one.
        let waits = || self.gauges().iter().any(|(gauge, value)| gauge.get() != *value as u64);
        if (active && is_open) || !self.next_tick.is_empty() || waits() {
            return Some(now.after(1));
        }
        is_open.then(|| self.deadlines.earliest().min(now.after(IDLE_TICKS)))
    }

    fn gauges(&self) -> [(&Counter, usize); 3] {
        let counters = &self.counters;
        [
            (&counters.buffers_in_use, self.receive_buffers.in_use()),
            (&counters.unsent_bytes, self.unsent.held()),
            (&counters.unread_bytes, self.unread.held()),
        ]
    }

    /// What is done every 50 ms while the core is active: deadlines, requests to close, and the gauges.
    pub(crate) fn tick(&self) {
        let now = self.clock.refresh();
        let mut passed = Vec::new();
        self.deadlines.sweep(now, &mut passed);
        for slot in passed {
            if let Some(connection) = self.connection(slot) {
                connection.deadline_passed();
            }
        }
        let requests = self.table.borrow().close_requests();
        for slot in requests {
            if let Some(connection) = self.connection(slot) {
                connection.close_requested();
            }
        }
        for (gauge, value) in self.gauges() {
            gauge.set(value as u64);
        }
        self.counters.stalls.set(self.heartbeat.stalls());
        self.next_tick.wake_all();
    }

    /// Ends everything: tasks are dropped, connections reset, and the ring drained before its memory goes.
    pub(crate) fn leave(self: &Rc<Self>) {
        self.running.set(true);
        self.draining.set(true);
        spared(|| self.handle.remote.close());
        remote::unregister(self.number);
        self.tasks.abort_all();
        for connection in self.open() {
            spared(|| connection.reset());
        }
        if let Some(ring) = &self.ring {
            if !self.let_go(ring) {
                tracing::error!(
                    core = self.index(),
                    "the ring did not let go of its operations; their memory is kept"
                );
                ring.borrow().stop_listening();
                std::mem::forget(Rc::clone(self));
            }
            ring.borrow_mut().flush();
        }
        for connection in self.open() {
            connection.closed();
        }
        self.starved.take();
        self.bulk_line.take();
        self.sending.take();
        CURRENT.with_borrow_mut(Option::take);
    }

    /// Ends all operations and waits for them; returns whether none is left. What completes asks for more: a connection is
    /// reset once its last operation has ended, and only then the kernel lets go of what was sent without copying.
    fn let_go(&self, ring: &RefCell<Ring>) -> bool {
        let mut until = Instant::now() + LET_GO_MAX;
        let mut only_memory = false;
        ring.borrow_mut().cancel_all();
        while ring.borrow().in_flight() > 0 && Instant::now() < until {
            // After a panic the rest of the completions are given out with the next turn.
            match catch_unwind(AssertUnwindSafe(|| self.turn(ring))) {
                Ok(Err(_)) => return false,
                Ok(Ok(false)) => thread::sleep(Duration::from_millis(1)),
                Ok(Ok(true)) | Err(_) => {}
            }
            if !only_memory && ring.borrow().only_memory_is_left() {
                only_memory = true;
                until = until.min(Instant::now() + MEMORY_MAX);
            }
        }
        if !only_memory {
            return ring.borrow().in_flight() == 0;
        }
        let given_up = ring.borrow_mut().leave_memory();
        drop(given_up);
        true
    }
}

/// The completions of a turn. Those that a panic leaves over go back to the core: an operation whose last completion is lost
/// would be in flight for ever.
struct Batch<'a> {
    core: &'a Core,
    completions: Vec<Completion>,
    next: usize,
}

impl Batch<'_> {
    fn complete(&mut self) {
        while let Some(completion) = self.completions.get(self.next) {
            self.next += 1;
            self.core.complete(*completion);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.completions.drain(..self.next);
        self.core.completions.replace(std::mem::take(&mut self.completions));
    }
}

/// Runs one step of the end of a core: if it panics, the others are still made.
fn spared(step: impl FnOnce()) {
    // The panic hook has told of it.
    let _ = catch_unwind(AssertUnwindSafe(step));
}

/// Gives a completion to what it belongs to. A connection's socket is named no longer once the operation has completed.
fn dispatch(op: Op, completion: Completion) {
    let last = !completion.more();
    match op {
        Op::Receive(connection) => {
            on_socket(&connection, last, |socket| socket.on_received(&connection, completion));
        }
        Op::ReceiveBulk(connection) => {
            on_socket(&connection, last, |socket| socket.on_received_bulk(&connection, completion));
        }
        Op::ReceiveOwned(connection) => {
            on_socket(&connection, last, |socket| socket.on_received_owned(&connection, completion));
        }
        Op::Send(connection) => {
            on_socket(&connection, last, |socket| socket.on_sent(&connection, completion));
        }
        // The notification that follows the result is about the memory alone.
        Op::SendZeroCopy(op) => {
            let is_result = !completion.is_notification();
            on_socket(&op.connection, is_result, |socket| socket.on_sent(&op.connection, completion));
        }
        Op::Linger(op) => on_socket(&op.connection, last, |_| {}),
        Op::Unwatched(connection) => on_socket(&connection, last, |_| {}),
        Op::Accept(listener) => listener.on_completion(completion),
        Op::Oneshot(oneshot) => {
            oneshot.complete(completion.result);
            if let Some(connection) = oneshot.connection() {
                on_socket(connection, last, |_| {});
            }
        }
    }
}

fn on_socket(connection: &Rc<Connection>, named_no_longer: bool, f: impl FnOnce(&RingSocket)) {
    with_ring(connection, |socket| {
        f(socket);
        if named_no_longer {
            socket.named_no_longer(connection);
        }
    });
}

fn with_ring(connection: &Connection, f: impl FnOnce(&RingSocket)) {
    if let Io::Ring(socket) = connection.io() {
        f(socket);
    }
}

/// Tasks that wait for the same thing, each listed once.
#[derive(Default)]
struct WakerList(RefCell<Vec<Waker>>);

impl WakerList {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.borrow_mut();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn wake_all(&self) {
        if !self.is_empty() {
            self.0.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Waits for a graceful shutdown to begin. Most wait for as long as the core runs, so whoever gives up leaves nothing behind.
pub(crate) struct DrainWaiter<'a> {
    core: &'a Core,
    key: Option<usize>,
}

impl DrainWaiter<'_> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.is_draining() {
            return Poll::Ready(());
        }
        let mut waiting = self.core.drain_begins.borrow_mut();
        let Some(key) = self.key else {
            self.key = Some(waiting.insert(cx.waker().clone()));
            return Poll::Pending;
        };
        if !waiting[key].will_wake(cx.waker()) {
            let before = std::mem::replace(&mut waiting[key], cx.waker().clone());
            drop(waiting);
            drop(before);
        }
        Poll::Pending
    }
}

impl Drop for DrainWaiter<'_> {
    fn drop(&mut self) {
        // Once the shutdown has begun all have been woken, and none is listed any more.
        let waker = self.key.and_then(|key| self.core.drain_begins.borrow_mut().try_remove(key));
        drop(waker);
    }
}

/// Wakes a task by the two numbers in its waker, from whatever thread.
pub(crate) fn wake_task(core: u32, task: u32) {
    let local = CURRENT.try_with(|current| match &*current.borrow() {
        Some(current) if current.number == core => {
            current.wake(task);
            true
        }
        _ => false,
    });
    if local != Ok(true) {
        remote::wake(core, task);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("index", &self.index())
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
