//! Servers: addresses, cores, and the way from start to stop.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use gimmal_http::Limits;
use gimmal_runtime::{
    Address, AddressError, Backend, BackendKind, ConnectionId, ConnectionInfo, Core, CoreHandle, Cores,
    CoresBuilder, CoresError, ListenError, ListenOptions, Listener, Listeners, LocalFuture, Options,
    Snapshot, StopSignals,
};
use tracing::Instrument;

use crate::app::App;
use crate::config::Timeouts;
use crate::connection;
use crate::router::{AppError, Blueprint};
use crate::service::{Config, Service};
use crate::stream::Stream;

/// Why a server did not start, or did not come to an orderly end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No address was given.
    #[error("the server has no address to listen on: give it one with Server::bind or Server::tcp")]
    NoAddress,
    /// A text that is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The app is not consistent.
    #[error(transparent)]
    App(#[from] AppError),
    /// The cores could not be started, or one of them failed.
    #[error(transparent)]
    Cores(#[from] CoresError),
}

/// What is served on an address.
#[derive(Clone)]
enum Protocol {
    Http,
    /// A service of raw bytes.
    Tcp(Arc<dyn Fn(Stream) -> LocalFuture<()> + Send + Sync>),
}

/// A server: an [`App`], addresses, and how they are served. All limits and time-outs are on by default.
///
/// ```no_run
/// use gimmal::{App, Backend, Server};
///
/// let app = App::new().get("/", async || "Hello, World!");
/// Server::new(app).bind("127.0.0.1:8080").bind("unix:/run/hello.sock").cores(4).run()?;
/// # Ok::<(), gimmal::ServerError>(())
/// ```
pub struct Server {
    app: App,
    bindings: Vec<(String, Protocol)>,
    listen: ListenOptions,
    cores: CoresBuilder,
    options: Options,
    config: Config,
    signals: bool,
}

impl Server {
    /// A server of `app`, without an address yet.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self {
            app,
            bindings: Vec::new(),
            listen: ListenOptions::default(),
            cores: Cores::builder(),
            options: Options::default(),
            config: Config::default(),
            signals: true,
        }
    }

    /// Serves the app on an address: `HOST:PORT` (port 0 takes a free one), `unix:PATH` or `unix:@NAME`. May be
    /// called several times.
    #[must_use]
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.bindings.push((address.to_string(), Protocol::Http));
        self
    }

    /// Serves the app on an address before all others.
    pub(crate) fn bind_first(mut self, address: &str) -> Self {
        self.bindings.insert(0, (address.to_owned(), Protocol::Http));
        self
    }

    /// Serves raw bytes on an address: `service` is called with each connection, on the core that accepted it.
    ///
    /// ```no_run
    /// use gimmal::{App, Server, Stream};
    ///
    /// async fn echo(stream: Stream) {
    ///     while let Ok(bytes) = stream.recv().await {
    ///         if bytes.is_empty() || stream.send(bytes).await.is_err() {
    ///             break;
    ///         }
    ///     }
    /// }
    /// Server::new(App::new()).tcp("127.0.0.1:7", echo).run()?;
    /// # Ok::<(), gimmal::ServerError>(())
    /// ```
    #[must_use]
    pub fn tcp<F: Future<Output = ()> + 'static>(
        mut self,
        address: impl fmt::Display,
        service: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self {
        let service = Arc::new(move |stream| LocalFuture::new(service(stream)));
        self.bindings.push((address.to_string(), Protocol::Tcp(service)));
        self
    }

    /// How many cores. Default: as many as the affinity mask and the control groups' quota grant.
    #[must_use]
    pub fn cores(mut self, count: usize) -> Self {
        self.cores = self.cores.count(count);
        self
    }

    /// The CPUs to pin the cores to, in turn.
    #[must_use]
    pub fn cpus(mut self, cpus: Vec<usize>) -> Self {
        self.cores = self.cores.cpus(cpus);
        self
    }

    /// Which back end. Default [`Backend::Auto`]: io_uring where the host allows it, else epoll.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.cores = self.cores.backend(backend);
        self
    }

    /// Sizes and limits of each core, such as the number of connections.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Options of the listening sockets.
    #[must_use]
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.listen = options;
        self
    }

    /// How much a client may send.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// How long and how slow a client may be.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// Whether each request is logged, as a `tracing` event of the target `gimmal::access`. Default false.
    #[must_use]
    pub fn access_log(mut self, on: bool) -> Self {
        self.config.access_log = on;
        self
    }

    /// Whether SIGTERM and SIGINT stop the server gracefully, and a second one at once. Default true.
    #[must_use]
    pub fn signals(mut self, on: bool) -> Self {
        self.signals = on;
        self
    }

    /// Serves until the server is stopped by a signal.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn run(self) -> Result<(), ServerError> {
        self.start()?.join()
    }

    /// Starts serving, and returns when all addresses are listened on.
    ///
    /// # Errors
    /// [`ServerError`]; then nothing runs.
    ///
    /// ```
    /// use gimmal::{App, Server};
    ///
    /// let server = Server::new(App::new()).bind("127.0.0.1:0").start()?;
    /// println!("listening on {}", server.url());
    /// server.handle().shutdown();
    /// server.join()?;
    /// # Ok::<(), gimmal::ServerError>(())
    /// ```
    pub fn start(self) -> Result<Running, ServerError> {
        let blueprint = Arc::new(Blueprint::new(self.app)?);
        if self.bindings.is_empty() {
            return Err(ServerError::NoAddress);
        }
        let count = self.cores.planned();
        let mut addresses = Vec::new();
        let mut sockets: Vec<_> = (0..count).map(|_| Vec::new()).collect();
        for (address, protocol) in self.bindings {
            let listeners = Listeners::bind(&address.parse()?, count, &self.listen)?;
            addresses.push(listeners.address().clone());
            for (socket, core) in listeners.into_sockets().zip(&mut sockets) {
                core.push((socket, protocol.clone()));
            }
        }
        let sockets = Mutex::new(sockets);
        let (config, signals) = (self.config, self.signals);
        let cores = self.cores.options(self.options).start(move |core| {
            let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            let sockets = std::mem::take(&mut sockets[core.index()]);
            serve(core, sockets, Arc::clone(&blueprint), config.clone(), signals)
        })?;
        tracing::info!(
            addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            cores = count,
            backend = %cores.backend(),
            "listening"
        );
        Ok(Running { addresses, cores })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.bindings.iter().map(|(address, _)| address).collect();
        f.debug_struct("Server").field("addresses", &addresses).finish_non_exhaustive()
    }
}

