//! Which certificate a client is shown.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign;
use rustls::{CipherSuite, SignatureAlgorithm};

use super::certified_key::CertifiedKey;

/// The application protocol of an ACME server that verifies a TLS-ALPN-01 challenge (RFC 8737 section 6.2).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// What a client's hello said, and why no certificate was chosen, if none was.
#[derive(Debug, Default)]
pub(super) struct Hello {
    pub(super) server_name: Option<Box<str>>,
    pub(super) refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    UnknownName,
    NoCertificate,
}

thread_local! {
    /// A resolver is shared by all sessions, and learns of one only through the hello that it is handed, inside the
    /// session's own call into rustls: this is the way back to that session.
    static HELLO: RefCell<Option<Hello>> = const { RefCell::new(None) };
}

/// The hello that was resolved on this thread since the last call.
pub(super) fn take_hello() -> Option<Hello> {
    HELLO.take()
}

/// Certificates for ACME challenges, by name.
#[derive(Default)]
pub(super) struct Challenges(RwLock<HashMap<String, CertifiedKey>>);

impl Challenges {
    pub(super) fn insert(&self, name: &str, key: CertifiedKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_ascii_lowercase(), key);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&name.to_ascii_lowercase());
    }

    fn get(&self, name: &str) -> Option<Arc<sign::CertifiedKey>> {
        let challenges = self.0.read().unwrap_or_else(PoisonError::into_inner);
        challenges.get(name).map(|key| Arc::clone(key.rustls()))
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

type Candidates = Vec<Arc<sign::CertifiedKey>>;

/// All certificates of a server, by the names that they are for.
#[derive(Debug)]
pub(super) struct Resolver {
    /// By DNS name.
    exact: HashMap<String, Candidates>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Candidates>,
    /// For every other name, and for no name. Empty when names are strict.
    default: Candidates,
    strict: bool,
    /// The application protocols spoken, the preferred first.
    alpn: Vec<Vec<u8>>,
    challenges: Arc<Challenges>,
}

impl Resolver {
    /// The first of `keys`, and all others for the same names, are the default.
    pub(super) fn new(
        keys: &[CertifiedKey],
        strict: bool,
        alpn: Vec<Vec<u8>>,
        challenges: Arc<Challenges>,
    ) -> Self {
        let mut keys: Vec<_> = keys.iter().collect();
        let default_names = keys.first().map(|key| key.certificate().names());
        let is_default = |key: &&&CertifiedKey| Some(key.certificate().names()) == default_names && !strict;
        let mut default: Vec<_> = keys.iter().filter(is_default).copied().collect();
        // Stable, so that of two of a kind the first given comes first.
        keys.sort_by_key(|key| preference(key));
        default.sort_by_key(|key| preference(key));

        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for key in keys {
            for name in key.certificate().dns_names() {
                let candidates: &mut Candidates = match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default(),
                    None => exact.entry(name.to_owned()).or_default(),
                };
                candidates.push(Arc::clone(key.rustls()));
            }
        }
        let default = default.into_iter().map(|key| Arc::clone(key.rustls())).collect();
        Self { exact, wildcard, default, strict, alpn, challenges }
    }

    /// Candidates for a name: of that very name, else of its wildcard, which stands for one label
    /// (RFC 9525 section 6.3), else the default.
    fn candidates(&self, name: Option<&str>) -> &[Arc<sign::CertifiedKey>] {
        let named =
            name.and_then(|name| self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1)));
        named.unwrap_or(&self.default)
    }

    fn choose(
        &self,
        hello: &ClientHello<'_>,
        name: Option<&str>,
    ) -> Result<Arc<sign::CertifiedKey>, Refusal> {
        if self.agrees_on(hello) == Some(ACME_TLS) {
            return name.and_then(|name| self.challenges.get(name)).ok_or(Refusal::NoCertificate);
        }
        let candidates = self.candidates(name);
        let usable = candidates.iter().find(|key| self.usable(key, hello));
        // With nothing usable, rustls says what is not in common better than we could.
        usable.or(candidates.first()).cloned().ok_or(if self.strict {
            Refusal::UnknownName
        } else {
            Refusal::NoCertificate
        })
    }

    /// The application protocol that rustls will agree on: the first of ours that the client offers too.
    fn agrees_on(&self, hello: &ClientHello<'_>) -> Option<&[u8]> {
        let is_offered = |ours: &&Vec<u8>| {
            hello.alpn().is_some_and(|mut theirs| theirs.any(|protocol| protocol == ours.as_slice()))
        };
        self.alpn.iter().find(is_offered).map(Vec::as_slice)
    }

    /// Whether the client can verify a signature by `key`, and offers a cipher suite that goes with it.
    fn usable(&self, key: &sign::CertifiedKey, hello: &ClientHello<'_>) -> bool {
        if key.key.choose_scheme(hello.signature_schemes()).is_none() {
            return false;
        }
        // A TLS 1.3 suite goes with any key; those of TLS 1.2 name the key's kind.
        hello.cipher_suites().iter().any(|suite| match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
                key.key.algorithm() != SignatureAlgorithm::RSA
            }
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                key.key.algorithm() == SignatureAlgorithm::RSA
            }
            _ => false,
        })
    }
}

/// An RSA signature costs the server some twenty times an ECDSA one, so RSA is for clients that have nothing else.
fn preference(key: &CertifiedKey) -> u8 {
    u8::from(key.rustls().key.algorithm() == SignatureAlgorithm::RSA)
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<sign::CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let chosen = self.choose(&hello, name.as_deref());
        HELLO.set(Some(Hello {
            server_name: name.map(String::into_boxed_str),
            refusal: chosen.as_ref().err().copied(),
        }));
        chosen.ok()
    }
}
