//! TLS 1.3 and 1.2 for servers and clients, without a socket.
//!
//! A [`TlsSession`] turns ciphertext into plaintext and back; [`TlsServerConfig`] and [`TlsClientConfig`] say how.
//! rustls with aws-lc-rs does the work and shows nowhere in the interface.
//!
//! ```no_run
//! use gimmal_security::tls::{ClientAuth, TlsServerConfig};
//!
//! // A server with one certificate.
//! let simple = TlsServerConfig::from_pem_files("server.pem", "server.key")?;
//!
//! // Several names, RSA beside ECDSA for old clients, unknown names refused, clients with certificates.
//! let detailed = TlsServerConfig::builder()
//!     .pem_files("example.org.pem", "example.org.key")
//!     .pem_files("example.org-rsa.pem", "example.org-rsa.key")
//!     .pem_files("api.example.com.pem", "api.example.com.key")
//!     .strict_server_names()
//!     .client_auth(ClientAuth::optional().roots_file("clients-ca.pem"))
//!     .build()?;
//! # Ok::<(), gimmal_security::tls::TlsConfigError>(())
//! ```

#[cfg(feature = "acme")]
pub mod acme;
mod alert;
mod certificate;
mod certified_key;
mod check;
mod client;
mod client_auth;
mod config_error;
mod distinguished_name;
mod engine;
mod error;
mod first_bytes;
mod first_flight;
mod pem;
mod provider;
mod resolver;
mod resumption;
mod roots;
mod server;
mod session;
mod source;

pub use alert::Alert;
pub use certificate::{Certificate, ClientCertificate, KeyAlgorithm, Sha256};
pub use certified_key::CertifiedKey;
pub use check::Exposure;
pub use client::{TlsClientConfig, TlsClientConfigBuilder};
pub use client_auth::ClientAuth;
pub use config_error::{Origin, TlsConfigError};
pub use error::{CertificateProblem, Incompatibility, TlsError};
pub use resumption::{CACHED_SESSIONS, SessionResumption};
pub use server::{TlsServerConfig, TlsServerConfigBuilder};
pub use session::{Received, Sent, TlsSession, TlsState, TlsVersion};

pub use crate::client_certificate::SubjectAltName;
