//! HTTPS, raw TCP over TLS, and outgoing connections, over sockets: with curl, OpenSSL, rustls, and peers that
//! misbehave.

mod http;
mod misbehaviour;
mod openssl;
mod resumption;
mod scene;