/// The main future of a core: it ends when all connections have.
async fn serve(
    core: Rc<Core>,
    sockets: Vec<(OwnedFd, Protocol)>,
    blueprint: Arc<Blueprint>,
    config: Config,
    signals: bool,
) {
    let shutdown = config.timeouts.shutdown;
    let service = Service::new(&blueprint, config);
    for (socket, protocol) in sockets {
        match Listener::new(&core, socket) {
            Ok(listener) => core.spawn(accept(Rc::clone(&core), listener, protocol, Rc::clone(&service))),
            Err(error) => tracing::error!(core = core.index(), %error, "a socket cannot be accepted on"),
        }
    }
    if signals && core.index() == 0 {
        core.spawn(stop_on_signal(Rc::clone(&core)));
    }
    core.draining().await;
    if tokio::time::timeout(shutdown, core.connections_closed()).await.is_err() {
        tracing::warn!(
            core = core.index(),
            connections = core.open_connections(),
            "the time to stop is over; connections are cut off"
        );
    }
}

async fn accept(core: Rc<Core>, listener: Listener, protocol: Protocol, service: Rc<Service>) {
    while let Some(stream) = listener.accept().await {
        let span = tracing::debug_span!("connection", id = %stream.id());
        let stream = Stream::plain(stream);
        let serving = match &protocol {
            Protocol::Http => LocalFuture::new(connection::serve(stream, Rc::clone(&service))),
            Protocol::Tcp(serve) => serve(stream),
        };
        if span.is_disabled() {
            core.spawn(serving);
        } else {
            core.spawn(serving.instrument(span));
        }
    }
}

async fn stop_on_signal(core: Rc<Core>) {
    let mut signals = match StopSignals::new() {
        Ok(signals) => signals,
        Err(error) => {
            return tracing::error!(%error, "signals cannot be watched; only a call stops the server");
        }
    };
    let signal = signals.recv().await;
    tracing::info!(signal, "stopping: no new connections, and those that are busy have time to finish");
    core.handles().iter().for_each(CoreHandle::drain);
    let signal = signals.recv().await;
    tracing::warn!(signal, "stopping at once");
    core.handles().iter().for_each(CoreHandle::stop);
}

/// A server that runs. Dropping it leaves it running.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<Address>,
    cores: Cores<()>,
}

impl Running {
    /// The addresses that are listened on, in the order in which they were given; port 0 has become a real one.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The first address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self.addresses.first() {
            Some(address @ Address::Tcp(_)) => format!("http://{address}"),
            Some(address) => address.to_string(),
            None => String::new(),
        }
    }

    /// The back end that it runs on.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.cores.backend()
    }

    /// A handle that stops the server, lists its connections and reads its counters, from any thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { cores: self.cores.handles().into() }
    }

    /// Waits until the server has stopped: by a signal, by [`ServerHandle::shutdown`], or by a failure.
    ///
    /// # Errors
    /// [`ServerError::Cores`] if a core failed or was stopped at once.
    pub fn join(self) -> Result<(), ServerError> {
        self.cores.join()?;
        Ok(())
    }
}

/// Stops a server, lists its connections and reads its counters, from any thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    cores: Arc<[CoreHandle]>,
}

impl ServerHandle {
    /// Begins to stop gracefully: no new connections; requests that are under way are answered, with
    /// `Connection: close`; idle connections are closed; after [`Timeouts::shutdown`] what is left is cut off.
    pub fn shutdown(&self) {
        self.cores.iter().for_each(CoreHandle::drain);
    }

    /// Stops at once.
    pub fn stop(&self) {
        self.cores.iter().for_each(CoreHandle::stop);
    }

    /// The counters of all cores together.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.cores.iter().fold(Snapshot::default(), |sum, core| sum + core.counters())
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.cores.iter().flat_map(|core| core.table().connections()).collect()
    }

    /// Asks for a connection to be closed; `false` if it is gone.
    #[must_use]
    pub fn close(&self, id: ConnectionId) -> bool {
        self.cores.get(id.core()).is_some_and(|core| core.table().request_close(id))
    }
}
