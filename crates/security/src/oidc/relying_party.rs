//! The relying party: logins begun, finished, refreshed and ended.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::{HeaderValue, Request, StatusCode, Uri, header};
use jsonwebtoken::Algorithm;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::id_token::{self, Expectations};
use super::pending_login::{PENDING_SECONDS, PendingLogin, PendingLogins};
use super::{LoginError, LogoutToken, LogoutTokenError, OAuthErrorCode, Tokens};
use crate::client_authentication::ClientAuthentication;
use crate::cookies::{Cookie, CookieKeys, Cookies, removal, secure_cookie, set_cookie, time};
use crate::discovery::{ServerMetadata, safe_address};
use crate::expiring_map::ExpiringMap;
use crate::fetch::send;
use crate::jwt::{KeySource, TokenError, numeric_date, required_text};
use crate::session::Session;
use crate::{FetchError, HttpFetch, Mechanism, Principal, strict_json};

/// Logout tokens that are remembered so that none is used twice.
const LOGOUT_TOKENS_MAX: usize = 10_000;

/// What a login shall be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginRequest {
    /// Where the browser goes after the login: a path on this server. Whatever else it is becomes `/`.
    pub return_to: String,
    /// `prompt`: `login` to ask the user again, `consent`, `none`, `select_account`.
    pub prompt: Option<String>,
    /// `login_hint`: who is probably going to log in.
    pub login_hint: Option<String>,
    /// `max_age`: the user has to have proved who they are within as many seconds.
    pub max_age_seconds: Option<u64>,
}

/// How to begin a login: a 303 with these two fields.
#[derive(Clone, Debug)]
pub struct LoginRedirect {
    /// `Location`: the provider's login page.
    pub location: String,
    /// `Set-Cookie`: binds the login to the browser.
    pub set_cookie: HeaderValue,
}

/// A finished login.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who the user is. Its attributes are the other claims of the ID token.
    pub principal: Principal,
    /// The user's tokens.
    pub tokens: Tokens,
    /// Where the browser goes now: a path on this server.
    pub return_to: String,
    /// `Set-Cookie`: forgets the login that was begun.
    pub set_cookie: HeaderValue,
    /// The session at the provider, for a logout by it.
    pub provider_session: Option<String>,
    issuer: String,
}

impl Login {
    /// Logs the user in to a session of this server, in such a way that the provider can end it.
    pub fn log_in(&self, session: &mut Session) {
        session.log_in(self.principal.clone());
        if let Some(provider_session) = &self.provider_session {
            session.set_provider_session(&self.issuer, provider_session);
        }
    }
}

/// A client of an OpenID provider.
///
/// One value serves all cores.
///
/// ```
/// # use gimmal_security::{HttpFetch, SecretSlice, SecretString};
/// # use gimmal_security::client_authentication::ClientAuthentication;
/// # use gimmal_security::cookies::{CookieKeys, Cookies};
/// # use gimmal_security::discovery::ServerMetadata;
/// # use gimmal_security::oidc::{LoginRequest, RelyingParty};
/// # async fn example(fetch: &impl HttpFetch, now: u64) -> Result<(), Box<dyn std::error::Error>> {
/// let provider = ServerMetadata::discover_openid("https://login.example", fetch).await?;
/// let client = ClientAuthentication::basic("shop", SecretString::from("from the vault"));
/// let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32]))?;
/// let relying_party = RelyingParty::new(provider, client, "https://shop.example/callback", keys)?
///     .with_scopes(["email"]);
///
/// // GET /login
/// let cookies = Cookies::parse([]);
/// let request = LoginRequest { return_to: "/cart".to_owned(), ..LoginRequest::default() };
/// let redirect = relying_party.start_login(&request, &cookies, now)?;
///
/// // GET /callback?code=...&state=...
/// # let query = "";
/// let login = relying_party.finish_login(query, &cookies, now, fetch).await?;
/// assert_eq!(login.return_to, "/cart");
/// # Ok(()) }
/// ```
pub struct RelyingParty {
    metadata: ServerMetadata,
    authorization_endpoint: String,
    token_endpoint: Uri,
    keys: KeySource,
    client: ClientAuthentication,
    redirect_uri: String,
    scopes: Vec<String>,
    resource: Option<String>,
    expectations: Expectations,
    roles_path: Vec<String>,
    subject_prefix: String,
    cookie_keys: CookieKeys,
    cookie_name: String,
    is_cookie_secure: bool,
    used_logout_tokens: Mutex<ExpiringMap<String, ()>>,
}

