//! Cross-origin resource sharing (Fetch standard, section 3.2): which other origins' pages may read responses.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName,
    HeaderValue, VARY,
};
use http::{HeaderMap, Method};
use thiserror::Error;

use crate::static_value::static_value;
use crate::{Finding, Origin, Severity};

const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What is wrong with a [`CorsBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CorsError {
    /// Any origin, with credentials: any site could act as the user and read the answers.
    #[error("credentials are never for any origin: list the origins that may use them")]
    CredentialsForAnyOrigin,
    /// The `null` origin, with credentials: any site can take that origin, with a sandboxed frame.
    #[error("credentials are never for the null origin, which any site can take: give up one or the other")]
    CredentialsForNullOrigin,
    /// No origin is allowed.
    #[error("no origin is allowed: name one, or leave the CORS rules out")]
    NoOrigin,
}

/// Why a preflight was refused. For the log; a browser tells its page nothing but that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CorsRefusal {
    /// The origin is not allowed, or is `null`, or is no origin.
    #[error("CORS preflight refused: the origin is not allowed")]
    Origin,
    /// The method is not allowed.
    #[error("CORS preflight refused: the method is not allowed")]
    Method,
    /// A header field is not allowed.
    #[error("CORS preflight refused: a header field is not allowed")]
    Header,
    /// A page of a public network asks for a server in a private one.
    #[error("CORS preflight refused: access to a private network is not allowed")]
    PrivateNetwork,
}

/// What [`Cors`] looks at in a request. The values are those of the fields, unchanged; `None` where a field is
/// absent.
#[derive(Clone, Copy, Debug)]
pub struct CorsRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Access-Control-Request-Method`.
    pub request_method: Option<&'a [u8]>,
    /// `Access-Control-Request-Headers`.
    pub request_headers: Option<&'a [u8]>,
    /// `Access-Control-Request-Private-Network`.
    pub request_private_network: Option<&'a [u8]>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsAnswer {
    /// Serve it, and add these fields with [`add_to`]. Without `Access-Control-Allow-Origin` among them, a page of
    /// another origin cannot read the response.
    Serve(CorsHeaders),
    /// It is an allowed preflight: answer 204 with these fields.
    Preflight(CorsHeaders),
    /// It is a refused preflight: answer 403 with these fields.
    Refuse(CorsRefusal, CorsHeaders),
}

/// Fields to add to a response; for `Vary`, append.
pub type CorsHeaders = Vec<(HeaderName, HeaderValue)>;

/// Adds the fields to a response. `Vary` is appended, the others replace what is there.
pub fn add_to(headers: &mut HeaderMap, cors: CorsHeaders) {
    for (name, value) in cors {
        if name == VARY {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

#[derive(Clone)]
enum Origins {
    Any,
    List(HashSet<Origin>),
    Predicate(Arc<dyn Fn(&Origin) -> bool + Send + Sync>),
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::List(list) => f.debug_tuple("List").field(list).finish(),
            Self::Predicate(_) => f.write_str("Predicate"),
        }
    }
}

/// Rules that are being written; [`build`](Self::build) checks them.
#[derive(Clone, Debug)]
pub struct CorsBuilder {
    origins: Origins,
    allows_null: bool,
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    exposed: Vec<HeaderName>,
    credentials: bool,
    private_network: bool,
    max_age: Duration,
}

impl CorsBuilder {
    /// Allows an origin.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        match &mut self.origins {
            Origins::List(list) => {
                list.insert(origin);
            }
            _ => self.origins = Origins::List([origin].into()),
        }
        self
    }

    /// Allows the origins for which `is_allowed` returns true. It sees them in normal form: compare the whole, or the
    /// end of the host after a dot.
    #[must_use]
    pub fn origins_that(mut self, is_allowed: impl Fn(&Origin) -> bool + Send + Sync + 'static) -> Self {
        self.origins = Origins::Predicate(Arc::new(is_allowed));
        self
    }

    /// Allows every origin, for what is public anyway. Never with credentials.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.origins = Origins::Any;
        self
    }

    /// Allows the origin `null`, which sandboxed frames and local files have, and which any site can take.
    #[must_use]
    pub fn null_origin_insecurely(mut self) -> Self {
        self.allows_null = true;
        self
    }

    /// The methods that pages may use besides GET, HEAD and POST, which need no leave.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// The request fields that pages may set.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = headers.into_iter().collect();
        self
    }

    /// The response fields that pages may read, besides the few that need no leave.
    #[must_use]
    pub fn expose(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed = headers.into_iter().collect();
        self
    }

    /// Lets pages send cookies and other credentials along.
    #[must_use]
    pub fn credentials(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// Lets pages of public networks reach this server in a private one.
    #[must_use]
    pub fn private_network(mut self) -> Self {
        self.private_network = true;
        self
    }

    /// How long browsers keep the answer to a preflight; whole seconds.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    /// [`CorsError`] for credentials next to any origin or the `null` origin, or without an origin.
    pub fn build(self) -> Result<Cors, CorsError> {
        if self.credentials && matches!(self.origins, Origins::Any) {
            return Err(CorsError::CredentialsForAnyOrigin);
        }
        if self.credentials && self.allows_null {
            return Err(CorsError::CredentialsForNullOrigin);
        }
        if matches!(&self.origins, Origins::List(list) if list.is_empty()) && !self.allows_null {
            return Err(CorsError::NoOrigin);
        }
        Ok(Cors {
            methods_value: list(self.methods.iter().map(Method::as_str)),
            headers_value: list(self.headers.iter().map(HeaderName::as_str)),
            exposed_value: list(self.exposed.iter().map(HeaderName::as_str)),
            max_age_value: HeaderValue::from(self.max_age.as_secs()),
            rules: self,
        })
    }
}

