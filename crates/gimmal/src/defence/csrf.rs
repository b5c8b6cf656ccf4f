//! Requests that another site forges are refused.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::rc::Rc;

use gimmal_security::Finding;
use gimmal_security::audit::AuditEvent;
use gimmal_security::cookies::Cookies;
use gimmal_security::csrf::{
    CSRF_COOKIE, CsrfBinding, CsrfRefusal, CsrfTokenError, CsrfTokens, OriginCheck, OriginProof,
    OriginRequest,
};
use gimmal_security::session::CookieAfter;
use http::{HeaderValue, StatusCode, header};

use super::around::{Around, middleware};
use super::client_address;
use crate::audit::Recorder;
use crate::auth::Session;
use crate::auth::caching::{keep_private, vary_on};
use crate::body::Body;
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::extract::FromRequest;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// The field of a form that brings a token back.
const TOKEN_FIELD: &str = "csrf_token";
/// The header field in which a script does.
const TOKEN_HEADER: &str = "x-csrf-token";

/// Refuses requests that change something and that another site has made a browser send.
///
/// The default is an [`OriginCheck`]: what a browser says of where a request comes from decides. With
/// [`tokens`](Self::tokens), a request of which the browser says nothing must bring a token, in the field
/// `csrf_token` of a form (`application/x-www-form-urlencoded`) or in `X-CSRF-Token`; so must every request with
/// [`always_ask_for_token`](Self::always_ask_for_token). None is asked of a request that no form can send and to which
/// a browser adds nothing by itself: one without cookies, without a client certificate and without `Authorization`
/// other than `Bearer`.
///
/// ```
/// use gimmal::defence::{CsrfProtection, CsrfToken, CsrfTokens};
/// use gimmal::{App, Html, get};
///
/// async fn form(token: CsrfToken) -> Html<String> {
///     Html(format!("<!doctype html><form method=post>{} <button>send</button></form>", token.field()))
/// }
/// let key = vec![7; 32].into(); // from a secret store, the same on all machines
/// let app = App::new()
///     .route("/", get(form).post(async || "sent"))
///     .with(CsrfProtection::default().tokens(CsrfTokens::new(&key)?).always_ask_for_token());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CsrfProtection {
    origins: OriginCheck,
    tokens: Option<CsrfTokens>,
    session_cookie: Option<String>,
    always: bool,
}

impl CsrfProtection {
    /// A protection with this check of origins.
    #[must_use]
    pub fn new(origins: OriginCheck) -> Self {
        Self { origins, ..Self::default() }
    }

    /// Issues tokens, to be had as [`CsrfToken`], and asks for them where the browser does not say where a request
    /// comes from.
    #[must_use]
    pub fn tokens(mut self, tokens: CsrfTokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Binds tokens to the session that this cookie names, so that one from before a login is of no use after it.
    #[must_use]
    pub fn session_cookie(mut self, name: &str) -> Self {
        self.session_cookie = Some(name.to_owned());
        self
    }

    /// Asks for a token also where the browser says that the page is the site's own. Without
    /// [`tokens`](Self::tokens), every request that changes something is then refused.
    #[must_use]
    pub fn always_ask_for_token(mut self) -> Self {
        self.always = true;
        self
    }

    pub(super) fn check(&self) -> Vec<Finding> {
        self.origins.check()
    }

    async fn admit(&self, request: &mut Request) -> Result<Option<Rc<Issuer>>, Error> {
        let issuer = self.tokens.as_ref().map(|tokens| Rc::new(Issuer::new(self, tokens, request)));
        let proof = self.origins.verify(&OriginRequest {
            method: request.method(),
            path: request.path(),
            secure: client_address::is_secure(request),
            host: client_address::host(request).map(str::as_bytes),
            origin: request.header_bytes("origin"),
            sec_fetch_site: request.header_bytes("sec-fetch-site"),
        });
        let asks = match proof.map_err(refuse_origin)? {
            OriginProof::Safe | OriginProof::TrustedOrigin => false,
            OriginProof::Bypass(name) => {
                tracing::debug!(request = %request.id(), name, "a request took a bypass of the CSRF check");
                false
            }
            OriginProof::SameOrigin => self.always,
            OriginProof::Unlabelled => self.always || self.tokens.is_some(),
        };
        if asks && may_be_forged(request) {
            let token = brought_token(request).await?;
            let verified = match (&issuer, &token) {
                (Some(issuer), Some(token)) => issuer.verify(token),
                _ => Err(CsrfTokenError::Invalid),
            };
            let refuse = |refusal: CsrfTokenError| {
                Error::new(StatusCode::FORBIDDEN, refusal.to_string()).with_source(refusal)
            };
            verified.map_err(refuse)?;
        }
        if let Some(issuer) = &issuer {
            request.extensions_mut().insert(Rc::clone(issuer));
        }
        Ok(issuer)
    }
}

fn refuse_origin(refusal: CsrfRefusal) -> Error {
    Error::new(StatusCode::FORBIDDEN, "the request comes from another site").with_source(refusal)
}

/// Records a refusal. A form that is malformed is none.
async fn record(request: &Request, error: &Error) {
    if error.status() == StatusCode::FORBIDDEN {
        let (method, path) = (request.method().as_str(), request.path());
        let reason = error.source().map(ToString::to_string).unwrap_or_default();
        let event = AuditEvent::CsrfRefused { method, path, reason: &reason };
        Recorder::of(request).await.record(event, None);
    }
}

/// Whether a page of another site could make a browser send this, or have it add what authenticates the user.
fn may_be_forged(request: &Request) -> bool {
    let is_form = matches!(
        media_type(request).to_ascii_lowercase().as_str(),
        "application/x-www-form-urlencoded" | "multipart/form-data" | "text/plain"
    );
    let is_bearer =
        |value: &[u8]| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    is_form
        || request.header_bytes("cookie").is_some()
        || request.header_bytes("authorization").is_some_and(|value| !is_bearer(value))
        || request.client_certificate().is_some()
}

fn media_type(request: &Request) -> &str {
    request.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

/// The token in the header or the form. The body is there for the handler as before.
async fn brought_token(request: &mut Request) -> Result<Option<String>, Error> {
    if let Some(token) = request.header(TOKEN_HEADER) {
        return Ok(Some(token.to_owned()));
    }
    if !media_type(request).eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(None);
    }
    let bytes = request.bytes().await?;
    let fields: Vec<(String, String)> = serde_html_form::from_bytes(&bytes)
        .map_err(|error| Error::new(StatusCode::BAD_REQUEST, format!("the form is refused: {error}")))?;
    *request.body_mut() = Body::from(bytes).untyped();
    Ok(fields.into_iter().find(|(name, _)| name == TOKEN_FIELD).map(|(_, token)| token))
}

/// The value of the one cookie of this name. Of several, one may have been set by somebody else.
fn cookie<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    Cookies::parse(request.header_all("cookie")).get_unique(name)
}