impl fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelyingParty")
            .field("issuer", &self.expectations.issuer)
            .field("client", &self.client)
            .field("redirect_uri", &self.redirect_uri)
            .finish_non_exhaustive()
    }
}

impl RelyingParty {
    /// The client of the provider with that metadata. `redirect_uri` is where the provider sends browsers back to, as
    /// it is registered there; `cookie_keys` seal the cookies of logins that were begun.
    ///
    /// # Errors
    /// [`LoginError::Unsupported`] if the provider lacks an endpoint that a login needs, or says that it knows no PKCE
    /// with S256.
    pub fn new(
        metadata: ServerMetadata,
        client: ClientAuthentication,
        redirect_uri: impl Into<String>,
        cookie_keys: CookieKeys,
    ) -> Result<Self, LoginError> {
        if metadata.supports_pkce_s256() == Some(false) {
            return Err(LoginError::Unsupported("PKCE (S256)"));
        }
        let authorization_endpoint =
            metadata.authorization_endpoint().ok_or(LoginError::Unsupported("authorization"))?.to_owned();
        let token_endpoint = metadata.token_endpoint().ok_or(LoginError::Unsupported("token"))?;
        Ok(Self {
            authorization_endpoint,
            token_endpoint: safe_address(token_endpoint).map_err(LoginError::Unavailable)?,
            keys: metadata.keys().map_err(LoginError::Unavailable)?,
            expectations: Expectations {
                issuer: metadata.issuer().to_owned(),
                client_id: client.client_id().to_owned(),
                algorithms: vec![
                    Algorithm::RS256,
                    Algorithm::PS256,
                    Algorithm::ES256,
                    Algorithm::ES384,
                    Algorithm::EdDSA,
                ],
                leeway_seconds: 60,
            },
            metadata,
            client,
            redirect_uri: redirect_uri.into(),
            scopes: vec!["openid".to_owned()],
            resource: None,
            roles_path: vec!["roles".to_owned()],
            subject_prefix: String::new(),
            cookie_keys,
            cookie_name: "__Host-login".to_owned(),
            is_cookie_secure: true,
            used_logout_tokens: Mutex::new(ExpiringMap::new(LOGOUT_TOKENS_MAX)),
        })
    }

    /// Asks for more than `openid`: `profile`, `email`, `offline_access` for refresh tokens.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Asks for an access token for that server, which then is its audience (RFC 8707).
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Pins these algorithms for ID tokens and logout tokens, instead of RS256, PS256, ES256, ES384 and EdDSA.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.expectations.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Where the roles are in the ID token: the names of the members on the way to an array of strings; `["roles"]` by
    /// default.
    #[must_use]
    pub fn with_roles_at<S: Into<String>>(mut self, path: impl IntoIterator<Item = S>) -> Self {
        self.roles_path = path.into_iter().map(Into::into).collect();
        self
    }

