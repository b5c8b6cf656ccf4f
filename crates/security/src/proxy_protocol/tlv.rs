//! The fields after the addresses of version 2: type, length, value.

use super::ProxyProtocolError;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;

/// The most that a unique identifier may have.
const UNIQUE_ID_LEN_MAX: usize = 128;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type, as the specification numbers them.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// All fields of a header. They were checked: each lies within the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    pub(super) const NONE: Self = Self(&[]);

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ProxyProtocolError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (field, after) = split(rest).ok_or(ProxyProtocolError::Tlv)?;
            let is_good = match field.kind {
                CRC32C => field.value.len() == 4,
                UNIQUE_ID => field.value.len() <= UNIQUE_ID_LEN_MAX,
                SSL => SslInfo::parse(field.value).is_some(),
                _ => true,
            };
            if !is_good {
                return Err(ProxyProtocolError::Tlv);
            }
            rest = after;
        }
        Ok(Self(bytes))
    }

    /// Compares the checksum, if there is one, with that of the whole header with four zeros in its place. Two
    /// checksums cannot both fit.
    pub(super) fn check_crc(self, whole: &[u8]) -> Result<(), ProxyProtocolError> {
        let mut rest = self.0;
        while let Some((field, after)) = split(rest) {
            rest = after;
            let (CRC32C, Some(&sent)) = (field.kind, field.value.first_chunk::<4>()) else { continue };
            let after_value = after.len();
            let (before, tail) = whole.split_at(whole.len() - after_value - sent.len());
            let sum = crc32c::crc32c(before);
            let sum = crc32c::crc32c_append(sum, &[0; 4]);
            let sum = crc32c::crc32c_append(sum, &tail[sent.len()..]);
            if sum != u32::from_be_bytes(sent) {
                return Err(ProxyProtocolError::Checksum);
            }
        }
        Ok(())
    }

    /// All fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Tlv<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (field, after) = split(rest)?;
            rest = after;
            Some(field)
        })
    }

    /// The first field of a type.
    #[must_use]
    pub fn get(self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|field| field.kind == kind).map(|field| field.value)
    }

    /// The application protocol that client and proxy agreed on, as `h2`.
    #[must_use]
    pub fn alpn(self) -> Option<&'a [u8]> {
        self.get(ALPN)
    }

    /// The host that the client named, as in TLS's SNI. Client's own words: well-formed text and no more.
    #[must_use]
    pub fn authority(self) -> Option<&'a str> {
        std::str::from_utf8(self.get(AUTHORITY)?).ok()
    }

    /// The proxy's identifier of the connection.
    #[must_use]
    pub fn unique_id(self) -> Option<&'a [u8]> {
        self.get(UNIQUE_ID)
    }

    /// What the proxy says of the client's TLS.
    #[must_use]
    pub fn ssl(self) -> Option<SslInfo<'a>> {
        SslInfo::parse(self.get(SSL)?)
    }
}

/// What a proxy says of TLS between it and the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslInfo<'a> {
    client: u8,
    /// Whether the client's certificate, if it gave one, was verified.
    pub is_verified: bool,
    fields: &'a [u8],
}

impl<'a> SslInfo<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let (&[client, ref verify @ ..], fields) = value.split_first_chunk::<5>()?;
        let mut rest = fields;
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        Some(Self { client, is_verified: *verify == [0; 4], fields })
    }

    /// Whether the client speaks TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        self.client & 0x01 != 0
    }

    /// Whether the client gave a certificate, now or when the TLS session began.
    #[must_use]
    pub fn has_certificate(self) -> bool {
        self.client & 0x06 != 0
    }

    /// The version of TLS, as `TLSv1.3`.
    #[must_use]
    pub fn version(self) -> Option<&'a str> {
        std::str::from_utf8(Tlvs(self.fields).get(SSL_VERSION)?).ok()
    }

    /// The common name of the client's certificate; of one that [was verified](Self::is_verified), or of no worth.
    #[must_use]
    pub fn common_name(self) -> Option<&'a str> {
        std::str::from_utf8(Tlvs(self.fields).get(SSL_CN)?).ok()
    }
}

/// The first field, and what follows it.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, after))
}
