//! Between Gimmal and Tower: services such as axum's `Router` as handlers, layers such as those of `tower-http` as
//! middleware, and an [`App`](crate::App) as a service.
//!
//! * [`service`] makes a handler of a `Service<http::Request<_>>`. A whole axum app runs unchanged as the fallback of
//!   an app; Gimmal's own routes, if there are any, come first:
//!   `Server::new(App::new().fallback(gimmal::tower::service(router)))`.
//! * [`layer`] makes middleware of a `Layer`: `App::with(gimmal::tower::layer(CompressionLayer::new()))`.
//! * [`AppService`] is an app as a service.
//!
//! Bodies stream both ways, with their trailers. An [`http::Extensions`] among the
//! [`extensions`](crate::Request::extensions) of a Gimmal request or response is the extensions of the message on the
//! other side, and the other way round; [`extensions`](fn@extensions) makes one.
//!
//! # Threads
//! A connection and all that belongs to it stay on one core, while axum asks bodies to be `Send`. So the body that a
//! service gets is a [`SendBody`]: bytes, or a mailbox that the connection fills as it is asked to. It may be moved to
//! another thread, by `tokio::spawn` or `spawn_blocking`; the connection is still read on its core alone, and only
//! while its request is being answered.
//!
//! # Why a service does not run on hyper's own server
//! It could: a [`Stream`](crate::Stream) has all that hyper asks for, and the cost is the same within a few per cent.
//! But then the limits, the time-outs and the strict parsing of this framework would not hold, its routes, middleware
//! and access log would not be there, and upgrades would not work, since hyper wants streams to be `Send` for them.
//!
//! # Upgrades
//! With the feature `tower-upgrade` requests carry a `hyper::upgrade::OnUpgrade`, which is how axum's
//! `WebSocketUpgrade` gets at the connection. Without it, such extractors refuse the request.

mod app_service;
mod body;
mod layer;
mod message;
mod send_body;
mod service;
#[cfg(feature = "tower-upgrade")]
mod upgrade;

pub use app_service::AppService;
pub use layer::{Layered, NextService, layer};
pub use message::extensions;
pub use send_body::SendBody;
pub use service::{TowerService, service};
