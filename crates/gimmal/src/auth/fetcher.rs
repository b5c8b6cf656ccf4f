//! What asks other servers: for keys, for the state of tokens, for logins.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gimmal_http::Limits;
use gimmal_runtime::{Core, blocking};
use gimmal_security::tls::TlsClientConfig;
use gimmal_security::{BlockingPool, FetchError, HttpFetch, RESPONSE_BYTES_MAX};
use http::{Request, Response};

use crate::body::{Body, BodyError, ResponseBodyError};
use crate::client::{Client, ClientError, ClientOptions};

/// How long an answer may take, names and handshakes included.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection to such a server is kept open after an answer: less than what servers grant.
const IDLE: Duration = Duration::from_secs(4);
/// After how long without a question a core forgets its client.
const KEPT: Duration = Duration::from_secs(30);

/// Numbers the fetchers that are configured each for itself.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The clients of this core, by the ids of their fetchers. A task of the core keeps each of them.
    static CLIENTS: RefCell<HashMap<u64, Weak<Kept>>> = RefCell::default();
}

/// A client with its connections, and whether it was asked for lately.
struct Kept {
    client: Client,
    is_used: Cell<bool>,
}

/// Asks the servers of keys and tokens, by a [`Client`] on the core that wants to know: within 10 seconds, for at most
/// 512 KiB, and without following redirects. Certificates are verified.
///
/// Connections are kept open for a few seconds, so that many questions do not each make a handshake. Clones share them
/// within a core.
///
/// ```
/// use gimmal::auth::Fetcher;
/// use gimmal::tls::TlsClientConfig;
///
/// # fn fetcher() -> Result<Fetcher, gimmal::tls::TlsConfigError> {
/// let fetcher = Fetcher::with_tls(TlsClientConfig::builder().roots_file("own-ca.pem").build()?);
/// # Ok(fetcher) }
/// ```
#[derive(Clone, Debug)]
pub struct Fetcher {
    tls: Option<TlsClientConfig>,
    id: u64,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::configured(None)
    }
}

impl Fetcher {
    /// Trusts the roots of the platform, which are read when they are first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks over TLS with this configuration.
    #[must_use]
    pub fn with_tls(tls: TlsClientConfig) -> Self {
        Self::configured(Some(tls))
    }

    fn configured(tls: Option<TlsClientConfig>) -> Self {
        Self { tls, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) }
    }

    /// The client of this core.
    fn client(&self) -> Client {
        let Some(core) = Core::current() else { return self.new_client() };
        let known = CLIENTS.with_borrow(|clients| clients.get(&self.id).and_then(Weak::upgrade));
        let kept = known.unwrap_or_else(|| {
            let kept = Rc::new(Kept { client: self.new_client(), is_used: Cell::new(true) });
            CLIENTS.with_borrow_mut(|clients| {
                clients.retain(|_, kept| kept.strong_count() > 0);
                clients.insert(self.id, Rc::downgrade(&kept));
            });
            core.spawn(keep(Rc::clone(&core), Rc::clone(&kept)));
            kept
        });
        kept.is_used.set(true);
        kept.client.clone()
    }

    fn new_client(&self) -> Client {
        Client::with_options(ClientOptions {
            whole: Some(PATIENCE),
            idle_per_origin: 4,
            idle: IDLE,
            redirects_max: 0,
            limits: Limits { body_bytes: RESPONSE_BYTES_MAX as u64, ..Limits::default() },
            tls: self.tls.clone(),
            ..ClientOptions::default()
        })
    }
}

/// Keeps a client until nobody has asked for it for a while, or the core is to stop.
async fn keep(core: Rc<Core>, kept: Rc<Kept>) {
    while kept.is_used.replace(false) {
        tokio::select! {
            () = core.draining() => return,
            () = tokio::time::sleep(KEPT) => {}
        }
    }
}

impl HttpFetch for Fetcher {
    async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        let (parts, body) = request.into_parts();
        let mut request = self.client().request(parts.method, parts.uri.to_string());
        *request.headers_mut() = parts.headers;
        let mut received = request.with_body(Body::from(body).untyped()).send().await.map_err(no_response)?;
        let mut response = Response::default();
        *response.status_mut() = received.status();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        *response.body_mut() = received.bytes(RESPONSE_BYTES_MAX as u64).await.map_err(no_body)?.into();
        Ok(response)
    }
}

fn no_response(error: ClientError) -> FetchError {
    match error {
        ClientError::TimedOut(_) => FetchError::TimedOut,
        ClientError::Malformed(_) => FetchError::Document("no HTTP response"),
        error => FetchError::Unreachable(error.to_string()),
    }
}

fn no_body(error: BodyError) -> FetchError {
    match error {
        BodyError::Response(ResponseBodyError::TimedOut) => FetchError::TimedOut,
        BodyError::Response(ResponseBodyError::TooLarge { .. }) => FetchError::TooLarge,
        BodyError::Response(ResponseBodyError::Incomplete | ResponseBodyError::Malformed(_)) => {
            FetchError::Document("no HTTP response body")
        }
        error => FetchError::Unreachable(error.to_string()),
    }
}

/// The threads for blocking work of [`gimmal::blocking`](crate::blocking), for the stores that need them, such as
/// sessions in an SQLite file.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingThreads;

impl BlockingPool for BlockingThreads {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        blocking(work).await.ok()
    }
}