/// The names with commas between them; `None` without names. A method or field name is a token, so the value is one.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { None } else { static_value(names.join(", ")) }
}

/// Checked rules, which answer each request.
///
/// ```
/// use gimmal_security::cors::{Cors, CorsAnswer, CorsError, CorsRequest};
/// use http::{Method, header};
///
/// let cors = Cors::builder()
///     .origin("https://app.example.org".parse()?)
///     .methods([Method::PUT])
///     .headers([header::CONTENT_TYPE])
///     .credentials()
///     .build()?;
/// let answer = cors.answer(&CorsRequest {
///     method: &Method::OPTIONS,
///     origin: Some(b"https://app.example.org"),
///     request_method: Some(b"PUT"),
///     request_headers: Some(b"content-type"),
///     request_private_network: None,
/// });
/// assert!(matches!(answer, CorsAnswer::Preflight(_)));
///
/// let careless = Cors::builder().any_origin().credentials().build();
/// assert_eq!(careless.unwrap_err(), CorsError::CredentialsForAnyOrigin);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cors {
    rules: CorsBuilder,
    methods_value: Option<HeaderValue>,
    headers_value: Option<HeaderValue>,
    exposed_value: Option<HeaderValue>,
    max_age_value: HeaderValue,
}

impl Cors {
    /// Rules that allow no origin yet. Preflights are kept for ten minutes.
    #[must_use]
    pub fn builder() -> CorsBuilder {
        CorsBuilder {
            origins: Origins::List(HashSet::new()),
            allows_null: false,
            methods: Vec::new(),
            headers: Vec::new(),
            exposed: Vec::new(),
            credentials: false,
            private_network: false,
            max_age: Duration::from_secs(600),
        }
    }

    /// What to do with a request. One that is no preflight is always served: that a page may not read the response
    /// is the browser's to enforce, and whether the request may do anything is for
    /// [`OriginCheck`](crate::csrf::OriginCheck) and the guards of the route.
    #[must_use]
    pub fn answer(&self, request: &CorsRequest<'_>) -> CorsAnswer {
        let is_preflight = *request.method == Method::OPTIONS && request.request_method.is_some();
        match request.origin {
            Some(origin) if is_preflight => self.preflight(origin, request),
            origin => CorsAnswer::Serve(self.actual(origin)),
        }
    }

