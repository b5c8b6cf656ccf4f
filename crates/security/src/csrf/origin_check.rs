//! The check of Sec-Fetch-Site and Origin on requests that change something.

use http::Method;
use thiserror::Error;

use crate::{Finding, Origin, Severity};

/// What [`OriginCheck`] looks at in a request. The values are those of the fields, unchanged.
#[derive(Clone, Copy, Debug)]
pub struct OriginRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without the query, as it was sent.
    pub path: &'a str,
    /// Whether the client speaks TLS, to this server or to a trusted proxy before it.
    pub secure: bool,
    /// `Host`, or the authority of the target.
    pub host: Option<&'a [u8]>,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`.
    pub sec_fetch_site: Option<&'a [u8]>,
}

/// Why a request passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginProof<'a> {
    /// GET, HEAD or OPTIONS: it must change nothing (RFC 9110 section 9.2.1).
    Safe,
    /// The browser says that the page is of this very origin, or that the user typed the address.
    SameOrigin,
    /// It comes from an origin on the list.
    TrustedOrigin,
    /// The bypass of this name fits.
    Bypass(&'a str),
    /// It says nothing of where it comes from: a program, or a browser from before 2020. If a cookie authenticates
    /// it, ask for a token ([`CsrfTokens`](super::CsrfTokens)).
    Unlabelled,
}

/// Why a request was refused: answer 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CsrfRefusal {
    /// `Sec-Fetch-Site` is neither `same-origin` nor `none`.
    #[error("cross-origin request refused: Sec-Fetch-Site is neither same-origin nor none")]
    SecFetchSite,
    /// `Origin` is not the origin that the request was sent to.
    #[error("cross-origin request refused: Origin does not match Host")]
    Origin,
}

/// What is wrong with a bypass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the path {path:?} of the bypass {name:?} must begin with / and hold no other * than a last /*")]
pub struct BypassError {
    name: String,
    path: String,
}

#[derive(Clone, Debug)]
struct Bypass {
    name: String,
    method: Method,
    path: String,
    /// Everything under the path, rather than the path alone.
    is_prefix: bool,
}

impl Bypass {
    fn fits(&self, request: &OriginRequest<'_>) -> bool {
        *request.method == self.method
            && if self.is_prefix {
                request.path.starts_with(&self.path) && is_plain(request.path)
            } else {
                request.path == self.path
            }
    }
}

/// Whether nobody can read this path as another one than it seems: a router that resolves `..` would otherwise lead
/// out from under the prefix of a bypass.
fn is_plain(path: &str) -> bool {
    !path.contains(['%', '\\'])
        && !path.contains("//")
        && !path.split('/').any(|part| part == "." || part == "..")
}

/// Refuses requests that change something and come from another origin.
///
/// In this order: a safe method passes; `Sec-Fetch-Site`, which all browsers have sent since 2023, decides if it is
/// there; then `Origin` is compared with `Host`; a request with neither is not from a browser of our time. Over TLS,
/// an `Origin` of plain HTTP is another origin. A trusted origin or a bypass overrules a refusal.
///
/// ```
/// use gimmal_security::csrf::{CsrfRefusal, OriginCheck, OriginProof, OriginRequest};
/// use http::Method;
///
/// let check = OriginCheck::new().trust("https://app.example.org".parse()?);
/// let mut request = OriginRequest {
///     method: &Method::POST,
///     path: "/transfer",
///     secure: true,
///     host: Some(b"bank.example.org"),
///     origin: Some(b"https://bank.example.org"),
///     sec_fetch_site: Some(b"same-origin"),
/// };
/// assert_eq!(check.verify(&request), Ok(OriginProof::SameOrigin));
///
/// request.origin = Some(b"https://evil.example");
/// request.sec_fetch_site = Some(b"cross-site");
/// assert_eq!(check.verify(&request), Err(CsrfRefusal::SecFetchSite));
/// # Ok::<(), gimmal_security::OriginError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OriginCheck {
    trusted: Vec<Origin>,
    bypasses: Vec<Bypass>,
}

