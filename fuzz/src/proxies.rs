//! What proxies say of a client: `Forwarded` and its like, and the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use gimmal_security::forwarded::{Fields, TrustedProxies};
use gimmal_security::proxy_protocol::{Limits, Parsed, parse};
use ipnet::IpNet;

use crate::Input;

/// Values of one field after values of another.
struct Lines<'a>(&'a [(&'static str, Vec<&'a [u8]>)]);

impl Fields for Lines<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(own, _)| *own == name).flat_map(|(_, values)| values.iter().copied())
    }
}

/// The lines are the values of the field for addresses; behind an empty line come those of the scheme, then the host.
pub fn run_forwarded(data: &[u8]) {
    let networks: [IpNet; 1] = ["10.0.0.0/8".parse().expect("a network")];
    let [proxy, stranger]: [SocketAddr; 2] =
        ["10.0.0.1:1", "198.51.100.4:1"].map(|peer| peer.parse().expect("an address"));
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let parts: Vec<&[&[u8]]> = lines.split(|line| line.is_empty()).collect();
    let part = |number: usize| parts.get(number).map(|part| part.to_vec()).unwrap_or_default();
    for (proxies, field, planted) in [
        (TrustedProxies::forwarded(networks), "forwarded", &b"for=192.0.2.66"[..]),
        (TrustedProxies::x_forwarded(networks), "x-forwarded-for", b"192.0.2.66"),
        (TrustedProxies::x_forwarded(networks).with_forwarded_host(), "x-forwarded-for", b"192.0.2.66"),
    ] {
        let mut fields =
            vec![(field, part(0)), ("x-forwarded-proto", part(1)), ("x-forwarded-host", part(2))];
        // From anybody it means nothing.
        let own = proxies.client(stranger, &Lines(&fields)).expect("nothing is looked at");
        assert_eq!((own.address, own.scheme, own.host), (stranger.ip(), None, None));
        let Ok(client) = proxies.client(proxy, &Lines(&fields)) else { continue };
        if let Some(host) = &client.host {
            assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()), "{host:?}");
        }
        // What a client plants in front of it moves nobody but one whose proxies are all trusted.
        fields[0].1.insert(0, planted);
        let planted: IpAddr = "192.0.2.66".parse().expect("an address");
        if !proxies.trusts(client.address)
            && let Ok(again) = proxies.client(proxy, &Lines(&fields))
        {
            assert!(
                again.address == client.address || client.address == planted,
                "{client:?}, then {again:?}"
            );
        }
    }
}

/// In pieces it gives what it gives whole, and never anything else before its end.
pub fn run_proxy_protocol(data: &[u8]) {
    let Some(input) = Input::new(data) else { return };
    let limits = Limits { header_bytes: 512 };
    let whole = parse(input.message, &limits);
    for prefix in input.prefixes() {
        match (parse(prefix, &limits), &whole) {
            (Ok(Parsed::Incomplete), _) => {}
            (
                Ok(Parsed::Complete { header, len }),
                Ok(Parsed::Complete { header: known, len: known_len }),
            ) => {
                assert_eq!((&header, len), (known, *known_len));
                assert!(len <= prefix.len());
            }
            (Err(_), Err(_)) => {}
            (piece, whole) => panic!("whole {whole:?}, in pieces {piece:?}"),
        }
    }
    let Ok(Parsed::Complete { header, len }) = whole else { return };
    assert!(len <= input.message.len());
    assert_eq!(header.source.is_some(), header.destination.is_some());
    assert!(!header.is_local || header.source.is_none());
    for tlv in header.tlvs.iter() {
        assert!(tlv.value.len() < len);
    }
    let _ = (header.tlvs.alpn(), header.tlvs.authority(), header.tlvs.unique_id());
    if let Some(ssl) = header.tlvs.ssl() {
        let _ = (ssl.is_tls(), ssl.has_certificate(), ssl.version(), ssl.common_name());
    }
}
