//! Listening and connecting.

use std::fmt;
use std::fs::{File, TryLockError};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::address::Address;
use crate::connection::{Connection, Io};
use crate::core::Core;
use crate::epoll::{self, EpollListener};
use crate::ring::{OneshotFuture, RingListener, RingSocket, Yields};
use crate::stream::Stream;

/// Options of a listening socket; accepted connections inherit those that are about connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted, on each core; the kernel caps it at `net.core.somaxconn`.
    /// Default 4096.
    pub backlog: u32,
    /// `TCP_NODELAY`: send at once what is there. Default true.
    pub nodelay: bool,
    /// How long a connection may be silent before the kernel probes whether the peer is still there; `None`
    /// for never. Default 60 s.
    pub keepalive: Option<Duration>,
    /// `TCP_DEFER_ACCEPT`: hand a connection over only once it has sent something, or this time has passed.
    /// Default off.
    pub defer_accept: Option<Duration>,
    /// `TCP_FASTOPEN`: how many connections may send data with their first packet. Default off.
    pub fast_open: Option<u32>,
    /// Whether an IPv6 socket takes IPv6 alone; if not, `[::]` takes IPv4 as well. Default false.
    pub only_v6: bool,
    /// Whether another process of the same user may listen on the same port at the same time and share its
    /// connections. Default false: a port that is taken is an error, although the cores share it among
    /// themselves.
    pub share_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            nodelay: true,
            keepalive: Some(Duration::from_secs(60)),
            defer_accept: None,
            fast_open: None,
            only_v6: false,
            share_port: false,
        }
    }
}

/// How long the kernel may take to free the address of a process that has ended.
const FREED_WITHIN: Duration = Duration::from_secs(1);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", cure(source))]
pub struct ListenError {
    address: Address,
    source: io::Error,
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has it: stop that one, or choose another port)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE; a socket file needs a folder that you may write to)"
        }
        io::ErrorKind::AlreadyExists => {
            " (it is no socket, and is left alone: remove it, or choose another path)"
        }
        io::ErrorKind::AddrNotAvailable => " (this host has no such address)",
        _ => "",
    }
}

/// Sockets that listen on one address, one for each core. Port 0 has been resolved to a real one.
#[derive(Debug)]
pub struct Listeners {
    address: Address,
    sockets: Vec<Socket>,
}

impl Listeners {
    /// Binds `cores` sockets to one address and listens on them.
    ///
    /// A TCP port is shared by `SO_REUSEPORT`, so that the kernel spreads connections over the cores; a Unix
    /// socket is one socket that all cores accept from. A socket file that nobody listens on any more is
    /// replaced; any other file stays, and is an error.
    ///
    /// An address in use is tried again for a second: the kernel frees those of a process that was killed some
    /// milliseconds after its end.
    ///
    /// # Errors
    /// [`ListenError`], with the address and what to do about it.
    pub fn bind(address: &Address, cores: usize, options: &ListenOptions) -> Result<Self, ListenError> {
        let bound = patiently(|| match address {
            Address::Tcp(_) => bind_tcp(address, cores, options),
            _ => bind_unix(address, cores, options),
        });
        let sockets = bound.map_err(|source| ListenError { address: address.clone(), source })?;
        let address =
            match (address, sockets.first().map(|socket| socket.local_addr().and_then(Address::try_from))) {
                (Address::Tcp(_), Some(Ok(real))) => real,
                _ => address.clone(),
            };
        Ok(Self { address, sockets })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The sockets, in the order of the cores.
    pub fn into_sockets(self) -> impl Iterator<Item = OwnedFd> {
        self.sockets.into_iter().map(OwnedFd::from)
    }
}

/// Tries again for a moment while the address is in use.
fn patiently<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + FREED_WITHIN;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(FREED_WITHIN / 50);
            }
            result => return result,
        }
    }
}

fn bind_tcp(address: &Address, cores: usize, options: &ListenOptions) -> io::Result<Vec<Socket>> {
    let mut target = SockAddr::try_from(address)?;
    if !options.share_port && address.as_tcp().is_some_and(|address| address.port() != 0) {
        // Sharing is for our own cores: with a socket that does not share, see that nobody else is there.
        tcp_socket(&target, options)?.bind(&target)?;
    }
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = tcp_socket(&target, options)?;
        socket.set_reuse_port(true)?;
        socket.bind(&target)?;
        target = socket.local_addr()?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(backlog_of(options))?;
    }
    Ok(sockets)
}

