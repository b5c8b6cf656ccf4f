//! The Digest scheme (RFC 7616): the password itself never crosses the wire, the server stores
//! `H(user:realm:password)`, and a request that was seen on its way is worth nothing a second time.
//!
//! Digest is for clients that have nothing better; over HTTPS, Basic with a slow password hash protects the store
//! of passwords better than this, since a stored [`DigestSecret`] is quick to try passwords against.
//!
//! ```
//! use gimmal_security::SecretString;
//! use gimmal_security::credentials::{Credentials, Realm};
//! use gimmal_security::digest::{DigestAlgorithm, DigestError, DigestRequest, DigestScheme, DigestUser};
//!
//! let realm = Realm::new("http-auth@example.org")?;
//! // In the store: one secret for each algorithm that is offered.
//! let secret = DigestAlgorithm::Sha256.secret("Mufasa", &realm, &SecretString::from("Circle of Life"));
//!
//! let digest = DigestScheme::new(realm);
//! let now = 1_700_000_000;
//! // To a request without credentials: 401 with each of these as a WWW-Authenticate field.
//! for challenge in digest.challenges(now, false) {
//!     assert!(challenge.to_string().starts_with("Digest realm=\"http-auth@example.org\""));
//! }
//! // To a request with an Authorization field:
//! # let authorization = br#"Digest username="Mufasa", realm="http-auth@example.org", uri="/", nonce="n",
//! #   nc=00000001, cnonce="c", qop=auth, algorithm=SHA-256, opaque="o",
//! #   response="0000000000000000000000000000000000000000000000000000000000000000""#;
//! # let authorization = &authorization.iter().copied().filter(|&byte| byte != b'\n').collect::<Vec<_>>();
//! let credentials = digest.read(&Credentials::parse(authorization)?)?;
//! let found = match credentials.user() {
//!     DigestUser::Name(name) if name == "Mufasa" => Some(&secret),
//!     _ => None,
//! };
//! let request = DigestRequest { method: "GET", target: "/", body: b"" };
//! match digest.verify(&credentials, request, found, now) {
//!     // Send proof.authentication_info(..) with the response.
//!     Ok(proof) => drop(proof),
//!     Err(error) => assert_eq!(error, DigestError::Wrong),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod algorithm;
mod credentials;
mod error;
mod nonce;

use std::fmt;

use subtle::ConstantTimeEq;

pub use self::algorithm::{DigestAlgorithm, DigestSecret, DigestSecretError};
pub use self::credentials::{DigestCredentials, DigestQop, DigestUser};
pub use self::error::DigestError;
use self::nonce::{Nonce, NonceCounts};
use crate::credentials::{Challenge, Credentials, Realm, push_quoted};
use crate::mac_key::MacKey;

/// Seconds for which a nonce is in use, unless [`DigestScheme::with_nonce_lifetime_secs`] says otherwise.
pub const NONCE_LIFETIME_SECS: u64 = 300;
/// Nonces whose counts are kept, unless [`DigestScheme::with_nonce_capacity`] says otherwise.
pub const NONCE_CAPACITY: usize = 16_384;

/// What is offered of `auth` and `auth-int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Auth,
    Either,
    AuthInt,
}

/// The parts of a request that a digest protects.
#[derive(Clone, Copy)]
pub struct DigestRequest<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The request target, as it was sent.
    pub target: &'a str,
    /// The whole body. Of no interest, and may be empty, unless
    /// [`DigestCredentials::qop`] is [`DigestQop::AuthInt`].
    pub body: &'a [u8],
}

impl fmt::Debug for DigestRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Digest for one realm: makes challenges, and checks what comes back. One for all cores.
///
/// Nonces carry their time and a MAC, so none is stored when it is handed out; only for those that a user logged in
/// with does a table of fixed size keep the counts. See the [module](self) for the order of calls.
#[derive(Debug)]
pub struct DigestScheme {
    realm: Realm,
    /// In the order in which they are offered.
    algorithms: Vec<DigestAlgorithm>,
    protection: Protection,
    userhash: bool,
    key: MacKey,
    opaque: String,
    nonce_lifetime_secs: u64,
    counts: NonceCounts,
    /// For each algorithm, in the order of the enum, what stands in for the secret of an unknown user.
    nobody: [DigestSecret; 3],
}

