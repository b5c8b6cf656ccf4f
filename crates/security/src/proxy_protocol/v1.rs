//! Version 1: a line of text.

use std::net::{IpAddr, SocketAddr};

use super::tlv::Tlvs;
use super::{Header, Parsed, ProxyProtocolError};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, its CRLF included.
const LINE_LEN_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, ProxyProtocolError> {
    let window = &bytes[..bytes.len().min(LINE_LEN_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let is_full = window.len() == LINE_LEN_MAX;
        return if is_full { Err(ProxyProtocolError::LineTooLong) } else { Ok(Parsed::Incomplete) };
    };
    let line = window[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(SIGNATURE));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(ProxyProtocolError::Line)?;
    let (source, destination) = parse_line(line).ok_or(ProxyProtocolError::Line)?;
    let header = Header { source, destination, is_local: false, tlvs: Tlvs::NONE };
    Ok(Parsed::Complete { header, len: end + 1 })
}

fn parse_line(line: &str) -> Option<(Option<SocketAddr>, Option<SocketAddr>)> {
    let mut words = line.split(' ');
    let is_v6 = match words.next()? {
        "TCP4" => false,
        "TCP6" => true,
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Some((None, None)),
        _ => return None,
    };
    let mut address = || words.next()?.parse::<IpAddr>().ok().filter(|address| address.is_ipv6() == is_v6);
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some((Some((source, source_port).into()), Some((destination, destination_port).into())))
}

/// Decimal, without a sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}
