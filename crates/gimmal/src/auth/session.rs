//! Sessions of browsers: loaded before the handler runs, and committed before the response goes out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gimmal_runtime::{Core, LocalFuture};
use gimmal_security::audit::AuditEvent;
use gimmal_security::cookies::Cookies;
use gimmal_security::csrf::{OriginCheck, OriginRequest};
use gimmal_security::session::{
    self, CookieAfter, SessionError, SessionKey, SessionOptions, SessionStore, SessionStoreError,
    SessionSummary,
};
use gimmal_security::{Mechanism, Principal};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxFuture;
use super::accounts::{Accounts, LoginError, PasswordProof};
use super::caching::{keep_private, vary_on};
use crate::audit::Recorder;
use crate::clock::unix_seconds;
use crate::defence::client_address::{host, is_secure};
use crate::error::Error;
use crate::extract::FromRequest;
use crate::handler::Needs;
use crate::middleware::{Middleware, Next};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Seconds between two times at which the store is cleared of what has expired.
const CLEAR_EVERY_SECONDS: u64 = 60;

/// The sessions of a service over a store whose type is known to itself alone.
trait DynSessions: Send + Sync {
    fn load<'a>(
        &'a self,
        cookies: &'a Cookies<'a>,
    ) -> BoxFuture<'a, Result<session::Session, SessionStoreError>>;
    fn commit(&self, session: session::Session) -> BoxFuture<'_, Result<Option<HeaderValue>, SessionError>>;
    fn end_new<'a>(&'a self, cookie: &'a HeaderValue) -> BoxFuture<'a, Result<(), SessionStoreError>>;
    fn cookie_after(&self, session: &mut session::Session) -> CookieAfter;
    fn list<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<SessionSummary>, SessionStoreError>>;
    fn revoke<'a>(
        &'a self,
        id: &'a str,
        key: &'a SessionKey,
    ) -> BoxFuture<'a, Result<bool, SessionStoreError>>;
    fn log_out_everywhere<'a>(
        &'a self,
        id: &'a str,
        spared: Option<&'a SessionKey>,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>>;
    fn log_out_provider_session<'a>(
        &'a self,
        issuer: &'a str,
        provider_session_id: &'a str,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>>;
    #[cfg(feature = "oidc")]
    fn end_by_provider<'a>(
        &'a self,
        token: &'a gimmal_security::oidc::LogoutToken,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>>;
    fn remove_expired(&self) -> BoxFuture<'_, Result<usize, SessionStoreError>>;
}

impl<S: SessionStore + Send + Sync> DynSessions for session::Sessions<S> {
    fn load<'a>(
        &'a self,
        cookies: &'a Cookies<'a>,
    ) -> BoxFuture<'a, Result<session::Session, SessionStoreError>> {
        Box::pin(self.load(cookies, unix_seconds()))
    }

    fn commit(&self, session: session::Session) -> BoxFuture<'_, Result<Option<HeaderValue>, SessionError>> {
        Box::pin(self.commit(session, unix_seconds()))
    }

    fn end_new<'a>(&'a self, cookie: &'a HeaderValue) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        Box::pin(self.end_new(cookie))
    }

    fn cookie_after(&self, session: &mut session::Session) -> CookieAfter {
        self.cookie_after(session)
    }

    fn list<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<SessionSummary>, SessionStoreError>> {
        Box::pin(self.list(id, unix_seconds()))
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        key: &'a SessionKey,
    ) -> BoxFuture<'a, Result<bool, SessionStoreError>> {
        Box::pin(self.revoke(id, key))
    }

    fn log_out_everywhere<'a>(
        &'a self,
        id: &'a str,
        spared: Option<&'a SessionKey>,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>> {
        Box::pin(self.log_out_everywhere(id, spared))
    }

    fn log_out_provider_session<'a>(
        &'a self,
        issuer: &'a str,
        provider_session_id: &'a str,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>> {
        Box::pin(self.log_out_provider_session(issuer, provider_session_id))
    }

    #[cfg(feature = "oidc")]
    fn end_by_provider<'a>(
        &'a self,
        token: &'a gimmal_security::oidc::LogoutToken,
    ) -> BoxFuture<'a, Result<usize, SessionStoreError>> {
        Box::pin(token.end_sessions(self))
    }

    fn remove_expired(&self) -> BoxFuture<'_, Result<usize, SessionStoreError>> {
        Box::pin(self.store().remove_expired(unix_seconds()))
    }
}

