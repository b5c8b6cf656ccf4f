//! A server framework for Linux: TCP and HTTP on io_uring, one ring per core, secure by default, next to the Tokio
//! ecosystem.
//!
//! ```no_run
//! use gimmal::{App, Path, Server};
//!
//! async fn greet(Path(name): Path<String>) -> String {
//!     format!("Hello, {name}!")
//! }
//!
//! fn main() -> Result<(), gimmal::ServerError> {
//!     let app = App::new().get("/", async || "Hello, World!").get("/greet/{name}", greet);
//!     Server::new(app).bind("127.0.0.1:8080").run()
//! }
//! ```
//!
//! Each core is a thread of its own with a ring, its connections and its tasks. A connection stays on the core that
//! accepted it, so handlers need not be `Send` and share nothing that is locked. Where io_uring is not to be had, the
//! same server runs on epoll.
#![forbid(unsafe_code)]

mod access_log;
#[cfg(feature = "acme")]
mod acme;
mod app;
pub mod audit;
pub mod auth;
mod body;
mod certificates;
mod check;
mod chores;
pub mod client;
mod clock;
#[cfg(feature = "compression")]
pub mod compression;
mod config;
mod connection;
pub mod cookies;
pub mod defence;
mod error;
mod exact_paths;
mod extensions;
mod extract;
mod fields;
#[cfg(feature = "files")]
mod file_body;
#[cfg(feature = "files")]
pub mod files;
mod handler;
mod handshakes;
mod incoming;
#[cfg(feature = "proxy")]
mod interim;
mod json_lines;
mod middleware;
#[cfg(feature = "multipart")]
pub mod multipart;
mod outgoing;
#[cfg(feature = "proxy")]
pub mod proxy;
mod proxy_protocol;
mod recycled;
mod redirect;
mod request;
mod response;
mod router;
mod serve;
mod server;
mod service;
pub mod sse;
mod stream;
pub mod test;
#[cfg(feature = "tower")]
pub mod tower;
mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;

/// The examples of the threat model compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/SECURITY.md")]
struct ThreatModel;

pub use app::{App, Route, any, connect, delete, get, head, options, patch, post, put};
pub use body::{Body, BodyError, BoxError, Chunk, Incoming, ResponseBodyError};
pub use bytes::Bytes;
pub use config::Timeouts;
pub use error::Error;
pub use extensions::Extensions;
pub use extract::{Extension, Form, FromRequest, Path, Query, State};
pub use gimmal_http::Limits;
pub use gimmal_runtime::{
    Address, Backend, BackendKind, BlockingError, ConnectionId, ConnectionInfo, Core, CoreFailure,
    FailedCore, ListenOptions, LocalFuture, Options, SendBuf, Snapshot, blocking,
};
pub use gimmal_security::{self as security, Finding, Severity, tls};
pub use handler::{Handler, Needs};
pub use http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use json_lines::{JsonLines, json_lines};
pub use middleware::{Middleware, Next};
pub use request::{Request, RequestId};
pub use response::{Html, IntoResponse, Json, Redirect, Response};
pub use router::AppError;
pub use server::{Running, Server, ServerError, ServerHandle};
pub use stream::{Stream, TlsInfo};
