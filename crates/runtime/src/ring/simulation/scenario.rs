//! A core, its clients and its handlers, which do what a seed says.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::AsyncWrite;

use super::Ring;
use super::kernel::SimulatedKernel;
use super::random::{Random, byte_of};
use crate::backend::BackendKind;
use crate::connection::Io;
use crate::core::{Core, FILE_BUFFER_BYTES, Parts};
use crate::counters::CoreCounters;
use crate::options::Options;
use crate::pinned::BufferPool;
use crate::remote::{CoreHandle, Remote};
use crate::ring::{OneshotFuture, RingListener, Yields, writable_entry};
use crate::stream::Stream;
use crate::table::TableOwner;

/// Connections of one run.
const CLIENTS: usize = 40;
const ROUNDS: usize = 400;
/// Rounds in which all must come to its end once nothing new happens.
const CALM_ROUNDS: usize = 20_000;
/// Rounds after which an aborted connection is closed, even by a kernel that takes its time.
const ABORTED_ROUNDS: usize = 200;
const RECEIVE_BUFFERS: u16 = 32;
const RECEIVE_BUFFER_BYTES: u32 = 1024;
const UNREAD_BYTES_MAX: usize = 4096;
/// Any two neighbours hold more than one buffer's worth, one comes on top of the limit, and one was put back.
const UNREAD_BUFFERS_MAX: usize = 2 * UNREAD_BYTES_MAX.div_ceil(RECEIVE_BUFFER_BYTES as usize) + 2;

/// What the handlers of a run share.
struct Shared {
    random: RefCell<Random>,
    faults: RefCell<Vec<String>>,
    /// Handlers that have not come to their end.
    running: Cell<usize>,
    calm: Cell<bool>,
    /// Connections in the order in which they were accepted: the clients wait in that order.
    accepted: Cell<u64>,
}

impl Shared {
    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn fault(&self, what: impl Into<String>) {
        self.faults.borrow_mut().push(what.into());
    }
}

/// One connection, as its handler sees it.
struct Handler {
    shared: Rc<Shared>,
    stream: Rc<Stream>,
    marker: u64,
    sent: Rc<Cell<usize>>,
    received: usize,
}

impl Handler {
    fn bytes(&self, len: usize) -> Vec<u8> {
        let from = self.sent.get();
        self.sent.set(from + len);
        (from..from + len).map(|position| byte_of(self.marker, position)).collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        for (position, byte) in bytes.iter().enumerate() {
            if *byte != byte_of(!self.marker, self.received + position) {
                self.shared.fault(format!("connection {} received what was not sent to it", self.marker));
                break;
            }
        }
        self.received += bytes.len();
    }

    /// After an abort everything is refused, and nothing is waited for.
    async fn use_after_abort(&mut self) {
        self.stream.queue(self.bytes(64));
        pause().await;
        let after = Rc::clone(&self.stream);
        if after.send(self.bytes(64)).await.is_ok() {
            self.shared.fault("a send after an abort succeeded");
        }
        if after.recv().await.is_ok() {
            self.shared.fault("a receive after an abort succeeded");
        }
        if after.flush().await.is_ok() || after.shutdown().await.is_ok() || after.peer_addr().await.is_ok() {
            self.shared.fault("a call after an abort succeeded");
        }
        // Whatever the peer does or takes.
        let mut rounds = 0;
        while !self.stream.connection().is_closed() {
            rounds += 1;
            if rounds > ABORTED_ROUNDS {
                return self.shared.fault("an aborted connection stays open");
            }
            pause().await;
        }
    }

    /// What sending a file waits for; given up now and then.
    async fn wait_until_writable(&self) -> io::Result<()> {
        let Io::Ring(socket) = self.stream.connection().io() else { return Ok(()) };
        let waiting =
            OneshotFuture::on_socket(self.stream.connection(), socket, writable_entry, Yields::Nothing)?;
        let mut waiting = pin!(waiting);
        if self.shared.below(2) == 0 {
            let _ = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
            return Ok(());
        }
        waiting.await.map(drop)
    }