/// The middleware that gives each request its [`Session`]: loaded from the store before the handler runs, and committed
/// before the response goes out, which then has `Cache-Control: no-store` beside its `Set-Cookie`.
///
/// A response that depends on the session has `Vary: Cookie` and `Cache-Control: private`, unless the handler itself
/// said `no-store`, `private`, `public` or `s-maxage`. It depends on it if somebody is logged in, or if a guard, a
/// handler or an extractor has asked for the session or the [`Principal`].
///
/// Whoever is logged in is the request's [`Principal`]. If the store fails, the answer is 503, never a request without
/// its session. Requests that change something and come from a page of another site are refused with 403
/// ([`OriginCheck`]): a cookie comes along whoever asks for it.
///
/// ```
/// use gimmal::App;
/// use gimmal::auth::{MemorySessionStore, Session, SessionOptions, Sessions};
///
/// async fn count(session: Session) -> Result<String, gimmal::Error> {
///     let visits = session.get::<u64>("visits").unwrap_or(0) + 1;
///     session.insert("visits", &visits)?;
///     Ok(format!("visit {visits}"))
/// }
/// let sessions = Sessions::new(MemorySessionStore::new(100_000), SessionOptions::default());
/// let app = App::new().get("/", count).with(sessions);
/// ```
#[derive(Clone)]
pub struct Sessions {
    sessions: Arc<dyn DynSessions>,
    cookie_name: Arc<str>,
    origin_check: Option<Arc<OriginCheck>>,
    /// When the store is cleared next, in seconds since 1970.
    clear_at: Arc<AtomicU64>,
}

impl Sessions {
    /// Sessions in `store`.
    pub fn new(store: impl SessionStore + Send + Sync + 'static, options: SessionOptions) -> Self {
        Self {
            cookie_name: options.cookie_name().into(),
            sessions: Arc::new(session::Sessions::new(store, options)),
            origin_check: Some(Arc::default()),
            clear_at: Arc::new(AtomicU64::new(unix_seconds() + CLEAR_EVERY_SECONDS)),
        }
    }

    /// Decides with this check which pages of other sites may send requests that change something.
    #[must_use]
    pub fn origin_check(mut self, check: OriginCheck) -> Self {
        self.origin_check = Some(Arc::new(check));
        self
    }

    /// Lets pages of other sites send requests that change something: only where another middleware checks where they
    /// come from.
    #[must_use]
    pub fn without_origin_check(mut self) -> Self {
        self.origin_check = None;
        self
    }

    /// The live sessions of a principal, the last used first.
    ///
    /// # Errors
    /// [`SessionStoreError`] if the store cannot tell.
    pub async fn list(&self, principal_id: &str) -> Result<Vec<SessionSummary>, SessionStoreError> {
        self.sessions.list(principal_id).await
    }

    /// Ends one session of a principal; `false` if it has none of that key. It is not recorded, as there is no request:
    /// a handler does that with [`Audit`](crate::audit::Audit), or takes [`Session::revoke`].
    ///
    /// # Errors
    /// [`SessionStoreError`] if the session may still be there.
    pub async fn revoke(&self, principal_id: &str, key: &SessionKey) -> Result<bool, SessionStoreError> {
        self.sessions.revoke(principal_id, key).await
    }

    /// Ends all sessions of a principal, but for one if it is to be spared, and gives their number. To be called when a
    /// password changes or a right is withdrawn.
    ///
    /// # Errors
    /// [`SessionStoreError`] if some of them may still be there.
    pub async fn log_out_everywhere(
        &self,
        principal_id: &str,
        spared: Option<&SessionKey>,
    ) -> Result<usize, SessionStoreError> {
        self.sessions.log_out_everywhere(principal_id, spared).await
    }

