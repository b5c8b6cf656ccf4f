//! The request target and its four forms (RFC 9112 section 3.2).

use http::Method;

use crate::characters::{Class, prefix_len};
use crate::error::RequestError;
use crate::host::Authority;

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// A target in its parts.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) form: TargetForm,
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(target: &'a [u8], method: &Method) -> Result<Self, RequestError> {
        let parsed = match target {
            _ if *method == Method::CONNECT => Self::authority(target),
            [b'/', ..] => Self::origin(target),
            b"*" if *method == Method::OPTIONS => {
                Some(Self { form: TargetForm::Asterisk, path: target, query: None, authority: None })
            }
            _ => Self::absolute(target),
        };
        parsed.ok_or(RequestError::Target)
    }

    fn authority(target: &'a [u8]) -> Option<Self> {
        let has_port = Authority::parse(target)?.has_port();
        has_port.then_some(Self {
            form: TargetForm::Authority,
            path: &target[target.len()..],
            query: None,
            authority: Some(target),
        })
    }

    fn origin(target: &'a [u8]) -> Option<Self> {
        let (path, rest) = target.split_at(prefix_len(target, Class::Path));
        let query = match rest {
            [] => None,
            [b'?', query @ ..] if prefix_len(query, Class::Query) == query.len() => Some(query),
            _ => return None,
        };
        Some(Self { form: TargetForm::Origin, path, query, authority: None })
    }

    fn absolute(target: &'a [u8]) -> Option<Self> {
        let (_, authority_start) = scheme(target)?;
        let rest = &target[authority_start..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        Authority::parse(authority)?;
        let parts = Self::origin(rest)?;
        Some(Self { form: TargetForm::Absolute, authority: Some(authority), ..parts })
    }

    /// Whether `host` names the authority of this absolute target. `target` is the whole of it.
    pub(crate) fn is_at(&self, host: &Authority<'_>, target: &[u8]) -> bool {
        let authority = self.authority.and_then(Authority::parse);
        match (authority, scheme(target)) {
            (Some(authority), Some((port, _))) => authority.is_same(host, port),
            _ => false,
        }
    }
}

/// The default port of the scheme of an absolute target, and where its authority begins.
pub(crate) fn scheme(target: &[u8]) -> Option<(u16, usize)> {
    let starts_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    match () {
        () if starts_with(b"http://") => Some((80, 7)),
        () if starts_with(b"https://") => Some((443, 8)),
        () => None,
    }
}