    async fn run(mut self) {
        loop {
            let calm = self.shared.calm.get();
            let action = if calm { 0 } else { self.shared.below(100) };
            match action {
                0..30 => match self.stream.recv().await {
                    Ok(bytes) if bytes.is_empty() => break,
                    Ok(bytes) => self.take(&bytes),
                    Err(_) => break,
                },
                30..35 => {
                    if let Some(bytes) = self.stream.try_recv() {
                        self.take(&bytes);
                    }
                }
                35..55 => {
                    let len = match self.shared.below(10) {
                        0 => 40_000,
                        1..4 => 2000,
                        _ => 1 + self.shared.below(100),
                    };
                    let data = self.bytes(len);
                    if self.stream.send(data).await.is_err() {
                        break;
                    }
                }
                55..62 => {
                    let (first, second) = (self.bytes(10), self.bytes(50));
                    self.stream.queue_all([first.into(), second.into()]);
                }
                62..66 => {
                    if self.stream.flush().await.is_err() {
                        break;
                    }
                }
                66..72 => self.stream.set_bulk(action % 2 == 0),
                72..76 => {
                    // A future that is polled once and dropped.
                    let stream = Rc::clone(&self.stream);
                    let mut receiving = pin!(stream.recv());
                    let polled = poll_fn(|cx| Poll::Ready(receiving.as_mut().poll(cx))).await;
                    match polled {
                        Poll::Ready(Ok(bytes)) if !bytes.is_empty() => self.take(&bytes),
                        Poll::Ready(_) => break,
                        Poll::Pending => {}
                    }
                }
                76 => {
                    if self.wait_until_writable().await.is_err() {
                        break;
                    }
                }
                77..79 => {
                    let stream = Rc::clone(&self.stream);
                    let mut asking = Box::pin(async move { stream.local_addr().await.map(drop) });
                    let _ = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
                }
                79..93 => pause().await,
                93..95 => {
                    let _ = poll_fn(|cx| Pin::new(&mut &*self.stream).poll_shutdown(cx)).await;
                    break;
                }
                95..96 => {
                    let _ = self.stream.shutdown().await;
                    break;
                }
                96..98 => {
                    self.stream.abort();
                    self.use_after_abort().await;
                    break;
                }
                _ => break,
            }
        }
        self.shared.running.set(self.shared.running.get() - 1);
    }
}

/// Waits for a round.
async fn pause() {
    let mut paused = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for the stream to be aborted by somebody else: whoever waits must be woken.
async fn wait_for_the_end(shared: Rc<Shared>, stream: Rc<Stream>) {
    while !shared.calm.get() && shared.below(30) != 0 {
        pause().await;
    }
    stream.abort();
    shared.running.set(shared.running.get() - 1);
}

async fn accept(core: Rc<Core>, listener: Rc<RingListener>, shared: Rc<Shared>) {
    loop {
        let stream = Rc::new(poll_fn(|cx| listener.poll_accept(cx)).await);
        shared.accepted.set(shared.accepted.get() + 1);
        let handler = Handler {
            shared: Rc::clone(&shared),
            stream,
            marker: shared.accepted.get(),
            sent: Rc::default(),
            received: 0,
        };
        if shared.below(6) == 0 {
            shared.running.set(shared.running.get() + 1);
            core.spawn(wait_for_the_end(Rc::clone(&shared), Rc::clone(&handler.stream)));
        }
        shared.running.set(shared.running.get() + 1);
        core.spawn(handler.run());
    }
}

fn core(seed: u64) -> (Rc<Core>, Rc<RefCell<SimulatedKernel>>) {
    let options = Options {
        connections_max: 16,
        unread_bytes_max: UNREAD_BYTES_MAX,
        unsent_bytes_max: 8192,
        ..Options::default()
    };
    let counters = Arc::new(CoreCounters::default());
    let table = TableOwner::new(0, options.connections_max);
    let handle = CoreHandle {
        index: 0,
        remote: Arc::new(Remote::default()),
        counters: Arc::clone(&counters),
        table: Arc::clone(table.table()),
    };
    let buffers = BufferPool::with_provided_ring(RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES, false).unwrap();
    let (ring, kernel) = Ring::simulated(seed, 20, Rc::clone(&buffers), counters);
    let core = Core::enter(Parts {
        handles: Arc::from([handle.clone()]),
        handle,
        backend: BackendKind::IoUring,
        table,
        receive_buffers: buffers,
        file_buffers: BufferPool::with_free_list(1, FILE_BUFFER_BYTES, false).unwrap(),
        ring: Some(ring),
        heartbeat: Arc::default(),
        options,
    });
    (core, kernel)
}

/// Checks what must hold after every round.
fn check(core: &Core, kernel: &SimulatedKernel, faults: &mut Vec<String>) {
    faults.extend(kernel.faults.iter().cloned());
    let ring = core.ring();
    if let Some(key) = kernel.holds().find(|key| !ring.owns(*key)) {
        faults.push(format!("the kernel holds operation {key:x}, whose memory has been let go of"));
    }
    drop(ring);
    let (mut unsent, mut unread) = (0, 0);
    for connection in core.open() {
        if let Io::Ring(socket) = connection.io() {
            let (bytes_unsent, bytes_unread) = socket.held();
            unsent += bytes_unsent;
            unread += bytes_unread;
        }
        if let Io::Ring(socket) = connection.io()
            && socket.receives_beyond_limit(UNREAD_BYTES_MAX)
        {
            faults.push("a connection receives on although too much is unread".into());
        }
        if let Io::Ring(socket) = connection.io()
            && socket.unread_buffers() > UNREAD_BUFFERS_MAX
        {
            faults.push(format!("a connection holds {} receive buffers", socket.unread_buffers()));
        }
    }
    if (unsent, unread) != (core.unsent.held(), core.unread.held()) {
        faults.push(format!(
            "{unsent} and {unread} bytes are held, {:?} and {:?} counted",
            core.unsent, core.unread
        ));
    }
}

/// Runs one interleaving. What went wrong, if anything did.
pub(super) fn run(seed: u64) -> Result<usize, String> {
    let (core, kernel) = core(seed);
    let shared = Rc::new(Shared {
        random: RefCell::new(Random::new(seed)),
        faults: RefCell::default(),
        running: Cell::new(0),
        calm: Cell::new(false),
        accepted: Cell::new(0),
    });
    let socket: OwnedFd = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?.into();
    let listener = RingListener::new(&core, socket);
    core.spawn(accept(Rc::clone(&core), Rc::clone(&listener), Rc::clone(&shared)));
    let outcome = drive(&core, &kernel, &shared);
    listener.close();
    core.leave();
    let mut faults = kernel.borrow().faults.clone();
    faults.extend(shared.faults.take());
    if kernel.borrow_mut().has_installed() {
        faults.push("a descriptor that was installed has not been closed".into());
    }
    for (index, socket) in kernel.borrow().sockets.iter().enumerate() {
        if socket.closed != usize::from(socket.accepted) {
            faults.push(format!("connection {index} was closed {} times", socket.closed));
        }
    }
    match (outcome, faults.first()) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(fault)) => Err(fault.clone()),
        (Ok(()), None) => Ok(kernel.borrow().entries),
    }
}

