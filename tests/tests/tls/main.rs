//! HTTPS, raw TCP over TLS, and outgoing connections, over sockets: with curl, OpenSSL, rustls, and peers that
//! misbehave.

mod certificates;
mod check;
mod early_data;
mod http;
mod misbehaviour;
mod mutual;
mod openssl;
mod outgoing;
mod resumption;
mod scene;
