//! HTTPS, raw TCP over TLS, and outgoing connections, over sockets: with curl, OpenSSL, rustls, and peers that
//! misbehave.

mod certificates;
mod check;
mod client;
mod early_data;
mod fetcher;
mod http;
mod misbehaviour;
mod mutual;
mod openssl;
mod outgoing;
mod proxy;
mod resumption;
mod scene;