    /// Puts `prefix` before the subject in the principal's id. Subjects are unique within their provider only: a service
    /// with two providers, or with passwords of its own, needs it.
    #[must_use]
    pub fn with_subject_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.subject_prefix = prefix.into();
        self
    }

    /// Names the cookie of logins that were begun, where two relying parties share a host; `__Host-login` by default.
    ///
    /// # Errors
    /// [`LoginError::Cookie`] if browsers would not take a cookie of that name.
    pub fn with_cookie_name(mut self, name: impl Into<String>) -> Result<Self, LoginError> {
        self.cookie_name = name.into();
        set_cookie(&self.cookie(String::new()))?;
        Ok(self)
    }

    /// The cookie `login` without `Secure`, for plain HTTP while developing.
    #[must_use]
    pub fn with_insecure_cookie(mut self) -> Self {
        self.is_cookie_secure = false;
        self.cookie_name = "login".to_owned();
        self
    }

    /// The keys of the provider, to [refresh](KeySource::refresh) them ahead of need.
    #[must_use]
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Begins a login (section 3.1.2.1). `cookies` are those of the request: a browser can have several logins under
    /// way.
    ///
    /// # Errors
    /// [`LoginError::Cookie`] if the login cannot be remembered.
    pub fn start_login(
        &self,
        request: &LoginRequest,
        cookies: &Cookies<'_>,
        now: u64,
    ) -> Result<LoginRedirect, LoginError> {
        let login = PendingLogin::start(&request.return_to, request.max_age_seconds, now);
        let (scope, code_challenge) = (self.scopes.join(" "), login.code_challenge());
        let max_age = request.max_age_seconds.map(|seconds| seconds.to_string());
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", self.client.client_id()),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &scope),
            ("state", &login.state),
            ("nonce", &login.nonce),
            ("code_challenge", &code_challenge),
            ("code_challenge_method", "S256"),
        ];
        let optional = [
            ("prompt", request.prompt.as_deref()),
            ("login_hint", request.login_hint.as_deref()),
            ("max_age", max_age.as_deref()),
            ("resource", self.resource.as_deref()),
        ];
        parameters.extend(optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        let location = with_query(&self.authorization_endpoint, &parameters);
        let mut logins = self.pending_logins(cookies, now);
        logins.push(login);
        Ok(LoginRedirect { location, set_cookie: self.login_cookie(&logins, now)? })
    }

    /// Finishes a login with the query and the cookies of the request to the redirect URI (sections 3.1.2.5 to 3.1.3.8).
    ///
    /// # Errors
    /// [`LoginError`] says why nobody is logged in.
    pub async fn finish_login<F: HttpFetch>(
        &self,
        query: &str,
        cookies: &Cookies<'_>,
        now: u64,
        fetch: &F,
    ) -> Result<Login, LoginError> {
        let response = AuthorizationResponse::parse(query)?;
        let mut logins = self.pending_logins(cookies, now);
        let login = logins.take(&response.state).ok_or(LoginError::UnknownState)?;
        // RFC 9207 section 2.4: another provider may have sent the browser here with a code of its own.
        match &response.issuer {
            Some(issuer) if *issuer != self.expectations.issuer => return Err(LoginError::IssuerMismatch),
            None if self.metadata.names_issuer_in_responses() => return Err(LoginError::IssuerMismatch),
            _ => {}
        }
        let code = response.outcome.map_err(LoginError::Refused)?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &login.code_verifier),
        ];
        let tokens = self.request_tokens(&form, now, fetch).await?;
        let no_id_token = || LoginError::Unavailable(FetchError::Document("no ID token"));
        let id_token = tokens.id_token.as_ref().ok_or_else(no_id_token)?.expose_secret();
        let (algorithm, claims) = self
            .expectations
            .check(id_token, &["jwt"], &self.keys, now, fetch)
            .await
            .map_err(id_token_error)?;
        id_token::check_nonce(&claims, &login.nonce).map_err(id_token_error)?;
        id_token::check_access_token_hash(&claims, algorithm, tokens.access_token.expose_secret())
            .map_err(id_token_error)?;
        id_token::check_age(&claims, login.max_age_seconds, self.expectations.leeway_seconds, now)
            .map_err(id_token_error)?;
        Ok(Login {
            principal: self.principal(&claims, now).map_err(id_token_error)?,
            provider_session: claims.get("sid").and_then(Value::as_str).map(str::to_owned),
            issuer: self.expectations.issuer.clone(),
            tokens,
            return_to: login.return_to,
            set_cookie: self.login_cookie(&logins, now)?,
        })
    }

    /// Gets new tokens for the user `principal` (section 12). A refresh token in the answer replaces the old one, which
    /// the provider may then take no more; without one, the old one stays.
    ///
    /// # Errors
    /// [`LoginError::Refused`] with [`OAuthErrorCode::InvalidGrant`] if the user has to log in again;
    /// [`LoginError::SubjectMismatch`] if the tokens are of somebody else.
    pub async fn refresh<F: HttpFetch>(
        &self,
        refresh_token: &SecretString,
        principal: &Principal,
        now: u64,
        fetch: &F,
    ) -> Result<Tokens, LoginError> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())];
        let mut tokens = self.request_tokens(&form, now, fetch).await?;
        if let Some(id_token) = &tokens.id_token {
            let (algorithm, claims) = self
                .expectations
                .check(id_token.expose_secret(), &["jwt"], &self.keys, now, fetch)
                .await
                .map_err(id_token_error)?;
            id_token::check_access_token_hash(&claims, algorithm, tokens.access_token.expose_secret())
                .map_err(id_token_error)?;
            if self.principal(&claims, now).map_err(id_token_error)?.id() != principal.id() {
                return Err(LoginError::SubjectMismatch);
            }
        }
        tokens.refresh_token.get_or_insert_with(|| refresh_token.clone());
        Ok(tokens)
    }

    /// Asks the provider for more about the user `principal`, and gives the claims (section 5.3).
    ///
    /// # Errors
    /// [`LoginError::SubjectMismatch`] if the answer is about somebody else, as one to a stolen or swapped access token
    /// would be; other variants if there is no usable answer.
    pub async fn user_info<F: HttpFetch>(
        &self,
        access_token: &SecretString,
        principal: &Principal,
        fetch: &F,
    ) -> Result<Map<String, Value>, LoginError> {
        let endpoint = self.metadata.userinfo_endpoint().ok_or(LoginError::Unsupported("userinfo"))?;
        let unusable = |what| LoginError::Unavailable(FetchError::Document(what));
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", access_token.expose_secret()))
            .map_err(|_| unusable("the access token makes no header field"))?;
        authorization.set_sensitive(true);
        let request = Request::get(endpoint)
            .header(header::AUTHORIZATION, authorization)
            .header(header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| unusable("the address makes no request"))?;
        let response = send(fetch, request).await.map_err(LoginError::Unavailable)?;
        if response.status() != StatusCode::OK {
            return Err(LoginError::Unavailable(FetchError::Status(response.status().as_u16())));
        }
        let claims =
            strict_json::parse_object(response.body()).map_err(|_| unusable("no userinfo response"))?;
        let subject = required_text(&claims, "sub").map_err(|_| unusable("userinfo without a subject"))?;
        if format!("{}{subject}", self.subject_prefix) != principal.id() {
            return Err(LoginError::SubjectMismatch);
        }
        Ok(claims)
    }

    /// Where to send the browser so that the user is logged out at the provider too (OpenID Connect RP-Initiated Logout
    /// 1.0), or `None` if the provider has no such address. `post_logout_redirect_uri` is where the provider sends the
    /// browser afterwards, as it is registered there. With the ID token the provider need not ask the user.
    #[must_use]
    pub fn logout_location(
        &self,
        id_token: Option<&SecretString>,
        post_logout_redirect_uri: Option<&str>,
    ) -> Option<String> {
        let endpoint = self.metadata.end_session_endpoint()?;
        let mut parameters = vec![("client_id", self.client.client_id())];
        let optional = [
            ("id_token_hint", id_token.map(ExposeSecret::expose_secret)),
            ("post_logout_redirect_uri", post_logout_redirect_uri),
        ];
        parameters.extend(optional.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        Some(with_query(endpoint, &parameters))
    }

    /// Checks the body of a request to the back-channel logout URI (OpenID Connect Back-Channel Logout 1.0 section 2.6).
    /// The answer to a good one is 200 with `Cache-Control: no-store`, once its sessions have ended.
    ///
    /// Used tokens are remembered by this value, so a token that was captured can at most end new sessions of the same
    /// user, within its lifetime, on another process.
    ///
    /// # Errors
    /// [`LogoutTokenError`] says why no session ends.
    pub async fn check_logout_token<F: HttpFetch>(
        &self,
        body: &[u8],
        now: u64,
        fetch: &F,
    ) -> Result<LogoutToken, LogoutTokenError> {
        let form: Vec<(String, String)> =
            serde_urlencoded::from_bytes(body).map_err(|_| LogoutTokenError::Missing)?;
        let mut tokens = form.iter().filter(|(name, _)| name == "logout_token");
        let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
            return Err(LogoutTokenError::Missing);
        };
        let (_, claims) =
            self.expectations.check(token, &["logout+jwt", "jwt"], &self.keys, now, fetch).await?;
        let logout_token = LogoutToken::from_claims(&claims, &self.subject_prefix)?;
        let token_id = required_text(&claims, "jti")?.to_owned();
        let expires_at = numeric_date(&claims, "exp")?.unwrap_or(u64::MAX);
        let refused_from = expires_at.saturating_add(self.expectations.leeway_seconds);
        let mut used = self.used_logout_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(&token_id, now).is_some() {
            return Err(LogoutTokenError::Replayed);
        }
        used.insert(token_id, (), refused_from);
        Ok(logout_token)
    }

    async fn request_tokens<F: HttpFetch>(
        &self,
        form: &[(&str, &str)],
        now: u64,
        fetch: &F,
    ) -> Result<Tokens, LoginError> {
        let resource = self.resource.as_deref().map(|resource| ("resource", resource));
        let form: Vec<(&str, &str)> = form.iter().copied().chain(resource).collect();
        let request = self
            .client
            .post_form(&self.token_endpoint, &self.expectations.issuer, &form, now)
            .map_err(LoginError::Unavailable)?;
        let response = send(fetch, request).await.map_err(LoginError::Unavailable)?;
        Tokens::parse(&response, now)
    }

    /// The principal of checked claims.
    fn principal(&self, claims: &Map<String, Value>, now: u64) -> Result<Principal, TokenError> {
        const NO_ATTRIBUTES: [&str; 11] =
            ["sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "at_hash", "c_hash", "azp", "sid"];
        let authenticated_at = match numeric_date(claims, "auth_time")? {
            Some(time) => time,
            None => numeric_date(claims, "iat")?.unwrap_or(now),
        };
        let id = format!("{}{}", self.subject_prefix, required_text(claims, "sub")?);
        let mut principal = Principal::new(id, Mechanism::OpenIdConnect, authenticated_at);
        for role in crate::jwt::roles(claims, &self.roles_path) {
            principal = principal.with_role(role);
        }
        for (name, value) in claims {
            if !NO_ATTRIBUTES.contains(&name.as_str()) {
                principal = principal.with_attribute(name, value.clone());
            }
        }
        Ok(principal)
    }

    fn pending_logins(&self, cookies: &Cookies<'_>, now: u64) -> PendingLogins {
        cookies
            .get_unique(&self.cookie_name)
            .and_then(|sealed| self.cookie_keys.open(&self.cookie_name, sealed, now))
            .map(|json| PendingLogins::parse(&json, now))
            .unwrap_or_default()
    }

    fn login_cookie(&self, logins: &PendingLogins, now: u64) -> Result<HeaderValue, LoginError> {
        if logins.is_empty() {
            return Ok(set_cookie(&removal(&self.cookie(String::new())))?);
        }
        let expires_at = now.saturating_add(PENDING_SECONDS);
        let mut cookie = self.cookie(self.cookie_keys.seal(&self.cookie_name, &logins.to_json(), expires_at));
        cookie.set_max_age(time::Duration::seconds(PENDING_SECONDS.cast_signed()));
        Ok(set_cookie(&cookie)?)
    }

    /// `SameSite=Lax`: the provider's redirect comes from another site, and has to bring it.
    fn cookie(&self, value: String) -> Cookie<'static> {
        let mut cookie = secure_cookie(self.cookie_name.clone(), value);
        cookie.set_secure(self.is_cookie_secure);
        cookie
    }
}

