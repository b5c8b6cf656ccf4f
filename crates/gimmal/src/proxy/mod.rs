//! A reverse proxy, as a handler.
//!
//! It forwards requests to upstream servers and their responses back, both as they arrive, with their trailers. All
//! framing is made anew from what the strict codec has read, so that no message can be read in two ways behind it.
//!
//! ```
//! use gimmal::proxy::{HealthCheck, Proxy};
//! use gimmal::{App, Server};
//!
//! let proxy = Proxy::new(["http://10.0.0.1:9000", "http://10.0.0.2:9000"])?
//!     .least_loaded()
//!     .health_check(HealthCheck { path: "/health".into(), ..Default::default() });
//! let app = App::new().get("/own", async || "not proxied").fallback(proxy).body_limit(u64::MAX);
//! let server = Server::new(app).bind("127.0.0.1:8080");
//! # Ok::<(), gimmal::proxy::ProxyError>(())
//! ```
//!
//! # What it does to messages
//! * Fields that are meant for one connection are removed (RFC 9110, section 7.6.1), those that `Connection` names
//!   among them.
//! * `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Host` and `-Proto` say who asked and for what. What the client
//!   sent under these names is dropped, since anybody can send anything; after
//!   [`trust_forwarded`](Proxy::trust_forwarded) it is kept and added to.
//! * The path goes on as it came. One with a segment `.` or `..`, however it is written, is answered 400: an upstream may
//!   resolve it, past the guards of other routes. An upstream may also take `//a` and `/%2Fa` for `/a`: put the guard of
//!   `/a` around the whole proxy, or let the upstream guard it.
//! * `Via` is added to both (RFC 9110, section 7.6.3), with a name that each proxy draws at random unless
//!   [`via`](Proxy::via) sets it. A request that has come through this proxy before is answered with 508.
//! * `Host` stays what the client sent, unless [`upstream_host`](Proxy::upstream_host) is called. A request of HTTP/1.0
//!   that has none goes on with that of the upstream.
//! * `Max-Forwards` of OPTIONS is counted down, and 0 is answered here. So it is of TRACE, where the server lets that in.
//! * Every method that the server lets in, known or not, is forwarded, but for CONNECT.
//! * An upgrade, as to WebSocket, goes through, and the two connections become one. One to `h2c` does not: it would
//!   take every later request past the proxy's eyes. Neither does one in HTTP/1.0 or beside a body, where `Upgrade` is
//!   ignored (section 7.8). A 101 that nobody asked for, or to another protocol, is 502. CONNECT is refused with 405.
//! * Interim responses, as 103, go to clients of HTTP/1.1 as they come, up to 32 for a request; `100 Continue` is each
//!   connection's own affair.
//! * A response to HEAD has the `Content-Length` that the upstream tells, and none if it tells none.
//!
//! # TLS
//! An `https` upstream must prove by its certificate to be the host of its own URL, whatever `Host` the client asked for;
//! [`Proxy::tls`] says who is trusted. Servers that choose by the name in the handshake, or answer 421 to another `Host`,
//! want [`upstream_host`](Proxy::upstream_host). Requests, health checks and upgraded connections, as of WebSocket, all
//! go over TLS. A body that is cut off without a close_notify is cut off for the client as well.
//!
//! # What it does when upstreams fail
//! A request that has reached no upstream goes to the next one; so does a safe request whose connection broke before
//! a response had begun, if its body is in memory. An upstream that fails several times in a row gets no requests for
//! a while; a [`HealthCheck`] asks each one on its own account. The client gets 502 when an upstream cannot be reached
//! or talks nonsense, 503 when a check has found all of them down, and 504 when one is too slow; the log says which one
//! and why.
//!
//! What counts as a failure of the upstream, and not of one request:
//! * that it cannot be connected to, TLS included;
//! * that it broke off where another upstream answered the same request, once for each path;
//! * five responses to different paths that broke off, were malformed or too slow, with none in between that was well.
//!
//! A kept connection that the upstream had closed is no failure. The last upstream that is up is never taken out: its
//! failures cost the requests that meet them, and nobody else. One that was taken out is tried by one request after
//! 250 ms, then after twice that, up to the time that [`fail_after`](Proxy::fail_after) sets.

