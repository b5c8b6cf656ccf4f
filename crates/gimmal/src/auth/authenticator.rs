//! The middleware that finds out who a request comes from.

use std::rc::Rc;
use std::sync::Arc;

use gimmal_runtime::LocalFuture;
use gimmal_security::audit::AuditEvent;
use gimmal_security::basic::BasicCredentials;
use gimmal_security::bearer::{BearerChallenge, BearerErrorCode, BearerToken, RequiredScopes};
use gimmal_security::client_certificate::CertificateMap;
use gimmal_security::credentials::{Credentials, Realm};
use gimmal_security::digest::DigestScheme;
use gimmal_security::introspection::Introspector;
use gimmal_security::jwt::AccessTokenValidator;
use gimmal_security::{Mechanism, Principal, Refusal};
use http::{Method, StatusCode, header};

use super::accounts::Accounts;
use super::api_keys::{ApiKeyStore, ApiKeys};
use super::caching::{keep_private, vary_on};
use super::digest::{Answer, Digest};
use super::fetcher::Fetcher;
use super::guard::Refused;
use super::offer::{Offer, Rejection};
use super::tokens::Tokens;
use crate::audit::Recorder;
use crate::clock::unix_seconds;
use crate::defence::client_address::is_confidential;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Redirect, Response};

/// Finds out who a request comes from, by whichever of its mechanisms the request makes use of, and hands the
/// [`Principal`] on. It lets nobody in by itself: that is for the guards.
///
/// Credentials that were sent decide: wrong ones are refused, even on a route that is open to everybody, and whatever
/// else the client has. Without any, the certificate of the client counts, or else the session that
/// [`Sessions`](super::Sessions) found; without those too, nobody asks. Every 401 from within gets the challenges of all
/// mechanisms, each as a field line of its own; a 403 for want of a scope tells a Bearer client which one (RFC 6750,
/// section 3.1).
///
/// What is sent as it is (passwords of Basic, tokens, API keys) is refused over plain HTTP, except on this machine. A
/// proxy that speaks HTTPS before the server counts if the app trusts it:
/// [`Defences::trusted_proxies`](crate::defence::Defences::trusted_proxies), added before this.
///
/// ```
/// use gimmal::App;
/// use gimmal::auth::{Accounts, Authenticator, MemoryApiKeys, MemoryUsers, Realm, Requirement};
/// use gimmal::security::digest::DigestScheme;
///
/// let accounts = Accounts::new(MemoryUsers::new([]));
/// let realm = Realm::new("Staff only")?;
/// let authenticator = Authenticator::new(realm.clone())
///     .basic(&accounts)
///     .digest(&accounts, DigestScheme::new(realm))
///     .api_keys("acme", MemoryApiKeys::new([]));
/// let app = App::new().get("/", async || "in").require(Requirement::Authenticated).with(authenticator);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Authenticator {
    realm: Realm,
    basic: Option<Accounts>,
    digest: Option<Arc<Digest>>,
    tokens: Tokens,
    bearer_challenge: BearerChallenge,
    api_keys: Option<Arc<ApiKeys>>,
    certificates: Option<Arc<CertificateMap>>,
    login_page: Option<Arc<str>>,
    is_plain_http_allowed: bool,
}

impl Authenticator {
    /// One without mechanisms, for the protection space of this name.
    #[must_use]
    pub fn new(realm: Realm) -> Self {
        let bearer_challenge = BearerChallenge::new().with_realm(realm.as_str());
        Self {
            realm,
            basic: None,
            digest: None,
            tokens: Tokens::default(),
            bearer_challenge: bearer_challenge.unwrap_or_default(),
            api_keys: None,
            certificates: None,
            login_page: None,
            is_plain_http_allowed: false,
        }
    }

    /// Takes Basic (RFC 7617): a user name and a password with each request.
    #[must_use]
    pub fn basic(mut self, accounts: &Accounts) -> Self {
        self.basic = Some(accounts.clone());
        self
    }

    /// Takes Digest (RFC 7616). Its users need a
    /// [`DigestSecret`](gimmal_security::digest::DigestSecret) for each algorithm that the scheme offers.
    #[must_use]
    pub fn digest(mut self, accounts: &Accounts, scheme: DigestScheme) -> Self {
        self.digest = Some(Arc::new(Digest { scheme, accounts: accounts.clone() }));
        self
    }

    /// Takes JWT access tokens (RFC 9068) as Bearer tokens (RFC 6750). One that is bound to a client certificate
    /// (RFC 8705) is good on a connection with that certificate alone.
    #[must_use]
    pub fn jwt(mut self, validator: AccessTokenValidator) -> Self {
        self.tokens.jwt = Some(Arc::new(validator));
        self
    }

    /// Takes opaque access tokens (RFC 7662) as Bearer tokens.
    #[must_use]
    pub fn introspection(mut self, introspector: Introspector) -> Self {
        self.tokens.introspector = Some(Arc::new(introspector));
        self
    }