fn tcp_socket(target: &SockAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(target.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if target.domain() == Domain::IPV6 {
        socket.set_only_v6(options.only_v6)?;
    }
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(after) = options.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
    }
    if let Some(after) = options.defer_accept {
        set_tcp_option(&socket, libc::TCP_DEFER_ACCEPT, after.as_secs().max(1) as libc::c_int)?;
    }
    if let Some(queue) = options.fast_open {
        set_tcp_option(
            &socket,
            libc::TCP_FASTOPEN,
            libc::c_int::try_from(queue).unwrap_or(libc::c_int::MAX),
        )?;
    }
    Ok(socket)
}

fn set_tcp_option(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the kernel reads one int, which lives through the call; the socket is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bind_unix(address: &Address, cores: usize, options: &ListenOptions) -> io::Result<Vec<Socket>> {
    let target = SockAddr::try_from(address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Address::Unix(path) = address {
        // Held until the socket listens: who looks in between would take it for one that was left behind.
        let _alone = lock_folder_of(path)?;
        match socket.bind(&target) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_if_left_behind(path, &target, error)?;
                socket.bind(&target)?;
            }
            bound => bound?,
        }
        socket.listen(backlog_of(options))?;
    } else {
        socket.bind(&target)?;
        socket.listen(backlog_of(options))?;
    }
    let mut sockets = Vec::with_capacity(cores);
    for _ in 1..cores {
        sockets.push(socket.try_clone()?);
    }
    sockets.push(socket);
    Ok(sockets)
}

fn backlog_of(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// Keeps other servers that bind a socket in the same folder out; `None` where the folder cannot be read.
///
/// # Errors
/// `AddrInUse` while another one is at it.
fn lock_folder_of(path: &Path) -> io::Result<Option<File>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = File::open(folder) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AddrInUse.into()),
        // The file system has no locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes a socket file that nobody listens on.
///
/// # Errors
/// `in_use` if somebody does, and `AlreadyExists` if it is no socket.
fn remove_if_left_behind(path: &Path, target: &SockAddr, in_use: io::Error) -> io::Result<()> {
    // Connecting to a file that is no socket is refused, too.
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket has this name"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server whose backlog is full has no room for the probe, and is there all the same.
    probe.set_nonblocking(true)?;
    match probe.connect(target) {
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(in_use),
    }
}

enum Accepting {
    Ring(Rc<RingListener>),
    Epoll(EpollListener),
}

/// A listening socket on this core.
///
/// Accepting stops while the core holds [`Options::connections_max`](crate::Options::connections_max)
/// connections and goes on when one has closed. Dropping it stops listening.
pub struct Listener {
    core: Rc<Core>,
    accepting: Accepting,
}

impl Listener {
    /// Accepts on `socket`, which must listen already; see [`Listeners`].
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn new(core: &Rc<Core>, socket: OwnedFd) -> io::Result<Self> {
        let accepting = if core.has_ring() {
            Accepting::Ring(RingListener::new(core, socket))
        } else {
            Accepting::Epoll(EpollListener::new(core, socket.into())?)
        };
        core.listener_opened();
        Ok(Self { core: Rc::clone(core), accepting })
    }

