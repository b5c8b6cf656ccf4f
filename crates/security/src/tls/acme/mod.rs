//! Certificates from an ACME server such as Let's Encrypt (RFC 8555), by HTTP-01 or TLS-ALPN-01 (RFC 8737).
//!
//! [`TlsServerConfig::from_acme`](crate::tls::TlsServerConfig::from_acme) makes a TLS server of it, and the framework
//! does the rest.
//!
//! An [`AcmeClient`] obtains one certificate for a set of names, and keeps it and the account on disk. It has no
//! socket, no timer of its own and no task: the caller gives it an HTTP client ([`HttpFetch`](crate::HttpFetch)) and
//! threads for work with files ([`BlockingPool`](crate::BlockingPool)), and calls it when
//! [`renew_at`](AcmeClient::renew_at) says. Without the framework, that is
//!
//! ```no_run
//! use gimmal_security::tls::TlsServerConfig;
//! use gimmal_security::tls::acme::{AcmeConfig, AcmeError, AcmeResponder, LETS_ENCRYPT, retry_after};
//! use gimmal_security::{BlockingPool, HttpFetch};
//!
//! async fn keep_certified(
//!     fetch: impl HttpFetch,
//!     pool: impl BlockingPool,
//!     sleep_until: impl AsyncFn(u64),
//! ) -> Result<(), AcmeError> {
//!     let config = AcmeConfig::new(LETS_ENCRYPT, &["example.org", "www.example.org"], "/var/lib/site/acme")?
//!         .contact("mailto:admin@example.org")
//!         .agree_to_terms_of_service();
//!     let tls = TlsServerConfig::from_acme(config)?;
//!     let acme = &tls.acme_clients()[0];
//!     let responder = AcmeResponder::TlsAlpn01(vec![tls.clone()]);
//!     let mut failures = 0;
//!     loop {
//!         sleep_until(acme.renew_at()? + retry_after(failures).as_secs()).await;
//!         match acme.obtain(&fetch, &pool, &responder).await {
//!             Ok(_) => {
//!                 tls.reload()?;
//!                 failures = 0;
//!             }
//!             Err(error) => {
//!                 println!("no new certificate: {error}");
//!                 failures += 1;
//!             }
//!         }
//!     }
//! }
//! ```

mod bridge;
mod client;
mod config;
mod error;
mod renewal;
mod responder;
mod storage;

pub use client::AcmeClient;
pub use config::{AcmeChallenge, AcmeConfig, LETS_ENCRYPT, LETS_ENCRYPT_STAGING};
pub use error::AcmeError;
pub use renewal::{renewal_time, retry_after};
pub use responder::{AcmeResponder, HttpChallenges};