mod fields;
mod forward;
mod health;
mod stable_hash;
mod tunnel;
mod upstream;
mod via;

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gimmal_runtime::LocalFuture;
use gimmal_security::tls::TlsClientConfig;
use send_wrapper::SendWrapper;

use crate::client::ClientOptions;
use crate::handler::{Handler, Needs};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

use forward::PerCore;
use health::Health;
pub use health::HealthCheck;
use upstream::{Balance, Place};
use via::Via;

/// An upstream that cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not `http://HOST[:PORT]` or `unix:PATH`.
    #[error(
        "{upstream:?} is no upstream: write http://HOST[:PORT], https://HOST[:PORT] or unix:PATH ({reason})"
    )]
    Upstream {
        /// What was given.
        upstream: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None was given.
    #[error("a proxy needs at least one upstream")]
    NoUpstream,
    /// The name for `Via` is no token.
    #[error("{0:?} cannot stand in Via: use letters, digits and hyphens")]
    Via(String),
}

/// Forwards requests to upstream servers. It is a [`Handler`], usually of [`App::fallback`](crate::App::fallback); see
/// the [module](self) for what it does.
///
/// Each core has connections of its own to the upstreams. What is known of their health is shared.
pub struct Proxy {
    plan: Arc<Plan>,
    /// Empty in every copy until its first request; from then on the copy belongs to one core.
    core: OnceLock<SendWrapper<Rc<PerCore>>>,
}

/// What all cores share.
#[derive(Clone)]
struct Plan {
    places: Vec<Place>,
    health: Arc<Health>,
    balance: Balance,
    client: ClientOptions,
    trust_forwarded: bool,
    upstream_host: bool,
    tunnel_idle: Duration,
    via: Via,
}