fn id_token_error(error: TokenError) -> LoginError {
    match error {
        TokenError::Unavailable(error) => LoginError::Unavailable(error),
        error => LoginError::IdToken(error),
    }
}

/// An address with more parameters in its query.
fn with_query(address: &str, parameters: &[(&str, &str)]) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    let query = serde_urlencoded::to_string(parameters).unwrap_or_default();
    format!("{address}{separator}{query}")
}

/// What the provider's redirect says (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207).
struct AuthorizationResponse {
    state: String,
    issuer: Option<String>,
    /// The code, or why there is none.
    outcome: Result<String, OAuthErrorCode>,
}

impl AuthorizationResponse {
    fn parse(query: &str) -> Result<Self, LoginError> {
        let malformed = || LoginError::MalformedResponse;
        let mut parameters: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|_| malformed())?;
        // No parameter may be there twice (RFC 6749 section 3.1): two readers could take two of them.
        let mut take = |name: &str| {
            let at = parameters.iter().position(|(own, _)| own == name);
            let value = at.map(|at| parameters.swap_remove(at).1);
            if parameters.iter().any(|(own, _)| own == name) { Err(malformed()) } else { Ok(value) }
        };
        let (state, issuer) = (take("state")?.ok_or_else(malformed)?, take("iss")?);
        let outcome = match (take("code")?, take("error")?) {
            (Some(code), None) => Ok(code),
            (None, Some(error)) => Err(OAuthErrorCode::parse(&error)),
            _ => return Err(malformed()),
        };
        Ok(Self { state, issuer, outcome })
    }
}