fn drive(core: &Rc<Core>, kernel: &Rc<RefCell<SimulatedKernel>>, shared: &Shared) -> Result<(), String> {
    let failed = |error: io::Error| format!("the ring failed: {error}");
    let mut faults = Vec::new();
    for _ in 0..ROUNDS {
        {
            let mut kernel = kernel.borrow_mut();
            if kernel.sockets.len() < CLIENTS && shared.below(4) == 0 {
                kernel.connect();
            }
            kernel.clients();
            kernel.clients();
        }
        core.round().map_err(failed)?;
        if shared.below(50) == 0
            && let Some(connection) = core.open().first()
        {
            connection.deadline_passed();
        }
        check(core, &kernel.borrow(), &mut faults);
        if let Some(fault) = faults.pop() {
            return Err(fault);
        }
    }
    shared.calm.set(true);
    kernel.borrow_mut().calm();
    let everything_ended = || shared.running.get() == 0 && core.open_connections() == 0;
    for _ in 0..CALM_ROUNDS {
        core.round().map_err(failed)?;
        if everything_ended() {
            return Ok(());
        }
    }
    Err(format!(
        "{} handlers and {} connections did not come to their end",
        shared.running.get(),
        core.open_connections()
    ))
}

/// Its memory is kept, since the kernel may write to it; but clients must not go on connecting to it.
#[test]
fn a_core_whose_ring_is_broken_listens_no_more() {
    let (core, kernel) = core(1);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = RingListener::new(&core, socket.into());
    kernel.borrow_mut().calm();
    let accepting = Rc::clone(&listener);
    core.spawn(async move {
        poll_fn(|cx| accepting.poll_accept(cx)).await;
    });
    for _ in 0..4 {
        core.round().unwrap();
    }
    assert!(core.ring().in_flight() > 0, "the accept is under way");
    assert!(std::net::TcpStream::connect(address).is_ok());
    kernel.borrow_mut().broken = true;
    assert!(core.round().is_err());
    core.leave();
    drop((listener, core));
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// Runs many interleavings; `GIMMAL_SIMULATION_SEED` runs one, `GIMMAL_SIMULATION_RUNS` says how many.
#[test]
fn no_interleaving_reaches_another_connection_or_loses_memory() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("GIMMAL_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("GIMMAL_SIMULATION_RUNS").unwrap_or(400),
    };
    let mut entries = 0;
    for seed in seeds {
        match run(seed) {
            Ok(count) => entries += count,
            Err(fault) => panic!("{fault}; GIMMAL_SIMULATION_SEED={seed} shows it again"),
        }
    }
    assert!(entries > 0, "something was done");
}
