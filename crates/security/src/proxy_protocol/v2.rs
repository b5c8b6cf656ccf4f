//! Version 2: a block of bytes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tlv::Tlvs;
use super::{Header, Limits, Parsed, ProxyProtocolError};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, a byte of version and command, a byte of family and protocol, and two bytes of length.
const FIXED_LEN: usize = 16;

pub(super) fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, ProxyProtocolError> {
    let Some(&[version_and_command, family_and_protocol, high, low]) =
        bytes.get(SIGNATURE.len()..FIXED_LEN).and_then(|fixed| fixed.first_chunk())
    else {
        return Ok(Parsed::Incomplete);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyProtocolError::Unknown),
    };
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > limits.header_bytes {
        return Err(ProxyProtocolError::TooLong);
    }
    let Some(whole) = bytes.get(..len) else { return Ok(Parsed::Incomplete) };
    let (addresses, after) = split_addresses(family_and_protocol, &whole[FIXED_LEN..])?;
    let tlvs = Tlvs::parse(after)?;
    tlvs.check_crc(whole)?;
    // A proxy that speaks for itself may fill in any family, which is to be ignored.
    let (source, destination) = addresses.filter(|_| !is_local).unzip();
    Ok(Parsed::Complete { header: Header { source, destination, is_local, tlvs }, len })
}

type Addresses = Option<(SocketAddr, SocketAddr)>;

/// The addresses, which are `None` for families other than IP, and what follows them.
fn split_addresses(family_and_protocol: u8, body: &[u8]) -> Result<(Addresses, &[u8]), ProxyProtocolError> {
    match (family_and_protocol >> 4, family_and_protocol & 0x0f) {
        (0, 0) => Ok((None, body)),
        (1, 1 | 2) => {
            let ([a, b, c, d, e, f, g, h, ports @ ..], after) =
                body.split_first_chunk::<12>().ok_or(ProxyProtocolError::Addresses)?;
            let (source, destination) = parse_ports(*ports);
            let source = (Ipv4Addr::new(*a, *b, *c, *d), source);
            let destination = (Ipv4Addr::new(*e, *f, *g, *h), destination);
            Ok((Some((source.into(), destination.into())), after))
        }
        (2, 1 | 2) => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(ProxyProtocolError::Addresses)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(ProxyProtocolError::Addresses)?;
            let (ports, after) = rest.split_first_chunk::<4>().ok_or(ProxyProtocolError::Addresses)?;
            let (source_port, destination_port) = parse_ports(*ports);
            let source = (Ipv6Addr::from(*source), source_port);
            let destination = (Ipv6Addr::from(*destination), destination_port);
            Ok((Some((source.into(), destination.into())), after))
        }
        // Two paths of Unix sockets.
        (3, 1 | 2) => Ok((None, body.get(216..).ok_or(ProxyProtocolError::Addresses)?)),
        _ => Err(ProxyProtocolError::Unknown),
    }
}

fn parse_ports([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}