impl DigestScheme {
    /// SHA-256 with `qop=auth`, user names in clear, and a key that only this process knows.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn new(realm: Realm) -> Self {
        Self {
            realm,
            algorithms: vec![DigestAlgorithm::Sha256],
            protection: Protection::Auth,
            userhash: false,
            key: MacKey::random(),
            opaque: String::new(),
            nonce_lifetime_secs: NONCE_LIFETIME_SECS,
            counts: NonceCounts::new(NONCE_CAPACITY),
            nobody: [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512_256, DigestAlgorithm::Md5]
                .map(DigestSecret::of_nobody),
        }
        .with_opaque()
    }

    /// Offers SHA-512-256 after SHA-256. Every user then needs a secret for each.
    ///
    /// Few clients know it, and some of those that do hash it wrongly, so it comes second, as the backup that it is
    /// meant to be (RFC 7616 section 6.1).
    #[must_use]
    pub fn with_sha512_256(mut self) -> Self {
        self.offer(DigestAlgorithm::Sha512_256);
        self
    }

    /// Offers MD5 after all others, for clients that know nothing else.
    ///
    /// MD5 is broken as a hash, and stored secrets made with it are tried against at billions of passwords a
    /// second. Someone in the middle can take the better offers out of a challenge, so use this over HTTPS only.
    #[must_use]
    pub fn allow_md5(mut self) -> Self {
        self.offer(DigestAlgorithm::Md5);
        self
    }

    /// Offers MD5 alone, for clients that look at the first challenge only and know nothing else. What
    /// [`allow_md5`](Self::allow_md5) says of MD5 goes for this, too.
    #[must_use]
    pub fn with_md5_only(mut self) -> Self {
        self.algorithms = vec![DigestAlgorithm::Md5];
        self
    }

    /// Offers `auth-int` next to `auth`: the client may bind the body to its digest.
    #[must_use]
    pub fn with_auth_int(mut self) -> Self {
        self.protection = Protection::Either;
        self
    }

    /// Offers `auth-int` alone, which few clients know.
    #[must_use]
    pub fn with_auth_int_only(mut self) -> Self {
        self.protection = Protection::AuthInt;
        self
    }

    /// Lets clients send a hash in the place of their user name (RFC 7616 section 3.4.4); the user store then needs
    /// an index of [`DigestAlgorithm::userhash`].
    #[must_use]
    pub fn with_userhash(mut self) -> Self {
        self.userhash = true;
        self
    }

    /// Takes a key that other machines share. Each machine counts for itself, so a request seen on its way to one
    /// may be played to another while its nonce lives: where that matters, send a client to the same machine.
    #[must_use]
    pub fn with_key(mut self, key: MacKey) -> Self {
        self.key = key;
        self.with_opaque()
    }

    /// Sets for how many seconds a nonce is in use, at least 1.
    #[must_use]
    pub fn with_nonce_lifetime_secs(mut self, secs: u64) -> Self {
        self.nonce_lifetime_secs = secs.max(1);
        self
    }

    /// Sets of how many nonces the counts are kept: 48 bytes each. With more in use at a time, clients are asked to
    /// take a new nonce sooner.
    #[must_use]
    pub fn with_nonce_capacity(mut self, nonces: usize) -> Self {
        self.counts = NonceCounts::new(nonces);
        self
    }

    /// Adds an algorithm, in the order of the enum, which is that of the offers.
    fn offer(&mut self, algorithm: DigestAlgorithm) {
        self.algorithms.push(algorithm);
        self.algorithms.sort_unstable();
        self.algorithms.dedup();
    }

    fn with_opaque(mut self) -> Self {
        let tag = self.key.tag("digest opaque", &[self.realm.as_str().as_bytes()]);
        self.opaque = DigestAlgorithm::Sha256.hash(&[&tag])[..32].to_owned();
        self
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The algorithms that are offered, best first. A user needs a secret for each.
    #[must_use]
    pub fn algorithms(&self) -> &[DigestAlgorithm] {
        &self.algorithms
    }

    /// The challenges for a 401, one for each algorithm, with a nonce issued at `now` (seconds since 1970). Send
    /// each as a field line of its own. `stale` is for the answer to [`DigestError::Stale`].
    ///
    /// # Panics
    /// If the operating system has no randomness.
    #[must_use]
    pub fn challenges(&self, now: u64, stale: bool) -> Vec<Challenge> {
        let nonce = Nonce::new(now).encode(&self.key, self.realm.as_str());
        let challenge = |algorithm| self.challenge(algorithm, &nonce, stale);
        self.algorithms.iter().map(|&algorithm| challenge(algorithm).expect("all values are ASCII")).collect()
    }

    fn challenge(
        &self,
        algorithm: DigestAlgorithm,
        nonce: &str,
        stale: bool,
    ) -> Result<Challenge, crate::credentials::ChallengeError> {
        let qop = match self.protection {
            Protection::Auth => "auth",
            Protection::Either => "auth, auth-int",
            Protection::AuthInt => "auth-int",
        };
        let mut challenge = Challenge::new("Digest")?
            .with_quoted("realm", self.realm.as_str())?
            .with_quoted("qop", qop)?
            .with_token("algorithm", algorithm.name())?
            .with_quoted("nonce", nonce)?
            .with_quoted("opaque", &self.opaque)?
            .with_token("charset", "UTF-8")?;
        if self.userhash {
            challenge = challenge.with_token("userhash", "true")?;
        }
        if stale {
            challenge = challenge.with_token("stale", "true")?;
        }
        Ok(challenge)
    }

    /// Reads credentials, and refuses at once what no password could make right.
    ///
    /// # Errors
    /// [`DigestError`], with the part that was malformed or not offered.
    pub fn read(&self, credentials: &Credentials<'_>) -> Result<DigestCredentials, DigestError> {
        let credentials = DigestCredentials::parse(credentials)?;
        if credentials.realm != self.realm.as_str() {
            return Err(DigestError::Realm);
        }
        if !self.algorithms.contains(&credentials.algorithm) {
            return Err(DigestError::AlgorithmNotOffered);
        }
        if matches!(
            (self.protection, credentials.qop),
            (Protection::Auth, DigestQop::AuthInt) | (Protection::AuthInt, DigestQop::Auth)
        ) {
            return Err(DigestError::QopNotOffered);
        }
        if matches!(credentials.user, DigestUser::Hash(_)) && !self.userhash {
            return Err(DigestError::UserhashNotOffered);
        }
        Ok(credentials)
    }

    /// Checks credentials against the user's secret for [`DigestCredentials::algorithm`], at `now` (seconds since
    /// 1970). For an unknown user pass `None`: it takes the same work, and the same answer comes.
    ///
    /// # Errors
    /// [`DigestError::Wrong`], [`DigestError::Stale`] or [`DigestError::UriMismatch`].
    pub fn verify(
        &self,
        credentials: &DigestCredentials,
        request: DigestRequest<'_>,
        secret: Option<&DigestSecret>,
        now: u64,
    ) -> Result<DigestProof, DigestError> {
        if credentials.uri != request.target {
            return Err(DigestError::UriMismatch);
        }
        let known = secret.filter(|secret| secret.algorithm() == credentials.algorithm);
        let secret = known.unwrap_or(&self.nobody[credentials.algorithm as usize]);
        let expected = digest(credentials, secret, request.method, Some(request.body));
        let right: bool = expected.as_bytes().ct_eq(credentials.response.as_bytes()).into();
        if !right || known.is_none() {
            return Err(DigestError::Wrong);
        }
        let nonce = Nonce::decode(&credentials.nonce, &self.key, self.realm.as_str())
            .filter(|_| credentials.opaque == self.opaque)
            .filter(|nonce| nonce.is_in_use(now, self.nonce_lifetime_secs))
            .filter(|nonce| self.counts.take(*nonce, credentials.count, now, self.nonce_lifetime_secs))
            .ok_or(DigestError::Stale)?;
        let next_nonce = (nonce.age_secs(now) > self.nonce_lifetime_secs / 2)
            .then(|| Nonce::new(now).encode(&self.key, self.realm.as_str()));
        Ok(DigestProof { credentials: credentials.clone(), secret: secret.clone(), next_nonce })
    }
}

