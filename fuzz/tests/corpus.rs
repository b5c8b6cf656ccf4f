//! The bodies of the targets over their seeds, with any compiler: `cargo test --manifest-path fuzz/Cargo.toml`.

use std::path::Path;

use gimmal_fuzz::{cookies, credentials, jwt, names, proxies, tls};

fn run(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in seeds {
        body(&std::fs::read(seed).unwrap());
    }
}

#[test]
fn credentials_seeds() {
    run("credentials", credentials::run);
}

#[test]
fn digest_seeds() {
    run("digest", credentials::run_digest);
}

#[test]
fn cookies_seeds() {
    run("cookies", cookies::run);
}

#[test]
fn jwt_seeds() {
    run("jwt", jwt::run);
}

#[test]
fn names_seeds() {
    run("names", names::run);
}

#[test]
fn forwarded_seeds() {
    run("forwarded", proxies::run_forwarded);
}

#[test]
fn proxy_protocol_seeds() {
    run("proxy_protocol", proxies::run_proxy_protocol);
}

#[test]
fn tls_first_bytes_seeds() {
    run("tls_first_bytes", tls::run);
}
