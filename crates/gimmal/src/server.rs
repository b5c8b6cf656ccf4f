//! Servers: addresses, cores, and the way from start to stop.

use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use gimmal_http::Limits;
use gimmal_runtime::{
    Address, AddressError, Backend, BackendKind, ConnectionId, ConnectionInfo, CoreFailure, CoreHandle,
    Cores, CoresBuilder, CoresError, FailedCore, ListenError, ListenOptions, Listeners, LocalFuture, Options,
    Snapshot,
};
use gimmal_security::Finding;
use gimmal_security::audit::AuditEvent;
use gimmal_security::forwarded::TrustedProxies;
use gimmal_security::tls::{TlsConfigError, TlsServerConfig};
use ipnet::IpNet;

#[cfg(feature = "acme")]
use crate::acme::Acme;
use crate::app::App;
use crate::audit::{RecordsStop, record_of_server};
use crate::certificates::Certificates;
use crate::chores::Chores;
use crate::config::Timeouts;
use crate::redirect::{RedirectHosts, to_https};
use crate::router::{AppError, Blueprint};
use crate::serve::{self, Listening};
use crate::service::Config;
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
    /// The configuration is open to a known attack, and nobody said that this is wished.
    #[error("the server is not safe to start: {}", list(.0))]
    Unsafe(Vec<Finding>),
}

fn list(findings: &[Finding]) -> String {
    let each = |finding: &Finding| {
        format!("{finding} (or go on all the same with Server::accept_danger({:?}))", finding.code)
    };
    findings.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// What is served on an address.
#[derive(Clone)]
pub(crate) enum Protocol {
    Http,
    /// Sends every client to the same place over HTTPS, on this port.
    RedirectToHttps(u16),
    /// A service of raw bytes.
    Tcp(Arc<dyn Fn(Stream) -> LocalFuture<()> + Send + Sync>),
}

/// An address, and what is served on it.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) address: String,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<TlsServerConfig>,
    /// Who may connect, and must then say with the PROXY protocol who the client is.
    pub(crate) proxies: Option<TrustedProxies>,
}

impl Binding {
    fn new(address: &dyn fmt::Display, protocol: Protocol, tls: Option<TlsServerConfig>) -> Self {
        Self { address: address.to_string(), protocol, tls, proxies: None }
    }
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
    pub(crate) app: App,
    pub(crate) bindings: Vec<Binding>,
    listen: ListenOptions,
    cores: CoresBuilder,
    options: Options,
    pub(crate) config: Config,
    signals: bool,
    pub(crate) accepted_dangers: Vec<String>,
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
            accepted_dangers: Vec::new(),
        }
    }

    /// Serves the app on an address: `HOST:PORT` (port 0 takes a free one), `unix:PATH` or `unix:@NAME`. May be
    /// called several times.
    #[must_use]
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.bindings.push(Binding::new(&address, Protocol::Http, None));
        self
    }

    /// Serves the app on an address over TLS.
    ///
    /// Certificates are read again when their files change, on `SIGHUP`, and by
    /// [`ServerHandle::reload_certificates`], without dropping a connection. Those that an ACME server is to issue are
    /// obtained and renewed while the server runs.
    ///
    /// ```no_run
    /// use gimmal::{App, Server, tls::TlsServerConfig};
    ///
    /// let tls = TlsServerConfig::from_pem_files("server.pem", "server.key")?;
    /// Server::new(App::new()).bind_tls("[::]:443", &tls).redirect_to_https("[::]:80", 443).run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(
        feature = "acme",
        doc = r#"
With a certificate from Let's Encrypt:

```no_run
use gimmal::tls::TlsServerConfig;
use gimmal::tls::acme::{AcmeConfig, LETS_ENCRYPT};
use gimmal::{App, Server};

let acme = AcmeConfig::new(LETS_ENCRYPT, &["example.org", "www.example.org"], "/var/lib/site/acme")?
    .contact("mailto:admin@example.org")
    .agree_to_terms_of_service();
let tls = TlsServerConfig::from_acme(acme)?;
Server::new(App::new()).bind_tls("[::]:443", &tls).redirect_to_https("[::]:80", 443).run()?;
# Ok::<(), Box<dyn std::error::Error>>(())
```
"#
    )]
    #[must_use]
    pub fn bind_tls(mut self, address: impl fmt::Display, tls: &TlsServerConfig) -> Self {
        self.bindings.push(Binding::new(&address, Protocol::Http, Some(tls.clone())));
        self
    }

    /// Answers every request on an address in plain HTTP with a redirect (308) to the same place over HTTPS, on `port`.
    ///
    /// Clients are sent to this server's own hosts alone, so that nobody can have others sent elsewhere, through a cache
    /// for instance: to those of [`AllowedHosts`](crate::defence::AllowedHosts) in the [`Defences`](crate::defence::Defences)
    /// around the app, or else to those that the server has certificates for. Other hosts are answered with 421.
    #[must_use]
    pub fn redirect_to_https(mut self, address: impl fmt::Display, port: u16) -> Self {
        self.bindings.push(Binding::new(&address, Protocol::RedirectToHttps(port), None));
        self
    }

    /// Requires the PROXY protocol (version 1 or 2) on the address that was given last, from proxies in these networks:
    /// [`Request::peer_addr`](crate::Request::peer_addr) is then the client that the proxy names. The header comes
    /// before TLS, within [`Timeouts::header_read`]. A connection from elsewhere, or without a header, is closed without
    /// an answer. A proxy on a Unix socket counts as one at 127.0.0.1.
    ///
    /// ```no_run
    /// use gimmal::{App, Server};
    ///
    /// let app = App::new().get("/", async || "Hello, World!");
    /// Server::new(app).bind("0.0.0.0:8080").proxy_protocol(["10.0.0.0/24".parse()?]).run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If no address was given before.
    #[must_use]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = IpNet>) -> Self {
        let binding = self.bindings.last_mut().expect("Server::proxy_protocol comes after an address");
        // Which field they write is of no matter here.
        binding.proxies = Some(TrustedProxies::forwarded(trusted));
        self
    }

    /// Serves the app on an address before all others.
    pub(crate) fn bind_first(mut self, address: &str) -> Self {
        self.bindings.insert(0, Binding::new(&address, Protocol::Http, None));
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
        self.bindings.push(Binding::new(&address, Protocol::Tcp(service), None));
        self
    }

    /// [`tcp`](Self::tcp) over TLS: the service gets plaintext.
    #[must_use]
    pub fn tcp_tls<F: Future<Output = ()> + 'static>(
        self,
        address: impl fmt::Display,
        tls: &TlsServerConfig,
        service: impl Fn(Stream) -> F + Send + Sync + 'static,
    ) -> Self {
        let mut this = self.tcp(address, service);
        if let Some(binding) = this.bindings.last_mut() {
            binding.tls = Some(tls.clone());
        }
        this
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

    /// Sets what the other cores do when one fails. Default [`CoreFailure::StopAll`]: the server shuts down gracefully, and
    /// [`run`](Self::run) returns the error, so that what started the process can start it again.
    #[must_use]
    pub fn on_core_failure(mut self, then: CoreFailure) -> Self {
        self.cores = self.cores.on_failure(then);
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

    /// TLS handshakes that a core does at a time; who comes beyond waits for a turn. While somebody waits, a handshake
    /// that has taken longer than half a second is given up, so that a flood of them that are begun and not finished
    /// keeps nobody out. Default 256.
    #[must_use]
    pub fn handshakes_max(mut self, count: usize) -> Self {
        self.config.handshakes_max = count;
        self
    }

    /// Starts in spite of a danger that [`check`](Self::check) finds, named by its code.
    #[must_use]
    pub fn accept_danger(mut self, code: &str) -> Self {
        self.accepted_dangers.push(code.to_owned());
        self
    }

    /// Whether SIGTERM and SIGINT stop the server gracefully, and a second one at once; SIGHUP reloads certificates.
    /// Default true.
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
        if self.bindings.is_empty() {
            return Err(ServerError::NoAddress);
        }
        self.refuse_dangers()?;
        let audit_log = self.app.audit_log.clone();
        let redirect_hosts = RedirectHosts::of(&self.app, &self.bindings);
        #[cfg(feature = "acme")]
        let acme = Acme::of(&self.bindings);
        let plan = |app| {
            let blueprint = Blueprint::new(app)?;
            #[cfg(feature = "acme")]
            let blueprint = blueprint.answering(acme.challenges())?;
            Ok::<_, AppError>(Arc::new(blueprint))
        };
        let blueprint = plan(self.app)?;
        let count = self.cores.planned();
        let mut addresses = Vec::new();
        let mut sockets: Vec<_> = (0..count).map(|_| Vec::new()).collect();
        let mut configs = Vec::new();
        for binding in self.bindings {
            let own = match binding.protocol {
                Protocol::RedirectToHttps(port) => Some(plan(to_https(port, redirect_hosts.clone()))?),
                _ => None,
            };
            let listeners = Listeners::bind(&binding.address.parse()?, count, &self.listen)?;
            addresses.push((listeners.address().clone(), binding.tls.is_some()));
            for (socket, core) in listeners.into_sockets().zip(&mut sockets) {
                core.push(Listening { socket, binding: binding.clone(), own: own.clone() });
            }
            configs.extend(binding.tls);
        }
        let sockets = Mutex::new(sockets);
        let (config, signals, certificates) =
            (self.config, self.signals, Certificates::new(configs, audit_log.clone()));
        let chores = Chores::new(
            certificates.clone(),
            #[cfg(feature = "acme")]
            acme,
        );
        record_of_server(audit_log.as_ref(), AuditEvent::ServerStarted);
        let records_stop = RecordsStop(audit_log);
        let cores = self.cores.options(self.options).start(move |core| {
            let _ = &records_stop;
            let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            let sockets = std::mem::take(&mut sockets[core.index()]);
            let is_ours = chores.take_turns(&core);
            if signals {
                let certificates = chores.certificates().clone();
                core.spawn(serve::act_on_signals(Rc::clone(&core), certificates, is_ours));
            }
            serve::serve(core, sockets, Arc::clone(&blueprint), config.clone())
        })?;
        tracing::info!(
            addresses = addresses.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>().join(", "),
            cores = count,
            backend = %cores.backend(),
            "listening"
        );
        let (addresses, tls): (Vec<_>, Vec<_>) = addresses.into_iter().unzip();
        Ok(Running { addresses, first_is_tls: tls[0], certificates, cores })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.bindings.iter().map(|binding| &binding.address).collect();
        f.debug_struct("Server").field("addresses", &addresses).finish_non_exhaustive()
    }
}