/// Credentials that were right, and what the response needs to prove that the server knows the secret, too.
#[derive(Clone, Debug)]
pub struct DigestProof {
    credentials: DigestCredentials,
    secret: DigestSecret,
    next_nonce: Option<String>,
}

impl DigestProof {
    /// The value of `Authentication-Info` for the response (RFC 7616 section 3.5), or of a trailer after it.
    ///
    /// `rspauth` covers the body of the response if the client asked for `auth-int` and `body` is given; a response
    /// whose body is not known yet passes `None` and is marked `qop=auth`. In the second half of a nonce's life
    /// there is a `nextnonce`, so that the client need not run into a stale one.
    #[must_use]
    pub fn authentication_info(&self, body: Option<&[u8]>) -> String {
        let body = body.filter(|_| self.credentials.qop == DigestQop::AuthInt);
        let qop = if body.is_some() { DigestQop::AuthInt } else { DigestQop::Auth };
        let answer = DigestCredentials { qop, ..self.credentials.clone() };
        // The method is left empty in the response's digest.
        let mut info = format!("rspauth=\"{}\", cnonce=", digest(&answer, &self.secret, "", body));
        push_quoted(&mut info, &answer.cnonce);
        info.push_str(", nc=");
        info.push_str(&answer.nc);
        info.push_str(", qop=");
        info.push_str(qop.name());
        if let Some(nonce) = &self.next_nonce {
            info.push_str(", nextnonce=");
            push_quoted(&mut info, nonce);
        }
        info
    }
}

/// `response` and `rspauth` (RFC 7616 sections 3.4.1 to 3.4.3).
fn digest(
    credentials: &DigestCredentials,
    secret: &DigestSecret,
    method: &str,
    body: Option<&[u8]>,
) -> String {
    let algorithm = credentials.algorithm;
    let (method, uri) = (method.as_bytes(), credentials.uri.as_bytes());
    let a2 = match credentials.qop {
        DigestQop::Auth => algorithm.hash(&[method, uri]),
        DigestQop::AuthInt => {
            let body = algorithm.hash(&[body.unwrap_or_default()]);
            algorithm.hash(&[method, uri, body.as_bytes()])
        }
    };
    let DigestCredentials { nonce, nc, cnonce, qop, .. } = credentials;
    let parts = [secret.expose_hex(), nonce, nc, cnonce, qop.name(), &a2].map(str::as_bytes);
    algorithm.hash(&parts)
}
