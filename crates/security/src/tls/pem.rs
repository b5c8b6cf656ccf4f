//! PEM (RFC 7468) in and out, with errors that name the file and the line.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{Error, SectionKind, SliceIter};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::config_error::{Origin, TlsConfigError};

/// What a PEM text can hold that TLS has a use for.
pub(super) enum Item {
    Certificate(CertificateDer<'static>),
    PrivateKey(PrivateKeyDer<'static>),
    RevocationList(CertificateRevocationListDer<'static>),
}

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path).map_err(|error| TlsConfigError::Unreadable { path: path.to_owned(), error })
}

/// All items in `text`, in order. Blocks of other kinds, and text between blocks, are passed over.
pub(super) fn parse(text: &[u8], origin: &Origin) -> Result<Vec<Item>, TlsConfigError> {
    // DER starts with the tag of a SEQUENCE; PEM is text.
    if text.first() == Some(&0x30) {
        return Err(bad(
            origin,
            1,
            "this is DER, not PEM: convert it with `openssl x509 -inform der` or `openssl pkey`",
        ));
    }
    let mut sections = SliceIter::<(SectionKind, Vec<u8>)>::new(text);
    let mut items = Vec::new();
    loop {
        let line = next_block_line(text, sections.remainder());
        let (kind, der) = match sections.next() {
            None => return Ok(items),
            Some(Ok(section)) => section,
            Some(Err(error)) => {
                return Err(bad(
                    origin,
                    line,
                    match error {
                        Error::MissingSectionEnd { .. } => {
                            "the block that starts here has no END line: it was cut short"
                        }
                        Error::IllegalSectionStart { .. } => "this BEGIN line is damaged",
                        Error::Base64Decode(_) => "the block that starts here is not base64: it was damaged",
                        _ => "the block that starts here cannot be read",
                    },
                ));
            }
        };
        match kind {
            SectionKind::Certificate => items.push(Item::Certificate(der.into())),
            SectionKind::Crl => items.push(Item::RevocationList(der.into())),
            SectionKind::RsaPrivateKey => items.push(Item::PrivateKey(PrivateKeyDer::Pkcs1(der.into()))),
            SectionKind::PrivateKey => items.push(Item::PrivateKey(PrivateKeyDer::Pkcs8(der.into()))),
            SectionKind::EcPrivateKey => items.push(Item::PrivateKey(PrivateKeyDer::Sec1(der.into()))),
            _ => {}
        }
    }
}

/// The line, from 1, at which the next block after what was consumed begins.
fn next_block_line(text: &[u8], remainder: &[u8]) -> usize {
    let consumed = text.len() - remainder.len();
    let begin = remainder.windows(11).position(|window| window == b"-----BEGIN ").unwrap_or(0);
    text[..consumed + begin].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn bad(origin: &Origin, line: usize, reason: &'static str) -> TlsConfigError {
    TlsConfigError::BadPem { origin: origin.clone(), line, reason }
}

/// The certificates of `text`, at least one.
pub(super) fn certificates(
    text: &[u8],
    origin: &Origin,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let items = parse(text, origin)?;
    let has_key = items.iter().any(|item| matches!(item, Item::PrivateKey(_)));
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| if let Item::Certificate(der) = item { Some(der) } else { None })
        .collect();
    if certificates.is_empty() {
        return Err(TlsConfigError::Missing {
            origin: origin.clone(),
            expected: "certificate",
            cure: if has_key {
                "it holds a private key: are the two files swapped?"
            } else {
                "give a PEM file with the server's certificate, followed by its issuers'"
            },
        });
    }
    Ok(certificates)
}

/// The one private key of `text`.
pub(super) fn private_key(text: &[u8], origin: &Origin) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let mut has_certificate = false;
    for item in parse(text, origin)? {
        match item {
            Item::PrivateKey(key) => return Ok(key),
            Item::Certificate(_) => has_certificate = true,
            Item::RevocationList(_) => {}
        }
    }
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(TlsConfigError::EncryptedPrivateKey(origin.clone()));
    }
    Err(TlsConfigError::Missing {
        origin: origin.clone(),
        expected: "private key",
        cure: if has_certificate {
            "it holds a certificate: are the two files swapped?"
        } else {
            "give a PEM file with the private key"
        },
    })
}

/// The revocation lists of `text`, at least one.
pub(super) fn revocation_lists(
    text: &[u8],
    origin: &Origin,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigError> {
    let lists: Vec<_> = parse(text, origin)?
        .into_iter()
        .filter_map(|item| if let Item::RevocationList(der) = item { Some(der) } else { None })
        .collect();
    if lists.is_empty() {
        return Err(TlsConfigError::Missing {
            origin: origin.clone(),
            expected: "revocation list",
            cure: "give a PEM file with X509 CRL blocks; convert DER with `openssl crl -inform der`",
        });
    }
    Ok(lists)
}

/// One block of PEM, lines of 64 characters (RFC 7468 section 2).
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in base64.as_bytes().chunks(64) {
        // Base64 is ASCII.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