/// What issues the tokens of one request and its response.
struct Issuer {
    tokens: CsrfTokens,
    /// The name of the session's cookie, if tokens are bound to it.
    session_cookie: Option<String>,
    /// The session that came.
    session: String,
    /// The cookie that came, or the one that goes out.
    cookie: OnceCell<String>,
    came: bool,
    is_token_issued: Cell<bool>,
}

impl Issuer {
    fn new(protection: &CsrfProtection, tokens: &CsrfTokens, request: &Request) -> Self {
        let session = protection.session_cookie.as_ref().and_then(|name| cookie(request, name));
        let came = cookie(request, CSRF_COOKIE).filter(|value| !value.is_empty());
        Self {
            tokens: tokens.clone(),
            session_cookie: protection.session_cookie.clone(),
            session: session.unwrap_or_default().to_owned(),
            cookie: came.map_or_else(OnceCell::new, |value| OnceCell::from(value.to_owned())),
            came: came.is_some(),
            is_token_issued: Cell::new(false),
        }
    }

    fn verify(&self, token: &str) -> Result<(), CsrfTokenError> {
        let cookie = self.cookie.get().map_or("", String::as_str);
        self.tokens.verify(token, CsrfBinding { session: &self.session, cookie }, unix_seconds())
    }

    /// A token that is good for the next request: it is bound to the session that the response leaves in the browser.
    /// The one that came may have ended, and may get a new id.
    fn issue(&self, session: Option<&Session>) -> String {
        let cookie = self.cookie.get_or_init(|| self.tokens.new_cookie());
        let after = session.zip(self.session_cookie.as_deref());
        let session = match after.and_then(|(session, name)| session.cookie_after(name)) {
            Some(CookieAfter::New(value)) => value,
            Some(CookieAfter::Removed) => String::new(),
            Some(CookieAfter::AsSent) | None => self.session.clone(),
        };
        self.is_token_issued.set(true);
        self.tokens.issue(CsrfBinding { session: &session, cookie }, unix_seconds())
    }

    /// Sets the cookie that was made on the way, if one was, and keeps tokens out of shared caches.
    fn finish(&self, response: &mut Response) {
        if self.is_token_issued.get() {
            vary_on(response.headers_mut(), "cookie");
            keep_private(response.headers_mut());
        }
        let Some(cookie) = self.cookie.get().filter(|_| !self.came) else { return };
        if let Ok(value) = HeaderValue::try_from(self.tokens.set_cookie(cookie)) {
            response.headers_mut().append(header::SET_COOKIE, value);
            // What sets a cookie of one user must not reach another out of a cache.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

impl Around for CsrfProtection {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let issuer = match self.admit(&mut request).await {
            Ok(issuer) => issuer,
            Err(error) => {
                record(&request, &error).await;
                return error.into_response();
            }
        };
        let mut response = rest(request).await;
        if let Some(issuer) = issuer {
            issuer.finish(&mut response);
        }
        response
    }
}

middleware!(CsrfProtection);

/// A token for a form or a script of the page that is being made. Needs [`CsrfProtection::tokens`] around the route.
///
/// As text, it is the token itself. It is made when it is first read, and bound to the session as it is then: change the
/// session before, such as by a login, not afterwards.
#[derive(Clone)]
pub struct CsrfToken {
    issuer: Rc<Issuer>,
    session: Option<Session>,
    text: OnceCell<String>,
}

impl CsrfToken {
    /// The token, for the header field `X-CSRF-Token`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get_or_init(|| self.issuer.issue(self.session.as_ref()))
    }

    /// A hidden field of a form that holds it. It is HTML: a template must not escape it again.
    #[must_use]
    pub fn field(&self) -> String {
        format!("<input type=\"hidden\" name=\"{TOKEN_FIELD}\" value=\"{}\">", self.as_str())
    }
}

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken([REDACTED])")
    }
}

impl FromRequest for CsrfToken {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let issuer = request.extensions().get::<Rc<Issuer>>().cloned();
        let session = request.extensions().get::<Session>().cloned();
        let token = issuer.map(|issuer| Self { issuer, session, text: OnceCell::new() });
        token.ok_or_else(|| {
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR)
                .with_source("a handler takes a CsrfToken: put CsrfProtection with tokens around its route")
        })
    }
}