    /// Ends the sessions that were begun in that session of that OpenID provider, and gives their number.
    ///
    /// # Errors
    /// [`SessionStoreError`] if some of them may still be there.
    pub async fn log_out_provider_session(
        &self,
        issuer: &str,
        provider_session_id: &str,
    ) -> Result<usize, SessionStoreError> {
        self.sessions.log_out_provider_session(issuer, provider_session_id).await
    }

    /// Ends the sessions that an OpenID provider's logout token is about.
    #[cfg(feature = "oidc")]
    pub(super) async fn end_by_provider(
        &self,
        token: &gimmal_security::oidc::LogoutToken,
    ) -> Result<usize, Error> {
        self.sessions.end_by_provider(token).await.map_err(unavailable)
    }

    /// The refusal of a request that a page of another site may have sent.
    async fn refuse_forgery(&self, request: &Request) -> Option<Response> {
        let refusal = self.origin_check.as_ref()?.verify(&OriginRequest {
            method: request.method(),
            path: request.path(),
            secure: is_secure(request),
            host: host(request).map(str::as_bytes),
            origin: request.header_bytes("origin"),
            sec_fetch_site: request.header_bytes("sec-fetch-site"),
        });
        let refusal = refusal.err()?;
        let (method, path, reason) = (request.method().as_str(), request.path(), refusal.to_string());
        let event = AuditEvent::CsrfRefused { method, path, reason: &reason };
        Recorder::of(request).await.record(event, None);
        Some(Error::status_only(StatusCode::FORBIDDEN).with_source(refusal).into_response())
    }

    async fn load(&self, request: &Request) -> Result<session::Session, Error> {
        let cookies = Cookies::parse(request.header_all("cookie"));
        self.sessions.load(&cookies).await.map_err(unavailable)
    }

    /// Commits the session, and adds the cookies to the response.
    async fn commit(&self, session: &Session, response: Response) -> Response {
        let Some(inner) = session.0.session.take() else { return response };
        let is_logged_in = inner.principal().is_some();
        let own = match self.sessions.commit(inner).await {
            Ok(own) => own,
            Err(SessionError::Store(error)) => return unavailable(error).into_response(),
            Err(error) => return Error::from(error).into_response(),
        };
        if let (true, Some(cookie), Some((accounts, proof))) = (is_logged_in, &own, session.0.proof.take())
            && let Some(refused) = self.end_overtaken(cookie, &accounts, &proof).await
        {
            let (account, reason) = (Some(proof.name.as_str()), "the password was changed during the login");
            let event = AuditEvent::LoginFailed { mechanism: Mechanism::Password, account, reason };
            session.0.recorder.record(event, None);
            return refused;
        }
        let mut response = response;
        let cookies = own.into_iter().chain(session.0.cookies.take());
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        self.clear_expired();
        response
    }

    /// Ends the session that a login has just begun if its password is no longer right; the answer is then an error.
    ///
    /// Whoever changes a password stores it first and ends the sessions then. So either that finds this session, which
    /// is in the store already, or this look-up finds the new password.
    async fn end_overtaken(
        &self,
        cookie: &HeaderValue,
        accounts: &Accounts,
        proof: &PasswordProof,
    ) -> Option<Response> {
        let refused = match accounts.is_still_right(proof).await {
            Ok(true) => return None,
            Ok(false) => LoginError::Wrong,
            Err(error) => error,
        };
        match self.sessions.end_new(cookie).await {
            Ok(()) => Some(refused.into_response()),
            Err(error) => Some(unavailable(error).into_response()),
        }
    }

    /// Clears the store from time to time, beside the requests.
    fn clear_expired(&self) {
        let (due, now) = (self.clear_at.load(Ordering::Relaxed), unix_seconds());
        let next = now + CLEAR_EVERY_SECONDS;
        if now < due
            || self.clear_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let sessions = Arc::clone(&self.sessions);
        if let Some(core) = Core::current() {
            core.spawn(async move {
                if let Err(error) = sessions.remove_expired().await {
                    tracing::warn!(%error, "expired sessions were not removed");
                }
            });
        }
    }
}