    /// How the servers of keys and tokens are asked. Without it, over TLS with the roots of the platform.
    #[must_use]
    pub fn fetcher(mut self, fetcher: Fetcher) -> Self {
        self.tokens.fetcher = fetcher;
        self
    }

    /// What asks for a Bearer token, such as one that names the protected-resource metadata (RFC 9728). Without it, it
    /// names the realm.
    #[must_use]
    pub fn bearer_challenge(mut self, challenge: BearerChallenge) -> Self {
        self.bearer_challenge = challenge;
        self
    }

    /// Takes API keys that begin with `prefix` and `_`, as `X-API-Key` or as Bearer tokens.
    #[must_use]
    pub fn api_keys(mut self, prefix: &str, store: impl ApiKeyStore) -> Self {
        self.api_keys = Some(Arc::new(ApiKeys::new(prefix, store)));
        self
    }

    /// Takes TLS client certificates. That the issuer is trusted is for the TLS configuration to see to; who is behind
    /// a certificate, the map says.
    #[must_use]
    pub fn client_certificates(mut self, map: CertificateMap) -> Self {
        self.certificates = Some(Arc::new(map));
        self
    }

    /// Sends browsers that have to log in to this page (303), with the path that they wanted as `?next=`, instead of a
    /// 401. Check `next` with [`RedirectTargets`](gimmal_security::redirect::RedirectTargets) before it is followed.
    #[must_use]
    pub fn login_page(mut self, path: &str) -> Self {
        self.login_page = Some(path.into());
        self
    }

    /// Takes and offers Basic, Bearer tokens and API keys over plain HTTP from other machines, too: only where
    /// something else encrypts the way, such as a proxy that speaks HTTPS in front of this server. Whoever is on the way
    /// can otherwise read them and use them.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.is_plain_http_allowed = true;
        self
    }

    async fn is_confidential(&self, request: &Request) -> bool {
        self.is_plain_http_allowed || is_confidential(request).await
    }

    fn offer(&self, is_confidential: bool) -> Offer<'_> {
        let is_bearer_taken = self.tokens.are_taken() || self.api_keys.is_some();
        Offer {
            realm: &self.realm,
            is_confidential,
            has_basic: self.basic.is_some(),
            digest: self.digest.as_deref(),
            bearer: is_bearer_taken.then_some(&self.bearer_challenge),
        }
    }

    /// Who asks, if anybody.
    async fn authenticate(&self, request: &mut Request) -> Result<Option<Proved>, Rejection> {
        let mut fields = request.header_all("authorization");
        let sent = fields.next().map(<[u8]>::to_vec);
        if fields.next().is_some() {
            return Err(Rejection::Malformed("Authorization was sent more than once".to_owned()));
        }
        if let Some(sent) = sent {
            return self.by_authorization(request, &sent).await.map(Some);
        }
        if let Some(api_keys) = &self.api_keys
            && let Some(key) = request.header_bytes("x-api-key")
        {
            if !self.is_confidential(request).await {
                return Err(Rejection::Exposed);
            }
            return api_keys.authenticate(key).await.map(|principal| Some(principal.into()));
        }
        if let Some(map) = &self.certificates
            && let Some(certificate) = request.client_certificate()
        {
            return Ok(map.principal(&certificate.identity(), unix_seconds()).map(Proved::from));
        }
        Ok(None)
    }

    async fn by_authorization(&self, request: &mut Request, sent: &[u8]) -> Result<Proved, Rejection> {
        let credentials =
            Credentials::parse(sent).map_err(|error| Rejection::Malformed(error.to_string()))?;
        match (&self.digest, &self.basic) {
            (Some(digest), _) if credentials.is("Digest") => {
                let recorder = Recorder::of(request).await;
                let (principal, answer) = digest.authenticate(request, &credentials, &recorder).await?;
                Ok(Proved { principal, answer: Some(answer) })
            }
            (_, Some(accounts)) if credentials.is("Basic") => {
                if !self.is_confidential(request).await {
                    return Err(Rejection::Exposed);
                }
                let basic = BasicCredentials::new(&credentials);
                let basic = basic.map_err(|error| Rejection::Malformed(error.to_string()))?;
                let (name, password) = basic.into_parts();
                let recorder = Recorder::of(request).await;
                let proved = accounts.log_in(&name, password, None, Mechanism::Basic, &recorder).await;
                proved.map(|(principal, _)| principal.into()).map_err(Rejection::Login)
            }
            _ if credentials.is("Bearer") => self.by_token(request, sent).await.map(Proved::from),
            _ => Err(refused("the authentication scheme is not offered")),
        }
    }

    async fn by_token(&self, request: &Request, sent: &[u8]) -> Result<Principal, Rejection> {
        if !self.tokens.are_taken() && self.api_keys.is_none() {
            return Err(refused("the authentication scheme is not offered"));
        }
        if !self.is_confidential(request).await {
            return Err(Rejection::Exposed);
        }
        let token = match BearerToken::parse(sent) {
            Ok(Some(token)) => token.as_str(),
            Ok(None) => return Err(refused("the authentication scheme is not offered")),
            Err(error) => return Err(Rejection::Malformed(error.to_string())),
        };
        match &self.api_keys {
            Some(api_keys) if api_keys.owns(token) || !self.tokens.are_taken() => {
                api_keys.authenticate(token.as_bytes()).await
            }
            _ => self.tokens.authenticate(request, token, &self.bearer_challenge).await,
        }
    }

    /// The page to log in at, for a browser that wants a page.
    fn login_redirect(&self, request: &Request) -> Option<String> {
        let page = self.login_page.as_deref()?;
        let wants_page = matches!(*request.method(), Method::GET | Method::HEAD)
            && request.header("accept").is_some_and(|accept| accept.contains("text/html"));
        let path = request.target();
        let next = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
        wants_page.then(|| format!("{page}?next={next}"))
    }

    /// The answer to credentials that were not taken.
    async fn refuse(&self, request: &Request, rejection: Rejection) -> Response {
        let recorder = Recorder::of(request).await;
        match &rejection {
            Rejection::Refused { mechanism: Some(mechanism), reason, .. } => {
                let mechanism = *mechanism;
                recorder.record(AuditEvent::LoginFailed { mechanism, account: None, reason }, None);
            }
            Rejection::Exposed => {
                let reason = "credentials over plain HTTP";
                recorder.record(AuditEvent::AttackRefused { guard: "plain_http", reason }, None);
            }
            _ => {}
        }
        self.offer(self.is_confidential(request).await).refuse(rejection)
    }

    /// Tells caches by which fields who asks was proved, or was not, and keeps what is for one of them out of shared ones.
    ///
    /// Of itself a shared cache spares only responses to `Authorization` (RFC 9111, section 3.5).
    fn name_dependence(&self, response: &mut Response, is_proved: bool) {
        let headers = response.headers_mut();
        if self.is_authorization_read() {
            vary_on(headers, "authorization");
        }
        if self.api_keys.is_some() {
            vary_on(headers, "x-api-key");
        }
        if is_proved {
            keep_private(headers);
        }
    }

    fn is_authorization_read(&self) -> bool {
        self.basic.is_some() || self.digest.is_some() || self.api_keys.is_some() || self.tokens.are_taken()
    }

    /// Adds to a refusal from within what it has to say to the client.
    fn complete(&self, response: &mut Response, principal: Option<Mechanism>, is_confidential: bool) {
        if response.status() == StatusCode::UNAUTHORIZED
            && !response.headers().contains_key(header::WWW_AUTHENTICATE)
        {
            self.offer(is_confidential).add_to(response, None, false);
        }
        let refused = response.error().and_then(|error| error.downcast_ref::<Refused>());
        if let Some(Refusal::InsufficientScope { scope }) = refused.map(Refused::refusal)
            && matches!(principal, Some(Mechanism::Bearer | Mechanism::ApiKey))
            && let Ok(scopes) = RequiredScopes::new([scope.as_str()])
        {
            let description = "the token lacks a scope that is needed here";
            let challenge = self.bearer_challenge.clone().with_scopes(&scopes);
            let challenge = challenge.with_error(BearerErrorCode::InsufficientScope, description);
            response.headers_mut().append(header::WWW_AUTHENTICATE, challenge.to_header_value());
        }
    }
}

