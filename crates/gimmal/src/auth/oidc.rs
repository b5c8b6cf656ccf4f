//! The routes of a login with OpenID Connect.

use std::fmt;
use std::sync::Arc;

use gimmal_security::audit::AuditEvent;
use gimmal_security::cookies::Cookies;
use gimmal_security::discovery::ServerMetadata;
use gimmal_security::oidc::{LoginError, LoginRequest, RelyingParty};
use gimmal_security::{ExposeSecret, Mechanism, Requirement, SecretString};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::fetcher::Fetcher;
use super::session::{Session, Sessions};
use crate::app::{App, get, post};
use crate::audit::Recorder;
use crate::body::BoxError;
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::extract::Query;
use crate::request::Request;
use crate::response::{IntoResponse, Redirect, Response};

/// Where the session keeps the ID token, with which the provider ends its own session without asking.
const ID_TOKEN: &str = "gimmal.id_token";

type MakeRelyingParty = dyn Fn(ServerMetadata) -> Result<RelyingParty, BoxError> + Send + Sync;

/// Login with OpenID Connect, as an app of four routes: `GET /login`, `GET /callback`, `POST /logout` and
/// `POST /backchannel-logout`.
///
/// `/login?next=/path` sends the browser to the provider, and from there by way of `/callback` to the path. `/logout` ends
/// the session here and at the provider. The provider itself calls `/backchannel-logout`. The app around it needs
/// [`Sessions`]; with [`Authenticator::login_page`](super::Authenticator::login_page), pages that need a login lead to
/// it.
///
/// The provider is discovered when the first browser logs in, and again with the next if that fails.
///
/// ```
/// use gimmal::App;
/// use gimmal::auth::{MemorySessionStore, OidcLogin, SessionOptions, Sessions};
/// use gimmal::security::client_authentication::ClientAuthentication;
/// use gimmal::security::cookies::CookieKeys;
/// use gimmal::security::oidc::RelyingParty;
/// use gimmal::security::{SecretSlice, SecretString};
///
/// let sessions = Sessions::new(MemorySessionStore::new(100_000), SessionOptions::default());
/// let login = OidcLogin::new("https://login.example", |provider| {
///     let client = ClientAuthentication::basic("shop", SecretString::from("from the vault"));
///     let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32]))?;
///     let redirect_uri = "https://shop.example/oidc/callback";
///     Ok(RelyingParty::new(provider, client, redirect_uri, keys)?.with_scopes(["email"]))
/// });
/// let app = App::new().nest("/oidc", login.routes(&sessions)).with(sessions);
/// ```
#[derive(Clone)]
pub struct OidcLogin {
    issuer: Arc<str>,
    make: Arc<MakeRelyingParty>,
    relying_party: Arc<OnceCell<RelyingParty>>,
    fetcher: Fetcher,
    post_logout_redirect_uri: Option<Arc<str>>,
}

