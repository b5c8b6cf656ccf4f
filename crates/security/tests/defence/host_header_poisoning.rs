//! Host header poisoning: a `Host` that ends up in links and caches.

use gimmal_security::allowed_hosts::AllowedHosts;

fn hosts() -> AllowedHosts {
    AllowedHosts::new([
        "example.org",
        "*.cdn.example.org",
        "localhost:8080",
        "[::1]",
        "*.dev.example.org:3000",
    ])
    .unwrap()
}

#[test]
fn host_header_poisoning_is_refused() {
    let poisoned: [&[u8]; 24] = [
        b"",
        b"evil.example",
        b"example.org.evil.example",
        b"evilexample.org",
        b"example.org@evil.example",
        b"example.org:80@evil.example",
        b"example.org#evil",
        b"example.org/evil",
        b"example.org\\evil",
        b"example.org:evil",
        b"example.org:80:80",
        b"example.org, evil.example",
        b"example.org\r\nx: y",
        b"example.org ",
        b" example.org",
        b"example.org\0",
        b"\xff",
        b"cdn.example.org",
        b"localhost",
        b"localhost:8081",
        b"example.org..",
        b"<script>",
        b"a.dev.example.org",
        b".cdn.example.org",
    ];
    for host in poisoned {
        assert!(hosts().check(host).is_err(), "{}", host.escape_ascii());
    }
}

#[test]
fn listed_hosts_are_taken_in_normal_form() {
    for (host, normal) in [
        ("example.org", "example.org"),
        ("EXAMPLE.org.", "example.org"),
        ("example.org:443", "example.org:443"),
        ("a.b.cdn.example.org", "a.b.cdn.example.org"),
        ("localhost:8080", "localhost:8080"),
        ("[::1]:9", "[::1]:9"),
        ("x.dev.example.org:3000", "x.dev.example.org:3000"),
    ] {
        assert_eq!(hosts().check(host.as_bytes()).unwrap(), normal);
    }
}

#[test]
fn a_list_with_a_mistake_is_refused_at_start() {
    for bad in ["", "*", "*.", "a.*.b", "https://a", "a/b", "a b", "a:x"] {
        assert!(AllowedHosts::new([bad]).is_err(), "{bad}");
    }
}