impl OriginCheck {
    /// A check that trusts no other origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets pages of another origin send requests that change something.
    #[must_use]
    pub fn trust(mut self, origin: Origin) -> Self {
        self.trusted.push(origin);
        self
    }

    /// Lets every origin send `method` to `path`, or to all below it if it ends in `/*`. For endpoints that no cookie
    /// authenticates, as webhooks; the name appears in [`OriginProof::Bypass`], for the log.
    ///
    /// A path matches exactly as it was sent. One that is percent-encoded or has dot segments never matches a prefix.
    ///
    /// # Errors
    /// [`BypassError`] if the path does not begin with `/`, or has a `*` elsewhere.
    pub fn bypass_insecurely(mut self, name: &str, method: Method, path: &str) -> Result<Self, BypassError> {
        let (prefix, is_prefix) = match path.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => (prefix, true),
            _ => (path, false),
        };
        if !prefix.starts_with('/') || prefix.contains('*') {
            return Err(BypassError { name: name.to_owned(), path: path.to_owned() });
        }
        self.bypasses.push(Bypass { name: name.to_owned(), method, path: prefix.to_owned(), is_prefix });
        Ok(self)
    }

    /// Whether the request may go on, and why.
    ///
    /// # Errors
    /// [`CsrfRefusal`]: answer 403.
    pub fn verify(&self, request: &OriginRequest<'_>) -> Result<OriginProof<'_>, CsrfRefusal> {
        if matches!(*request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(OriginProof::Safe);
        }
        let refusal = match (request.sec_fetch_site, request.origin) {
            (Some(b"same-origin" | b"none"), _) => return Ok(OriginProof::SameOrigin),
            (Some(_), _) => CsrfRefusal::SecFetchSite,
            (None, None) => return Ok(OriginProof::Unlabelled),
            (None, Some(origin)) if is_own(origin, request) => return Ok(OriginProof::SameOrigin),
            (None, Some(_)) => CsrfRefusal::Origin,
        };
        self.exemption(request).ok_or(refusal)
    }

    /// What in the list is open to an attack: every bypass, and origins of plain HTTP.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let bypasses = self.bypasses.iter().map(|bypass| Finding {
            severity: Severity::Warning,
            code: "csrf.bypass",
            what: format!(
                "the bypass {:?} lets any site send {} to {}",
                bypass.name, bypass.method, bypass.path
            ),
            cure: "keep it only if no cookie authenticates what it leads to".to_owned(),
        });
        let plain = self.trusted.iter().filter(|origin| origin.scheme() == "http").map(|origin| Finding {
            severity: Severity::Warning,
            code: "csrf.plain_origin",
            what: format!("the trusted origin {origin} can be impersonated by whoever is on the network"),
            cure: "trust its https origin".to_owned(),
        });
        bypasses.chain(plain).collect()
    }

    fn exemption(&self, request: &OriginRequest<'_>) -> Option<OriginProof<'_>> {
        let origin = request.origin.and_then(|origin| Origin::parse(origin).ok());
        if origin.is_some_and(|origin| self.trusted.contains(&origin)) {
            return Some(OriginProof::TrustedOrigin);
        }
        let bypass = self.bypasses.iter().find(|bypass| bypass.fits(request))?;
        Some(OriginProof::Bypass(&bypass.name))
    }
}

/// Whether `Origin` is the origin that the request was sent to. A server on plain HTTP may stand behind a proxy that
/// it was not told of, so there both schemes are its own.
fn is_own(origin: &[u8], request: &OriginRequest<'_>) -> bool {
    let (Ok(origin), Some(host)) = (Origin::parse(origin), request.host) else { return false };
    match origin.scheme() {
        "https" => origin.is_host(host),
        "http" => !request.secure && origin.is_host(host),
        _ => false,
    }
}