impl OidcLogin {
    /// Logins at the provider `issuer`, by the relying party that `make` makes of what the provider says of itself.
    pub fn new(
        issuer: &str,
        make: impl Fn(ServerMetadata) -> Result<RelyingParty, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            make: Arc::new(make),
            relying_party: Arc::default(),
            fetcher: Fetcher::new(),
            post_logout_redirect_uri: None,
        }
    }

    /// How the provider is asked. Without it, over TLS with the roots of the platform.
    #[must_use]
    pub fn fetcher(mut self, fetcher: Fetcher) -> Self {
        self.fetcher = fetcher;
        self
    }

    /// Where the provider sends the browser after a logout, as it is registered there.
    #[must_use]
    pub fn post_logout_redirect_uri(mut self, uri: &str) -> Self {
        self.post_logout_redirect_uri = Some(uri.into());
        self
    }

    /// The routes, each of which is open to everybody.
    #[must_use]
    pub fn routes(self, sessions: &Sessions) -> App {
        let (start, finish, end, provider_end) = (self.clone(), self.clone(), self.clone(), self);
        let sessions = sessions.clone();
        let login = async move |next: Query<Next>, request: Request| start.start(next.0, &request).await;
        let callback =
            async move |session: Session, request: Request| finish.finish(&session, &request).await;
        let logout = async move |session: Session| end.end(&session).await;
        let backchannel =
            async move |mut request: Request| provider_end.end_by_provider(&sessions, &mut request).await;
        App::new()
            .route("/login", get(login).require(Requirement::Public))
            .route("/callback", get(callback).require(Requirement::Public))
            .route("/logout", post(logout).require(Requirement::Public))
            .route("/backchannel-logout", post(backchannel).require(Requirement::Public))
    }

    async fn relying_party(&self) -> Result<&RelyingParty, Error> {
        let discover = async || -> Result<RelyingParty, BoxError> {
            let metadata = ServerMetadata::discover_openid(&self.issuer, &self.fetcher).await?;
            (self.make)(metadata)
        };
        self.relying_party.get_or_try_init(discover).await.map_err(|error| {
            Error::status_only(StatusCode::SERVICE_UNAVAILABLE)
                .with_source(error as Box<dyn std::error::Error>)
        })
    }

    async fn start(&self, next: Next, request: &Request) -> Result<Response, Error> {
        let wanted = LoginRequest { return_to: next.next, ..LoginRequest::default() };
        let cookies = Cookies::parse(request.header_all("cookie"));
        let redirect =
            self.relying_party().await?.start_login(&wanted, &cookies, unix_seconds()).map_err(told)?;
        Ok(redirect_with_cookie(redirect.location, redirect.set_cookie))
    }

    async fn finish(&self, session: &Session, request: &Request) -> Result<Response, Error> {
        let relying_party = self.relying_party().await?;
        let cookies = Cookies::parse(request.header_all("cookie"));
        let query = request.query().unwrap_or_default();
        let finished = relying_party.finish_login(query, &cookies, unix_seconds(), &self.fetcher).await;
        let login = match finished {
            Ok(login) => login,
            Err(error) => {
                let (mechanism, reason) = (Mechanism::OpenIdConnect, error.to_string());
                let event = AuditEvent::LoginFailed { mechanism, account: None, reason: &reason };
                Recorder::of(request).await.record(event, None);
                return Err(told(error));
            }
        };
        session.log_in_with_provider(&login);
        if let Some(id_token) = &login.tokens.id_token {
            session.insert(ID_TOKEN, &id_token.expose_secret())?;
        }
        Ok(redirect_with_cookie(login.return_to, login.set_cookie))
    }

    async fn end(&self, session: &Session) -> Result<Redirect, Error> {
        let id_token = session.get::<SecretString>(ID_TOKEN);
        session.log_out();
        // Whoever was not logged in by the provider is logged out here alone.
        let Some(id_token) = id_token else { return Ok(Redirect::see_other("/")) };
        let relying_party = self.relying_party().await?;
        let back = self.post_logout_redirect_uri.as_deref();
        let location = relying_party.logout_location(Some(&id_token), back);
        Ok(Redirect::see_other(location.unwrap_or_else(|| "/".to_owned())))
    }

    async fn end_by_provider(&self, sessions: &Sessions, request: &mut Request) -> Result<Response, Error> {
        let body = request.bytes().await?;
        let relying_party = self.relying_party().await?;
        let checked = relying_party.check_logout_token(&body, unix_seconds(), &self.fetcher).await;
        let recorder = Recorder::of(request).await;
        let token = checked.map_err(|error| {
            if error.status().is_client_error() {
                let reason = error.to_string();
                recorder.record(AuditEvent::AttackRefused { guard: "logout_token", reason: &reason }, None);
            }
            Error::status_only(error.status()).with_source(error)
        })?;
        let ended = sessions.end_by_provider(&token).await?;
        let everywhere = token.session_id().is_none();
        recorder.record(AuditEvent::LoggedOut { everywhere }, token.principal_id());
        tracing::debug!(ended, "the provider has ended sessions");
        let no_store = HeaderValue::from_static("no-store");
        Ok(Response::default().with_header(header::CACHE_CONTROL, no_store))
    }
}

impl fmt::Debug for OidcLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcLogin").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Where a login leads to.
#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

/// What the browser is told: why it has to begin again, but not what went wrong between the servers.
fn told(error: LoginError) -> Error {
    let status = error.status();
    if status.is_server_error() {
        Error::status_only(status).with_source(error)
    } else {
        Error::new(status, error.to_string())
    }
}

fn redirect_with_cookie(location: String, cookie: HeaderValue) -> Response {
    let mut response = Redirect::see_other(location).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