fn unavailable(error: SessionStoreError) -> Error {
    Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(error)
}

impl Middleware for Sessions {
    fn handle(self: Rc<Self>, mut request: Request, next: Next) -> LocalFuture<Response> {
        LocalFuture::new(async move {
            if let Some(refused) = self.refuse_forgery(&request).await {
                return refused;
            }
            let loaded = match self.load(&request).await {
                Ok(loaded) => loaded,
                Err(error) => return error.into_response(),
            };
            // Credentials that were sent with this very request come first.
            let is_somebody = loaded.principal().is_some();
            if let Some(principal) = loaded.principal().cloned()
                && request.extensions().get::<Principal>().is_none()
            {
                request.extensions_mut().insert(principal);
            }
            let session = Session(Rc::new(Inner {
                session: RefCell::new(Some(loaded)),
                cookies: RefCell::default(),
                proof: RefCell::default(),
                sessions: (*self).clone(),
                recorder: Recorder::of(&request).await,
                is_read: Cell::new(is_somebody),
            }));
            request.extensions_mut().insert(session.clone());
            let response = next.run(request).await;
            let mut response = self.commit(&session, response).await;
            if session.0.is_read.get() {
                vary_on(response.headers_mut(), "cookie");
                keep_private(response.headers_mut());
            }
            response
        })
    }

    fn authenticates(&self) -> bool {
        true
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// The session of a request, as a handler takes it. Clones are the same session.
///
/// What is changed is kept when the handler has returned: a body that is streamed afterwards can change nothing any
/// more.
#[derive(Clone)]
pub struct Session(Rc<Inner>);

struct Inner {
    /// Taken out when it is committed.
    session: RefCell<Option<session::Session>>,
    /// Cookies that go out beside its own.
    cookies: RefCell<Vec<HeaderValue>>,
    /// By what somebody logged in during this request.
    proof: RefCell<Option<(Accounts, PasswordProof)>>,
    sessions: Sessions,
    recorder: Recorder,
    /// Whether the response may depend on the session.
    is_read: Cell<bool>,
}

impl Session {
    /// Who is logged in.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        self.0.session.borrow().as_ref()?.principal().cloned()
    }

    /// The key of this session, if it is in the store.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        self.0.session.borrow().as_ref()?.key().copied()
    }

    /// A value, if there is one of that name and type.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.0.session.borrow().as_ref()?.get(name)
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// If it has no form in JSON.
    pub fn insert<T: Serialize>(&self, name: &str, value: &T) -> Result<(), serde_json::Error> {
        self.change(|session| session.insert(name, value)).unwrap_or(Ok(()))
    }

    /// Removes a value.
    pub fn remove(&self, name: &str) {
        self.change(|session| session.remove(name));
    }

    /// Logs somebody in who was proved in whatever way. The session gets a new id and begins anew.
    pub fn log_in(&self, principal: Principal) {
        let (mechanism, id) = (principal.mechanism(), principal.id().to_owned());
        self.change(|session| session.log_in(principal));
        self.0.recorder.record(AuditEvent::LoginSucceeded { mechanism }, Some(&id));
    }

    /// [`log_in`](Self::log_in) for a login that was recorded already, and whose password may change under way.
    pub(super) fn log_in_by_password(&self, principal: Principal, accounts: Accounts, proof: PasswordProof) {
        // Who proves again to be who is logged in may do so to change the password in this very request. If the session
        // was ended meanwhile, it stays so at its commit.
        let is_continued = self.principal().is_some_and(|before| before.id() == principal.id());
        self.change(|session| session.log_in(principal));
        let mut kept = self.0.proof.borrow_mut();
        // A login that this very request has begun is in no store yet, and nobody can have ended it.
        if !is_continued || kept.is_some() {
            *kept = Some((accounts, proof));
        }
    }