impl Middleware for Authenticator {
    fn handle(self: Rc<Self>, mut request: Request, next: Next) -> LocalFuture<Response> {
        LocalFuture::new(async move {
            let (answer, is_proved) = match self.authenticate(&mut request).await {
                Ok(Some(Proved { principal, answer })) => {
                    request.extensions_mut().insert(principal);
                    (answer, true)
                }
                Ok(None) => (None, false),
                Err(rejection) => return self.refuse(&request, rejection).await,
            };
            let mechanism = request.extensions().get::<Principal>().map(Principal::mechanism);
            let is_confidential = self.is_confidential(&request).await;
            let login = if mechanism.is_none() { self.login_redirect(&request) } else { None };
            let mut response = next.run(request).await;
            if let (StatusCode::UNAUTHORIZED, Some(login)) = (response.status(), login) {
                return Redirect::see_other(login).into_response();
            }
            self.complete(&mut response, mechanism, is_confidential);
            self.name_dependence(&mut response, is_proved);
            match answer {
                Some(answer) => answer.prove(response).await.unwrap_or_else(IntoResponse::into_response),
                None => response,
            }
        })
    }

    fn authenticates(&self) -> bool {
        true
    }
}

/// Who asks, and what the response has to prove in turn.
struct Proved {
    principal: Principal,
    answer: Option<Answer>,
}

impl From<Principal> for Proved {
    fn from(principal: Principal) -> Self {
        Self { principal, answer: None }
    }
}

fn refused(reason: &str) -> Rejection {
    Rejection::Refused { mechanism: None, reason: reason.to_owned(), bearer: None, is_stale: false }
}
