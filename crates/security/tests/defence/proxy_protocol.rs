//! The PROXY protocol: what a load balancer says of the client, and what is no such thing.

use std::net::SocketAddr;

use gimmal_security::proxy_protocol::{Header, Limits, Parsed, ProxyProtocolError, parse};
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn read(bytes: &[u8]) -> Result<Parsed<'_>, ProxyProtocolError> {
    parse(bytes, &Limits::default())
}

fn complete(bytes: &[u8]) -> (Header<'_>, usize) {
    match read(bytes) {
        Ok(Parsed::Complete { header, len }) => (header, len),
        other => panic!("{other:?}"),
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

const V4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xc8, 0x22, 1, 187];

fn socket(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn version_1_lines_of_the_specification() {
    let (header, len) = complete(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\nGET");
    assert_eq!((header.source, len), (socket("255.255.255.255:65535"), 56));
    let v6 = b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    assert_eq!(read(v6), Err(ProxyProtocolError::Line));
    let (header, _) = complete(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
    assert_eq!((header.source, header.destination), (socket("[2001:db8::1]:1"), socket("[::1]:2")));
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"] {
        let (header, len) = complete(unknown);
        assert_eq!((header.source, header.is_local, len), (None, false, unknown.len()));
    }
    // The longest that the specification counts: 107 bytes.
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(complete(long.as_bytes()).1, 107);
}

#[test]
fn malformed_version_1_lines_are_refused() {
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(ProxyProtocolError::Line), "{line:?}");
    }
    assert_eq!(
        read(format!("PROXY UNKNOWN {}", "x".repeat(93)).as_bytes()),
        Err(ProxyProtocolError::LineTooLong)
    );
}

#[test]
fn a_client_that_claims_to_be_a_proxy_by_other_means_is_refused_at_once() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"G", b"\x16\x03\x01", b"proxy ", b"PROXX", b"\r\n\r\n\0\r\nQUIX"]
    {
        assert_eq!(read(bytes), Err(ProxyProtocolError::Signature), "{}", bytes.escape_ascii());
    }
}

#[test]
fn version_2_addresses() {
    let bytes = [v2(0x21, 0x11, &V4), b"rest".to_vec()].concat();
    let (header, len) = complete(&bytes);
    assert_eq!((header.source, header.destination), (socket("203.0.113.9:51234"), socket("192.0.2.1:443")));
    assert_eq!(&bytes[len..], b"rest");

    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 80;
    let bytes = v2(0x21, 0x21, &v6);
    assert_eq!(complete(&bytes).0.source, socket("[::1]:80"));

    // A proxy that speaks for itself, and one for a client without an address.
    let local = v2(0x20, 0x11, &V4);
    let (header, _) = complete(&local);
    assert!(header.is_local && header.source.is_none());
    let local = v2(0x20, 0, &[]);
    assert!(complete(&local).0.is_local);
    let unspecified = v2(0x21, 0, &[]);
    assert_eq!(complete(&unspecified).0.source, None);
    let unix = v2(0x21, 0x31, &[0; 216]);
    assert_eq!(complete(&unix).0.source, None);
}