/// A server that runs. Dropping it leaves it running.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<Address>,
    first_is_tls: bool,
    certificates: Certificates,
    cores: Cores<Result<(), CoresError>>,
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
            Some(address @ Address::Tcp(_)) if self.first_is_tls => format!("https://{address}"),
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
        ServerHandle { cores: self.cores.handles().into(), certificates: self.certificates.clone() }
    }

    /// Lists the cores that have failed so far, the first one first; see [`Server::on_core_failure`].
    #[must_use]
    pub fn failures(&self) -> Vec<FailedCore> {
        self.cores.failures()
    }

    /// Waits until the server has stopped: by a signal, by [`ServerHandle::shutdown`], or by a failure.
    ///
    /// # Errors
    /// [`ServerError::Cores`] if a core failed or was stopped at once; of several, the one that failed first.
    pub fn join(self) -> Result<(), ServerError> {
        self.cores.join()?.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }
}

/// Stops a server, lists its connections and reads its counters, from any thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    cores: Arc<[CoreHandle]>,
    certificates: Certificates,
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
        self.cores.get(id.core()).is_some_and(|core| core.request_close(id))
    }

    /// Reads all certificates, keys and revocation lists again, in the calling thread. Connections that are open go on
    /// with what they began with.
    ///
    /// # Errors
    /// What is wrong with a file, for each configuration that could not be read; it goes on with what it had.
    pub fn reload_certificates(&self) -> Result<(), Vec<TlsConfigError>> {
        self.certificates.reload()
    }

    /// When the first of the certificates in use expires, in seconds since 1970; `None` without any.
    #[must_use]
    pub fn certificates_expire_at(&self) -> Option<u64> {
        self.certificates.expire_at()
    }
}