    /// The next connection; `None` once the core is being shut down gracefully and all connections that had come by
    /// then were handed out: their clients have sent a request already, most likely.
    ///
    /// Failures to accept (no descriptors, no memory) are logged and counted, and accepting goes on: they are
    /// no reason for a server to end.
    ///
    /// # Cancel safety
    /// No connection is lost by dropping the future.
    pub async fn accept(&self) -> Option<Stream> {
        let mut shutdown = self.core.drain_waiter();
        poll_fn(|cx| {
            let draining = shutdown.poll(cx).is_ready();
            match &self.accepting {
                Accepting::Ring(listener) if draining => listener.poll_accept_waiting(cx),
                Accepting::Ring(listener) => listener.poll_accept(cx).map(Some),
                Accepting::Epoll(listener) if draining => Poll::Ready(listener.accept_waiting()),
                Accepting::Epoll(listener) => listener.poll_accept(cx).map(Some),
            }
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        match &self.accepting {
            Accepting::Ring(listener) => listener.close(),
            Accepting::Epoll(listener) => listener.close(),
        }
        self.core.listener_closed();
    }
}

/// A connection that waits in the backlog of a listening socket, if there is one.
pub(crate) fn accept_waiting(socket: &Socket) -> Option<Socket> {
    socket.set_nonblocking(true).ok()?;
    loop {
        match socket.accept() {
            Ok((accepted, _)) => return Some(accepted),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("core", &self.core.index()).finish_non_exhaustive()
    }
}

impl Core {
    /// Opens a connection to `address`, with `TCP_NODELAY` set.
    ///
    /// # Errors
    /// What connecting fails with, such as `ConnectionRefused`; `ResourceBusy` when the core holds as many
    /// connections as it may. Bound it in time with `tokio::time::timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect(self: &Rc<Self>, address: &Address) -> io::Result<Stream> {
        let target = SockAddr::try_from(address)?;
        let socket = Socket::new(target.domain(), Type::STREAM, None)?;
        if target.domain() != Domain::UNIX {
            socket.set_tcp_nodelay(true)?;
        }
        let io = if self.has_ring() {
            // A blocking socket: the ring waits for it, and sends wait for all of their data.
            let target = Box::new(target);
            let descriptor = OwnedFd::from(socket);
            let fd = types::Fd(std::os::fd::AsRawFd::as_raw_fd(&descriptor));
            let entry = opcode::Connect::new(fd, target.as_ptr().cast(), target.len()).build();
            let descriptor = Rc::new(descriptor);
            let memory = Box::new((target, Rc::clone(&descriptor)));
            OneshotFuture::new(self, entry, Yields::Nothing, memory).await?;
            // The operation has completed and has let go of its share.
            let descriptor = Rc::try_unwrap(descriptor).or_else(|shared| shared.try_clone())?;
            Io::Ring(RingSocket::descriptor(descriptor))
        } else {
            Io::Epoll(epoll::connect(socket, &target).await?)
        };
        Connection::open(self, io).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                "this core holds as many connections as Options::connections_max allows",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_becomes_one_port_for_all_cores() {
        let listeners =
            Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 3, &ListenOptions::default()).unwrap();
        let port = listeners.address().as_tcp().unwrap().port();
        assert_ne!(port, 0);
        for socket in &listeners.sockets {
            assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().port(), port);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_with_its_cure() {
        let first = Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 2, &ListenOptions::default()).unwrap();
        let error = Listeners::bind(first.address(), 2, &ListenOptions::default()).unwrap_err().to_string();
        assert!(error.contains("another program has it"), "{error}");
        let sharing = ListenOptions { share_port: true, ..Default::default() };
        Listeners::bind(first.address(), 2, &sharing).unwrap();
    }

    #[test]
    fn a_socket_file_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("s"));
        let first = Listeners::bind(&address, 2, &ListenOptions::default()).unwrap();
        assert!(Listeners::bind(&address, 1, &ListenOptions::default()).is_err());
        drop(first);
        Listeners::bind(&address, 1, &ListenOptions::default()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("data.db"), folder.path().join("link"));
        std::fs::write(&file, "rows").unwrap();
        // A link to a socket that nobody listens on: following it would look like one.
        let left_behind = folder.path().join("left_behind");
        drop(std::os::unix::net::UnixListener::bind(&left_behind).unwrap());
        std::os::unix::fs::symlink(&left_behind, &link).unwrap();
        for path in [&file, &link] {
            let error =
                Listeners::bind(&Address::Unix(path.clone()), 1, &ListenOptions::default()).unwrap_err();
            assert!(error.to_string().contains("it is no socket"), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"rows");
        assert!(std::fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
    }

    #[test]
    fn a_server_with_a_full_backlog_keeps_its_socket_and_nobody_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("s"));
        let options = ListenOptions { backlog: 0, ..Default::default() };
        let _first = Listeners::bind(&address, 1, &options).unwrap();
        let target = SockAddr::try_from(&address).unwrap();
        let mut clients = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let Ok(()) = client.connect(&target) else { break };
            clients.push(client);
        }
        let error = Listeners::bind(&address, 1, &options).unwrap_err().to_string();
        assert!(error.contains("another program has it"), "{error}");
        clients[0].send(b"still there").unwrap();
    }

    #[test]
    fn an_address_that_is_freed_a_moment_later_is_not_in_use() {
        let folder = tempfile::tempdir().unwrap();
        for address in ["127.0.0.1:0".parse().unwrap(), Address::Unix(folder.path().join("s"))] {
            let first = Listeners::bind(&address, 2, &ListenOptions::default()).unwrap();
            let address = first.address().clone();
            let frees = thread::spawn(move || {
                thread::sleep(Duration::from_millis(200));
                drop(first);
            });
            Listeners::bind(&address, 2, &ListenOptions::default()).unwrap();
            frees.join().unwrap();
        }
    }

    #[test]
    fn every_option_is_taken() {
        let options = ListenOptions {
            defer_accept: Some(Duration::from_secs(1)),
            fast_open: Some(16),
            only_v6: true,
            ..Default::default()
        };
        Listeners::bind(&"[::1]:0".parse().unwrap(), 1, &options).unwrap();
    }
}