#[test]
fn malformed_version_2_headers_are_refused() {
    for (bytes, error) in [
        (v2(0x11, 0x11, &V4), ProxyProtocolError::Unknown),
        (v2(0x22, 0x11, &V4), ProxyProtocolError::Unknown),
        (v2(0x21, 0x41, &V4), ProxyProtocolError::Unknown),
        (v2(0x21, 0x13, &V4), ProxyProtocolError::Unknown),
        (v2(0x21, 0x10, &V4), ProxyProtocolError::Unknown),
        (v2(0x21, 0x11, &V4[..11]), ProxyProtocolError::Addresses),
        (v2(0x21, 0x21, &V4), ProxyProtocolError::Addresses),
        (v2(0x21, 0x31, &[0; 215]), ProxyProtocolError::Addresses),
        (v2(0x21, 0x11, &[&V4[..], &[1]].concat()), ProxyProtocolError::Tlv),
        (v2(0x21, 0x11, &[&V4[..], &[1, 0, 5, 0]].concat()), ProxyProtocolError::Tlv),
        (v2(0x21, 0x11, &[&V4[..], &tlv(3, b"abc")].concat()), ProxyProtocolError::Tlv),
        (v2(0x21, 0x11, &[&V4[..], &tlv(5, &[0; 129])].concat()), ProxyProtocolError::Tlv),
        (v2(0x21, 0x11, &[&V4[..], &tlv(0x20, b"abcd")].concat()), ProxyProtocolError::Tlv),
        (
            v2(0x21, 0x11, &[&V4[..], &tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9])].concat()),
            ProxyProtocolError::Tlv,
        ),
    ] {
        assert_eq!(read(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
    // The length alone is enough to refuse it.
    let huge = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    assert_eq!(read(&huge), Err(ProxyProtocolError::TooLong));
    let small = v2(0x21, 0x11, &V4);
    assert!(matches!(parse(&small, &Limits { header_bytes: 27 }), Err(ProxyProtocolError::TooLong)));
    assert!(matches!(parse(&small, &Limits { header_bytes: 28 }), Ok(Parsed::Complete { .. })));
}

#[test]
fn fields_are_read() {
    let ssl = [&[0x07, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"alice")].concat();
    let body =
        [&V4[..], &tlv(1, b"h2"), &tlv(2, b"shop.example"), &tlv(4, b"  "), &tlv(5, b"id"), &tlv(0x20, &ssl)]
            .concat();
    let bytes = v2(0x21, 0x11, &body);
    let (header, _) = complete(&bytes);
    assert_eq!(header.tlvs.alpn(), Some(&b"h2"[..]));
    assert_eq!(header.tlvs.authority(), Some("shop.example"));
    assert_eq!(header.tlvs.unique_id(), Some(&b"id"[..]));
    assert_eq!(header.tlvs.iter().count(), 5);
    let ssl = header.tlvs.ssl().unwrap();
    assert!(ssl.is_tls() && ssl.has_certificate() && ssl.is_verified);
    assert_eq!((ssl.version(), ssl.common_name()), (Some("TLSv1.3"), Some("alice")));
}

fn with_checksum(before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut bytes = v2(0x21, 0x11, &[&V4[..], before, &tlv(3, &[0; 4]), after].concat());
    let at = bytes.len() - after.len() - 4;
    let sum = crc32c::crc32c(&bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn a_changed_header_with_a_checksum_is_refused() {
    // The check value of CRC-32C.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let bytes = with_checksum(&tlv(1, b"h2"), &tlv(5, b"id"));
    assert_eq!(complete(&bytes).0.source, socket("203.0.113.9:51234"));
    // Every byte of addresses and values is covered.
    let values = (16..28).chain([31, 32]).chain(36..40).chain([43, 44]);
    for at in values {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(read(&changed), Err(ProxyProtocolError::Checksum), "byte {at}");
    }
}

proptest! {
    /// The entry of a fuzzer, too: no bytes make it panic, and it takes no more than it was given.
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0_usize..3) {
        let start: &[u8] = [&b""[..], b"PROXY ", SIGNATURE][start];
        let bytes = [start, &bytes].concat();
        if let Ok(Parsed::Complete { header, len }) = read(&bytes) {
            prop_assert!(len <= bytes.len());
            prop_assert!(header.tlvs.iter().all(|tlv| tlv.value.len() < len));
        }
    }

    /// In pieces of any size, the answer is the same, and none before all is there.
    #[test]
    fn every_prefix_is_incomplete(
        is_v2 in any::<bool>(),
        source in any::<SocketAddr>(),
        destination in any::<[u8; 16]>(),
        values in prop::collection::vec((6_u8..0x20, prop::collection::vec(any::<u8>(), 0..20)), 0..4),
    ) {
        let source = SocketAddr::new(source.ip(), source.port());
        let is_v6 = source.is_ipv6();
        let destination: SocketAddr = if is_v6 {
            (std::net::Ipv6Addr::from(destination), 443).into()
        } else {
            (std::net::Ipv4Addr::from([destination[0], destination[1], destination[2], destination[3]]), 443).into()
        };
        let bytes = if is_v2 {
            let mut body = Vec::new();
            for address in [source, destination] {
                match address.ip() {
                    std::net::IpAddr::V4(address) => body.extend(address.octets()),
                    std::net::IpAddr::V6(address) => body.extend(address.octets()),
                }
            }
            body.extend(source.port().to_be_bytes());
            body.extend(destination.port().to_be_bytes());
            for (kind, value) in &values {
                body.extend(tlv(*kind, value));
            }
            v2(0x21, if is_v6 { 0x21 } else { 0x11 }, &body)
        } else {
            let family = if is_v6 { "TCP6" } else { "TCP4" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        };
        for len in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..len]), Ok(Parsed::Incomplete));
        }
        let (header, len) = complete(&bytes);
        prop_assert_eq!((header.source, header.destination, len), (Some(source), Some(destination), bytes.len()));
    }
}