    /// Logs in whom an OpenID provider has proved, in such a way that the provider can end the session.
    #[cfg(feature = "oidc")]
    pub(super) fn log_in_with_provider(&self, login: &gimmal_security::oidc::Login) {
        self.change(|session| login.log_in(session));
        let mechanism = login.principal.mechanism();
        self.0.recorder.record(AuditEvent::LoginSucceeded { mechanism }, Some(login.principal.id()));
    }

    /// Notes in which session of which OpenID provider the login was made.
    pub fn set_provider_session(&self, issuer: &str, provider_session_id: &str) {
        self.change(|session| session.set_provider_session(issuer, provider_session_id));
    }

    /// Ends the session: its data are gone, and its id is worth nothing any more.
    pub fn log_out(&self) {
        let principal = self.principal();
        self.change(session::Session::log_out);
        if let Some(principal) = principal {
            self.0.recorder.record(AuditEvent::LoggedOut { everywhere: false }, Some(principal.id()));
        }
    }

    /// Ends this session and all others of its principal, on whatever device, and gives the number of the others.
    ///
    /// # Errors
    /// 503 if some of them may still be there.
    pub async fn log_out_everywhere(&self) -> Result<usize, Error> {
        let Some(principal) = self.principal() else { return Ok(0) };
        let own = self.key();
        let ended = self.0.sessions.log_out_everywhere(principal.id(), own.as_ref()).await;
        let ended = ended.map_err(unavailable)?;
        self.change(session::Session::log_out);
        self.0.recorder.record(AuditEvent::LoggedOut { everywhere: true }, Some(principal.id()));
        Ok(ended)
    }

    /// Ends another session of its principal, on whatever device; `false` if there is none of that key. This one is
    /// ended by [`log_out`](Self::log_out).
    ///
    /// # Errors
    /// 503 if the session may still be there.
    pub async fn revoke(&self, key: &SessionKey) -> Result<bool, Error> {
        let Some(principal) = self.principal() else { return Ok(false) };
        let ended = self.0.sessions.revoke(principal.id(), key).await.map_err(unavailable)?;
        if ended {
            let event = AuditEvent::SessionRevoked { session: &key.to_string() };
            self.0.recorder.record(event, Some(principal.id()));
        }
        Ok(ended)
    }

    /// The sessions of its principal, the last used first.
    ///
    /// # Errors
    /// 503 if the store cannot tell.
    pub async fn list(&self) -> Result<Vec<SessionSummary>, Error> {
        match self.principal() {
            Some(principal) => self.0.sessions.list(principal.id()).await.map_err(unavailable),
            None => Ok(Vec::new()),
        }
    }

    /// What the response will leave in the browser as the cookie `name`, if that is this session's.
    pub(crate) fn cookie_after(&self, name: &str) -> Option<CookieAfter> {
        let mut session = self.0.session.borrow_mut();
        let after = self.0.sessions.sessions.cookie_after(session.as_mut()?);
        (*self.0.sessions.cookie_name == *name).then_some(after)
    }

    /// Sends a cookie along with the session's own.
    pub(super) fn add_cookie(&self, cookie: HeaderValue) {
        self.0.cookies.borrow_mut().push(cookie);
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    fn change<T>(&self, change: impl FnOnce(&mut session::Session) -> T) -> Option<T> {
        let mut session = self.0.session.borrow_mut();
        if session.is_none() {
            tracing::error!("a session was changed after its response had gone out: the change is lost");
        }
        session.as_mut().map(change)
    }
}

impl Session {
    /// Notes that the response depends on who is logged in, or on that nobody is.
    pub(super) fn note_read(request: &Request) {
        if let Some(session) = request.extensions().get::<Self>() {
            session.0.is_read.set(true);
        }
    }
}

impl FromRequest for Session {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Self::note_read(request);
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            let missing = "there are no sessions here: add auth::Sessions to the app with App::with";
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(missing)
        })
    }

    fn needs(needs: &mut Needs) {
        needs.sessions();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
