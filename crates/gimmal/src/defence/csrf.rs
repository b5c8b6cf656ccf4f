//! Requests that another site forges are refused.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use gimmal_security::Finding;
use gimmal_security::audit::AuditEvent;
use gimmal_security::cookies::Cookies;
use gimmal_security::csrf::{
    CSRF_COOKIE, CsrfBinding, CsrfTokenError, CsrfTokens, OriginCheck, OriginProof, OriginRequest,
};
use http::{HeaderValue, StatusCode, header};

use super::around::{Around, middleware};
use super::client_address;
use crate::auth::recorder::Recorder;
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
        let proof = match proof {
            Ok(proof) => proof,
            Err(refusal) => return Err(refuse(request, refusal, "the request comes from another site").await),
        };
        let asks = match proof {
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
            if let Err(refusal) = verified {
                return Err(refuse(request, refusal, &refusal.to_string()).await);
            }
        }
        if let Some(issuer) = &issuer {
            request.extensions_mut().insert(Rc::clone(issuer));
        }
        Ok(issuer)
    }
}

/// Records a request that may be forged, and gives the answer to it.
async fn refuse(request: &Request, refusal: impl std::error::Error + 'static, told: &str) -> Error {
    let (method, path, reason) = (request.method().as_str(), request.path(), refusal.to_string());
    let event = AuditEvent::CsrfRefused { method, path, reason: &reason };
    Recorder::of(request).await.record(event, None);
    Error::new(StatusCode::FORBIDDEN, told.to_owned()).with_source(refusal)
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
    session: String,
    /// The cookie that came, or the one that goes out.
    cookie: OnceCell<String>,
    came: bool,
}

impl Issuer {
    fn new(protection: &CsrfProtection, tokens: &CsrfTokens, request: &Request) -> Self {
        let session = protection.session_cookie.as_ref().and_then(|name| cookie(request, name));
        let came = cookie(request, CSRF_COOKIE).filter(|value| !value.is_empty());
        Self {
            tokens: tokens.clone(),
            session: session.unwrap_or_default().to_owned(),
            cookie: came.map_or_else(OnceCell::new, |value| OnceCell::from(value.to_owned())),
            came: came.is_some(),
        }
    }

    fn verify(&self, token: &str) -> Result<(), CsrfTokenError> {
        let cookie = self.cookie.get().map_or("", String::as_str);
        self.tokens.verify(token, CsrfBinding { session: &self.session, cookie }, unix_seconds())
    }

    fn issue(&self) -> String {
        let cookie = self.cookie.get_or_init(|| self.tokens.new_cookie());
        self.tokens.issue(CsrfBinding { session: &self.session, cookie }, unix_seconds())
    }

    /// Sets the cookie that was made on the way, if one was.
    fn finish(&self, response: &mut Response) {
        let Some(cookie) = self.cookie.get().filter(|_| !self.came) else { return };
        if let Ok(value) = HeaderValue::try_from(self.tokens.set_cookie(cookie)) {
            response.headers_mut().append(header::SET_COOKIE, value);
            // What sets a cookie of one user must not reach another out of a cache.
            let cached = response.headers_mut().entry(header::CACHE_CONTROL);
            cached.or_insert(HeaderValue::from_static("no-store"));
        }
    }
}

impl Around for CsrfProtection {
    async fn around(&self, mut request: Request, rest: impl AsyncFnOnce(Request) -> Response) -> Response {
        let issuer = match self.admit(&mut request).await {
            Ok(issuer) => issuer,
            Err(error) => return error.into_response(),
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
/// As text, it is the token itself.
#[derive(Clone, PartialEq, Eq)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// The token, for the header field `X-CSRF-Token`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hidden field of a form that holds it. It is HTML: a template must not escape it again.
    #[must_use]
    pub fn field(&self) -> String {
        format!("<input type=\"hidden\" name=\"{TOKEN_FIELD}\" value=\"{}\">", self.0)
    }
}

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken([REDACTED])")
    }
}

impl FromRequest for CsrfToken {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        request.extensions().get::<Rc<Issuer>>().map(|issuer| Self(issuer.issue())).ok_or_else(|| {
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR)
                .with_source("a handler takes a CsrfToken: put CsrfProtection with tokens around its route")
        })
    }
}