impl Proxy {
    /// A proxy of these upstreams, each `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`, asked in turn.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn new(upstreams: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ProxyError> {
        let places: Vec<_> = upstreams
            .into_iter()
            .map(|upstream| Place::parse(upstream.as_ref()))
            .collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(ProxyError::NoUpstream);
        }
        Ok(Self::of(Plan {
            health: Arc::new(Health::new(places.len())),
            places,
            balance: Balance::RoundRobin,
            client: ClientOptions {
                connect: Duration::from_secs(5),
                idle_per_origin: 1000,
                ..ClientOptions::default()
            },
            trust_forwarded: false,
            upstream_host: false,
            tunnel_idle: Duration::from_secs(3600),
            via: Via::unique(),
        }))
    }

    fn of(plan: Plan) -> Self {
        Self { plan: Arc::new(plan), core: OnceLock::new() }
    }

    fn change(self, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Arc::unwrap_or_clone(self.plan);
        change(&mut plan);
        Self::of(plan)
    }

    /// Asks the upstream that has the fewest requests of this core under way.
    #[must_use]
    pub fn least_loaded(self) -> Self {
        self.change(|plan| plan.balance = Balance::LeastLoaded)
    }

    /// Asks the same upstream for all requests of the same key. When one goes down, its keys alone go elsewhere
    /// (rendezvous hashing).
    ///
    /// ```
    /// # use gimmal::proxy::Proxy;
    /// let proxy = Proxy::new(["http://10.0.0.1:9000", "http://10.0.0.2:9000"])?
    ///     .hash_by(|request| request.header("x-user").unwrap_or_default());
    /// # Ok::<(), gimmal::proxy::ProxyError>(())
    /// ```
    #[must_use]
    pub fn hash_by(self, key: impl Fn(&Request) -> &str + Send + Sync + 'static) -> Self {
        self.change(|plan| plan.balance = Balance::Key(Arc::new(key)))
    }

    /// Asks the same upstream for all requests of one client address.
    #[must_use]
    pub fn hash_by_peer(self) -> Self {
        self.change(|plan| plan.balance = Balance::Peer)
    }

    /// Asks each upstream regularly how it is, from one of the cores, from the first request on.
    #[must_use]
    pub fn health_check(self, check: HealthCheck) -> Self {
        self.change(|plan| Arc::make_mut(&mut plan.health).check = Some(check))
    }

    /// Sets after how many failures in a row an upstream gets no requests, and for how long at most.
    ///
    /// Default 3, and 10 s. The first time is 250 ms, each next one twice as long; after each, one request tries the
    /// upstream. The [module](self) tells what counts as a failure. The last upstream that is up stays up.
    #[must_use]
    pub fn fail_after(self, failures: u32, down: Duration) -> Self {
        self.change(|plan| {
            let health = Arc::make_mut(&mut plan.health);
            (health.failures_max, health.down) = (failures.max(1), down);
        })
    }

    /// Time-outs, limits and connections towards upstreams. By default those of
    /// [`ClientOptions`], but 5 s to connect, and 1000 idle connections to each. What [`tls`](Self::tls) was told stays,
    /// unless these options have a configuration of their own.
    #[must_use]
    pub fn client_options(self, options: ClientOptions) -> Self {
        self.change(|plan| {
            let before = std::mem::replace(&mut plan.client, options);
            plan.client.tls = plan.client.tls.take().or(before.tls);
        })
    }

    /// How `https` upstreams are spoken to: whose certificates are trusted, and what the proxy proves itself with. By
    /// default the roots of the system are. It is [`ClientOptions::tls`].
    ///
    /// ```no_run
    /// use gimmal::proxy::Proxy;
    /// use gimmal::tls::{CertifiedKey, TlsClientConfig};
    ///
    /// let tls = TlsClientConfig::builder()
    ///     .roots_file("internal-ca.pem")
    ///     .certificate(CertifiedKey::from_pem_files("proxy.pem", "proxy.key")?)
    ///     .build()?;
    /// let proxy = Proxy::new(["https://app-1.internal:8443", "https://app-2.internal:8443"])?.tls(tls);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tls(self, config: TlsClientConfig) -> Self {
        self.change(|plan| plan.client.tls = Some(config))
    }

    /// How long an upgraded connection may be silent. Default one hour.
    #[must_use]
    pub fn tunnel_idle(self, idle: Duration) -> Self {
        self.change(|plan| plan.tunnel_idle = idle)
    }

    /// Keeps the `Forwarded` and `X-Forwarded-*` fields that clients send, and adds to them. Only for a server that no
    /// client reaches but through proxies of your own: others would say what they like.
    #[must_use]
    pub fn trust_forwarded(self) -> Self {
        self.change(|plan| plan.trust_forwarded = true)
    }

    /// Sets the name of this proxy in `Via`, by which it knows requests that it has forwarded before.
    ///
    /// By default each proxy draws a name at random. Proxies of one name must never forward to each other: the second
    /// takes what the first has sent for a loop, and answers 508.
    ///
    /// # Errors
    /// [`ProxyError::Via`] if the name is no token (RFC 9110, section 5.6.2).
    pub fn via(self, name: &str) -> Result<Self, ProxyError> {
        let via = Via::new(name).ok_or_else(|| ProxyError::Via(name.to_owned()))?;
        Ok(self.change(|plan| plan.via = via))
    }

    /// Sends each upstream its own name as `Host`, in place of what the client asked for.
    #[must_use]
    pub fn upstream_host(self) -> Self {
        self.change(|plan| plan.upstream_host = true)
    }
}

/// A copy has no connections yet, and knows what is known of the upstreams' health.
impl Clone for Proxy {
    fn clone(&self) -> Self {
        Self { plan: Arc::clone(&self.plan), core: OnceLock::new() }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("upstreams", &self.plan.places).finish_non_exhaustive()
    }
}

/// The argument of a [`Proxy`] as a handler: the whole request.
#[derive(Debug)]
pub struct ProxiedRequest(());

impl Handler<ProxiedRequest> for Proxy {
    fn call(self: Rc<Self>, request: Request) -> LocalFuture<Response> {
        let core = Rc::clone(self.core.get_or_init(|| SendWrapper::new(PerCore::new(&self.plan))));
        LocalFuture::new(async move { core.forward(request).await.into_response() })
    }

    fn needs(_: &mut Needs) {}
}