    /// What in the rules is more open than most need.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |severity, code, what: &str, cure: &str| {
            findings.push(Finding { severity, code, what: what.to_owned(), cure: cure.to_owned() });
        };
        if self.rules.allows_null {
            find(
                Severity::Warning,
                "cors.null_origin",
                "any site can take the origin null and read the responses",
                "remove null_origin_insecurely and name the origins",
            );
        }
        if matches!(self.rules.origins, Origins::Any) {
            find(
                Severity::Info,
                "cors.any_origin",
                "any site may read the responses, without credentials",
                "name the origins, unless all that is served is public",
            );
        }
        if matches!(self.rules.origins, Origins::Any) && self.rules.private_network {
            find(
                Severity::Danger,
                "cors.private_network",
                "any site may reach this server in its private network",
                "name the origins, or remove private_network",
            );
        }
        findings
    }

    fn actual(&self, origin: Option<&[u8]>) -> CorsHeaders {
        let mut headers = Vec::with_capacity(4);
        self.add_vary(&mut headers, "origin");
        if let Some(allowed) = origin.and_then(|origin| self.allowed_origin(origin)) {
            self.add_origin(&mut headers, allowed);
            add(&mut headers, ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed_value.as_ref());
        }
        headers
    }

    fn preflight(&self, origin: &[u8], request: &CorsRequest<'_>) -> CorsAnswer {
        let mut headers = Vec::with_capacity(6);
        let vary = "origin, access-control-request-method, access-control-request-headers, \
                    access-control-request-private-network";
        headers.push((VARY, HeaderValue::from_static(vary)));
        let Some(allowed) = self.allowed_origin(origin) else {
            return CorsAnswer::Refuse(CorsRefusal::Origin, headers);
        };
        if let Err(refusal) = self.check_preflight(request) {
            return CorsAnswer::Refuse(refusal, headers);
        }
        self.add_origin(&mut headers, allowed);
        add(&mut headers, ACCESS_CONTROL_ALLOW_METHODS, self.methods_value.as_ref());
        add(&mut headers, ACCESS_CONTROL_ALLOW_HEADERS, self.headers_value.as_ref());
        add(&mut headers, ACCESS_CONTROL_MAX_AGE, Some(&self.max_age_value));
        if request.request_private_network.is_some() {
            headers.push((ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true")));
        }
        CorsAnswer::Preflight(headers)
    }

    fn check_preflight(&self, request: &CorsRequest<'_>) -> Result<(), CorsRefusal> {
        let method = request.request_method.unwrap_or_default();
        let needs_no_leave = matches!(method, b"GET" | b"HEAD" | b"POST");
        // Methods are case-sensitive (RFC 9110 section 9.1).
        if !needs_no_leave && !self.rules.methods.iter().any(|allowed| allowed.as_str().as_bytes() == method)
        {
            return Err(CorsRefusal::Method);
        }
        let names = request.request_headers.unwrap_or_default().split(|&byte| byte == b',');
        for name in names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            let is_name = |allowed: &HeaderName| allowed.as_str().as_bytes().eq_ignore_ascii_case(name);
            if !self.rules.headers.iter().any(is_name) {
                return Err(CorsRefusal::Header);
            }
        }
        if request.request_private_network.is_some() && !self.rules.private_network {
            return Err(CorsRefusal::PrivateNetwork);
        }
        Ok(())
    }

    /// The value of Access-Control-Allow-Origin, `None` if the origin is not allowed.
    fn allowed_origin(&self, origin: &[u8]) -> Option<HeaderValue> {
        if origin == b"null" {
            return self.rules.allows_null.then(|| HeaderValue::from_static("null"));
        }
        let parsed = Origin::parse(origin).ok()?;
        match &self.rules.origins {
            Origins::Any => return Some(HeaderValue::from_static("*")),
            Origins::List(list) => list.contains(&parsed).then_some(())?,
            Origins::Predicate(is_allowed) => is_allowed(&parsed).then_some(())?,
        }
        // A browser compares bytes, so the answer is what it sent.
        HeaderValue::from_bytes(origin).ok()
    }

    /// A response that depends on Origin must say so, whether or not this request had one: else a cache gives one
    /// origin's answer to another.
    fn add_vary(&self, headers: &mut CorsHeaders, names: &'static str) {
        if !matches!(self.rules.origins, Origins::Any) || self.rules.allows_null {
            headers.push((VARY, HeaderValue::from_static(names)));
        }
    }

    fn add_origin(&self, headers: &mut CorsHeaders, allowed: HeaderValue) {
        headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, allowed));
        if self.rules.credentials {
            headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
    }
}

fn add(headers: &mut CorsHeaders, name: HeaderName, value: Option<&HeaderValue>) {
    headers.extend(value.map(|value| (name, value.clone())));
}
