//! An HTTP/1.1 client that runs on a core, in plain text and over TLS.
//!
//! It uses the core's own sockets, in the same submissions as the server's, and the same codec. Each core has a client
//! of its own, with connections of its own; give it to handlers with
//! [`App::state_per_core`](crate::App::state_per_core).
//!
//! ```no_run
//! use gimmal::client::{Client, ClientError};
//! use gimmal::{App, State};
//!
//! async fn front_page(client: State<Client>) -> Result<Vec<u8>, gimmal::Error> {
//!     let response = client.get("http://example.org/").send().await?;
//!     Ok(response.bytes(1 << 20).await?.to_vec())
//! }
//! let app = App::new().state_per_core(Client::new).get("/", front_page);
//! ```
//!
//! For `https` URLs the server must prove by its certificate to be the host of the URL. Whom to trust, and what the client
//! proves itself with, is for [`ClientOptions::tls`] to say; by default it trusts whom the system trusts. Sessions are
//! resumed, also across cores. A body that ends with the connection is whole only if the server says so by a
//! close_notify (RFC 9112, section 9.8); one that was cut off is
//! [`ResponseBodyError::Incomplete`](crate::ResponseBodyError::Incomplete).
//!
//! A handler that fails with what the client or the body of a response failed with answers 502, or 504 after a time-out:
//! see [`ClientError::status`] and [`BodyError::status`](crate::BodyError::status).
//!
//! Bodies stream both ways, at the same time if both sides want it. Nothing is followed or repeated that was not
//! asked for, but for one thing: a request that is idempotent and whose body is in memory is sent once more if the
//! pooled connection that it went out on turns out to have been closed by the server.

mod error;
mod exchange;
mod names;
mod origin;
mod pool;
mod redirect;
mod request;
mod response;
mod roots;
mod upload;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use gimmal_http::Limits;
use gimmal_security::tls::TlsClientConfig;
use http::Method;

pub use error::{ClientError, Phase};
#[cfg(feature = "proxy")]
pub(crate) use exchange::{Outgoing, Sign, exchange};
#[cfg(feature = "proxy")]
pub(crate) use origin::Origin;
use pool::Pool;
pub use request::ClientRequest;
pub use response::ClientResponse;

/// How a client behaves.
///
/// ```
/// use std::time::Duration;
/// use gimmal::client::{Client, ClientOptions};
///
/// let options = ClientOptions { redirects_max: 5, whole: Some(Duration::from_secs(10)), ..Default::default() };
/// let client = Client::with_options(options);
/// ```
///
/// A service of the inner network, with an authority of its own and a certificate for each client:
///
/// ```no_run
/// use gimmal::client::{Client, ClientOptions};
/// use gimmal::tls::{CertifiedKey, TlsClientConfig};
///
/// let tls = TlsClientConfig::builder()
///     .roots_file("internal-ca.pem")
///     .certificate(CertifiedKey::from_pem_files("billing.pem", "billing.key")?)
///     .build()?;
/// // Made once: all cores share the configuration and the sessions to be resumed.
/// let client = move || Client::with_options(ClientOptions { tls: Some(tls.clone()), ..Default::default() });
/// let app = gimmal::App::new().state_per_core(client);
/// # Ok::<(), gimmal::tls::TlsConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long opening a connection may take, names included. Default 10 s.
    pub connect: Duration,
    /// How long the TLS handshake may take. Default 10 s.
    pub handshake: Duration,
    /// How long the head of the response may take, from the moment at which the request has gone out. Default 30 s.
    pub head: Duration,
    /// How long the server may send nothing of a response's body, or take nothing of a request's. Default 30 s.
    pub pause: Duration,
    /// How long all of it may take, from the call of `send` to the end of the response's body. Default: any time.
    pub whole: Option<Duration>,
    /// Connections to one server that are kept open for later requests. Default 100.
    pub idle_per_origin: usize,
    /// How long they are kept. Default 30 s, which is less than what most servers grant.
    pub idle: Duration,
    /// How many redirects are followed. Default 0: a redirect is a response like any other. None leads from `https` to
    /// `http`, and what was meant for one server (`Authorization`, `Cookie`) is sent to no other.
    pub redirects_max: u8,
    /// How much a server may send. Default [`Limits::default`], but without a limit of the body.
    pub limits: Limits,
    /// Whom an `https` server has to be certified by, and with what this side proves itself. Default `None`: the roots
    /// of the system are trusted; they are read when they are first needed, once for the whole process.
    pub tls: Option<TlsClientConfig>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            pause: Duration::from_secs(30),
            whole: None,
            idle_per_origin: 100,
            idle: Duration::from_secs(30),
            redirects_max: 0,
            limits: Limits { body_bytes: u64::MAX, ..Limits::default() },
            tls: None,
        }
    }
}

/// The client of one core, with its idle connections. Clones share them.
///
/// # Cancel safety
/// Dropping the future of a request, or the body of a response before its end, closes the connection.
#[derive(Clone)]
pub struct Client {
    options: Rc<ClientOptions>,
    pool: Rc<Pool>,
}

/// The short names of the methods.
macro_rules! methods {
    ($($name:ident $method:ident),+) => {
        $(
            #[doc = concat!("A ", stringify!($method), " request for `http://HOST[:PORT]/PATH[?QUERY]`, or the same with `https`.")]
            pub fn $name(&self, url: impl AsRef<str>) -> ClientRequest {
                self.request(Method::$method, url)
            }
        )+
    };
}

impl Client {
    /// A client with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(ClientOptions::default())
    }

    /// A client with these options.
    #[must_use]
    pub fn with_options(options: ClientOptions) -> Self {
        let pool = Pool::new(options.idle_per_origin, options.idle);
        Self { options: Rc::new(options), pool }
    }

    methods! { get GET, head HEAD, post POST, put PUT, patch PATCH, delete DELETE }

    /// A request of any method for `http://HOST[:PORT]/PATH[?QUERY]`, or the same with `https`.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> ClientRequest {
        ClientRequest::new(self.clone(), method, url.as_ref())
    }

    /// Connections that are open and wait for a request.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("idle_connections", &self.idle_connections()).finish_non_exhaustive()
    }
}
