//! TLS sessions between our server and our client, rustls' client, OpenSSL's, and peers that misbehave.

mod attacks;
mod authority;
mod check;
mod clients;
mod mutual;
mod names;
mod openssl;
mod pair;
mod records;
mod reload;
mod resumption;
mod session;
