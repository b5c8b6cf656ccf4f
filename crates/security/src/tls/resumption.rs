//! What lets a client resume an earlier session.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use super::config_error::TlsConfigError;

/// Sessions that the cache holds by default.
pub const CACHED_SESSIONS: usize = 10_000;

/// The keys of session tickets, and a cache of sessions for clients without tickets (RFC 8446 section 2.2,
/// RFC 5077).
///
/// The keys are made anew every six hours, and tickets of the last but one are still taken: what is captured today
/// cannot be read with the keys that are stolen tomorrow. One value serves all cores, and may serve several
/// configurations: a session resumes only where client authentication is configured as it was where the session
/// began (same roots, same revocation lists), so that no client comes in by a ticket that could not come in by its
/// certificate.
///
/// ```
/// use gimmal_security::tls::{CertifiedKey, SessionResumption, TlsServerConfig};
///
/// let resumption = SessionResumption::new(20_000)?;
/// let key = CertifiedKey::self_signed_for_development(&["localhost"])?;
/// let one = TlsServerConfig::builder().certificate(key.clone()).resumption(resumption.clone()).build()?;
/// let other = TlsServerConfig::builder().certificate(key).resumption(resumption).build()?;
/// # Ok::<(), gimmal_security::tls::TlsConfigError>(())
/// ```
#[derive(Clone)]
pub struct SessionResumption {
    tickets: Arc<dyn ProducesTickets>,
    cache: Arc<ServerSessionMemoryCache>,
}

impl SessionResumption {
    /// New keys, and a cache for at most `cached_sessions` sessions, of which the oldest go first. A cached session
    /// takes some hundred bytes, and with client authentication the client's certificates.
    ///
    /// # Errors
    /// [`TlsConfigError::Refused`] if the system gives no random bytes.
    pub fn new(cached_sessions: usize) -> Result<Self, TlsConfigError> {
        Ok(Self { tickets: Ticketer::new()?, cache: ServerSessionMemoryCache::new(cached_sessions) })
    }

    pub(super) fn tickets(&self, policy: Policy) -> Arc<dyn ProducesTickets> {
        Arc::new(BoundTickets { tickets: Arc::clone(&self.tickets), policy })
    }

    pub(super) fn cache(&self, policy: Policy) -> Arc<dyn StoresServerSessions> {
        Arc::new(BoundCache { cache: Arc::clone(&self.cache), policy })
    }
}

impl fmt::Debug for SessionResumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionResumption").finish_non_exhaustive()
    }
}

/// A digest of how clients are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy(pub(super) [u8; 16]);

impl Policy {
    fn bind(self, bytes: &[u8]) -> Vec<u8> {
        [&self.0, bytes].concat()
    }
}

/// Tickets that carry, under their encryption, the policy they were given under.
#[derive(Debug)]
struct BoundTickets {
    tickets: Arc<dyn ProducesTickets>,
    policy: Policy,
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&self.policy.bind(session))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut session = self.tickets.decrypt(ticket)?;
        if !session.starts_with(&self.policy.0) {
            return None;
        }
        session.drain(..self.policy.0.len());
        Some(session)
    }
}

/// A cache whose keys carry the policy.
#[derive(Debug)]
struct BoundCache {
    cache: Arc<ServerSessionMemoryCache>,
    policy: Policy,
}

impl StoresServerSessions for BoundCache {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        self.cache.put(self.policy.bind(&key), session)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.get(&self.policy.bind(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.take(&self.policy.bind(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}
