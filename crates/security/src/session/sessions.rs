//! The life of a session: loaded from its cookie, changed by a handler, committed with the response.

use std::collections::BTreeMap;
use std::fmt;

use http::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use super::id::SessionId;
use super::{SessionChange, SessionKey, SessionRecord, SessionStore, SessionStoreError};
use crate::Principal;
use crate::cookies::{Cookie, CookieError, Cookies, SameSite, removal, secure_cookie, set_cookie, time};

/// How sessions are held. All times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    cookie_name: String,
    same_site: SameSite,
    is_secure: bool,
    is_persistent: bool,
    idle_seconds: u64,
    absolute_seconds: u64,
    data_bytes_max: usize,
}

impl Default for SessionOptions {
    /// The cookie `__Host-session` with `Secure`, `HttpOnly` and `SameSite=Lax`, until the browser is closed; the end
    /// after 30 minutes without use and after 12 hours at any rate (NIST SP 800-63B-4 section 2.2.3); 64 KiB of data.
    fn default() -> Self {
        Self {
            cookie_name: "__Host-session".to_owned(),
            same_site: SameSite::Lax,
            is_secure: true,
            is_persistent: false,
            idle_seconds: 30 * 60,
            absolute_seconds: 12 * 60 * 60,
            data_bytes_max: 64 * 1024,
        }
    }
}

impl SessionOptions {
    /// Names the cookie. With the prefix `__Host-` no other host of the domain can set it.
    ///
    /// # Errors
    /// [`SessionOptionsError`] if browsers would not take a cookie of that name.
    pub fn with_cookie_name(mut self, name: impl Into<String>) -> Result<Self, SessionOptionsError> {
        self.cookie_name = name.into();
        set_cookie(&self.cookie(String::new()))?;
        Ok(self)
    }

    /// `SameSite=Strict`: requests that come from another site, links included, find nobody logged in.
    #[must_use]
    pub fn with_same_site_strict(mut self) -> Self {
        self.same_site = SameSite::Strict;
        self
    }

    /// The cookie `session` without `Secure`, for plain HTTP while developing. Whoever is on the way can then read
    /// the cookie and take over the session.
    #[must_use]
    pub fn with_insecure_cookie(mut self) -> Self {
        self.is_secure = false;
        self.cookie_name = "session".to_owned();
        self
    }

    /// Lets the cookie outlive the browser, until the session's absolute time-out.
    #[must_use]
    pub fn with_persistent_cookie(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// Ends a session after as long without use.
    #[must_use]
    pub fn with_idle_seconds(mut self, idle_seconds: u64) -> Self {
        self.idle_seconds = idle_seconds;
        self
    }

    /// Ends a session after as long, used or not; a login starts anew.
    #[must_use]
    pub fn with_absolute_seconds(mut self, absolute_seconds: u64) -> Self {
        self.absolute_seconds = absolute_seconds;
        self
    }

    /// The data that one session may hold, in bytes of JSON.
    #[must_use]
    pub fn with_data_bytes_max(mut self, data_bytes_max: usize) -> Self {
        self.data_bytes_max = data_bytes_max;
        self
    }

    /// The name of the cookie.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        let mut cookie = secure_cookie(self.cookie_name.clone(), value);
        cookie.set_same_site(self.same_site);
        cookie.set_secure(self.is_secure);
        cookie
    }

    fn expires_at(&self, created_at: u64, now: u64) -> u64 {
        now.saturating_add(self.idle_seconds).min(created_at.saturating_add(self.absolute_seconds))
    }

    /// Whether the store has to hear of a use at `now`. A tenth of the idle time-out is near enough, and spares a write
    /// with each request.
    fn is_touch_due(&self, seen_at: u64, now: u64) -> bool {
        now.saturating_sub(seen_at) >= (self.idle_seconds / 10).clamp(1, 60)
    }
}

/// A cookie name that browsers would not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the session cookie cannot be set: {0}")]
pub struct SessionOptionsError(#[from] CookieError);

/// Why a session was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The store failed. The answer is 503.
    #[error(transparent)]
    Store(#[from] SessionStoreError),
    /// The data are larger than they may be.
    #[error("the session's data are too large: keep them in a database, and their key in the session")]
    TooLarge,
    /// The cookie cannot be set.
    #[error(transparent)]
    Cookie(#[from] CookieError),
}

/// The session of one request.
///
/// It is a working copy: nothing is kept before [`Sessions::commit`].
#[derive(Debug)]
pub struct Session {
    /// The session that the cookie named, if the store has it.
    current: Option<SessionKey>,
    /// What was in it, with the changes.
    record: SessionRecord,
    /// The changes since it was loaded.
    changes: BTreeMap<String, Option<Value>>,
    next: Next,
    /// Whether who logged in was logged in before.
    is_continued: bool,
    /// Whether the client holds a cookie that it had better not hold.
    is_cookie_dead: bool,
    /// The id that it gets at its commit if it needs one, made when somebody asks for it before.
    next_id: Option<SessionId>,
}

/// What a response leaves in the browser as the session's cookie.
#[derive(Clone, PartialEq, Eq)]
pub enum CookieAfter {
    /// The one that came with the request, or none if none came.
    AsSent,
    /// None: the response deletes it.
    Removed,
    /// A new one, of this value.
    New(String),
}

/// Without the value, which opens the session.
impl fmt::Debug for CookieAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsSent => "AsSent",
            Self::Removed => "Removed",
            Self::New(_) => "New(..)",
        })
    }
}

/// What becomes of a session at its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Keep,
    /// A new id.
    Rotate,
    /// A new id and a new beginning.
    Restart,
    End,
}

impl Session {
    /// Who is logged in.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.record.principal.as_ref()
    }

    /// The key of this session, if it is in the store: to mark it in a list, or to spare it when its owner logs out
    /// everywhere else.
    #[must_use]
    pub fn key(&self) -> Option<&SessionKey> {
        self.current.as_ref()
    }

    /// A value, if there is one of that name and type.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.record.data.get(name)?).ok()
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// If it has no form in JSON.
    pub fn insert<T: Serialize>(&mut self, name: &str, value: &T) -> Result<(), serde_json::Error> {
        let value = serde_json::to_value(value)?;
        self.changes.insert(name.to_owned(), Some(value.clone()));
        self.record.data.insert(name.to_owned(), value);
        Ok(())
    }

    /// Removes a value.
    pub fn remove(&mut self, name: &str) {
        if self.record.data.remove(name).is_some() {
            self.changes.insert(name.to_owned(), None);
        }
    }

    /// Logs somebody in. The session gets a new id and begins anew, so that an id which somebody else planted or saw
    /// is worth nothing. The data stay if nobody else was logged in, as a shopping cart should.
    pub fn log_in(&mut self, principal: Principal) {
        let before = self.principal().map(|before| before.id() == principal.id());
        if before == Some(false) {
            self.clear();
        }
        self.is_continued = before == Some(true);
        self.record.labels = vec![principal_label(principal.id())];
        self.record.principal = Some(principal);
        self.next = Next::Restart;
    }

    /// Notes in which session of which OpenID provider the login was made, so that the provider can end it
    /// ([`Sessions::log_out_provider_session`]). To be called after [`log_in`](Self::log_in).
    pub fn set_provider_session(&mut self, issuer: &str, provider_session_id: &str) {
        self.record.labels.push(provider_label(issuer, provider_session_id));
        self.next = self.next.max(Next::Rotate);
    }

    /// Changes what the principal may do, such as after a second factor or another role. The session gets a new id; it
    /// ends when it would have ended.
    pub fn change_principal(&mut self, principal: Principal) {
        if self.principal().is_some_and(|before| before.id() == principal.id()) {
            self.record.principal = Some(principal);
            self.next = self.next.max(Next::Rotate);
        } else {
            self.log_in(principal);
        }
    }

    /// Gives the session a new id.
    pub fn rotate(&mut self) {
        self.next = self.next.max(Next::Rotate);
    }

    /// Ends the session: its data are gone, and its id is worth nothing any more. What is inserted afterwards is kept in
    /// a new one.
    pub fn log_out(&mut self) {
        self.clear();
        self.record.principal = None;
        self.record.labels.clear();
        self.is_continued = false;
        self.next = Next::End;
    }

    fn clear(&mut self) {
        self.record.data.clear();
        self.changes.clear();
    }

    /// Whether there is anything to keep.
    fn is_worth_keeping(&self) -> bool {
        self.record.principal.is_some() || !self.record.data.is_empty()
    }
}

impl Next {
    fn max(self, other: Self) -> Self {
        if self == Self::Keep { other } else { self }
    }
}

fn principal_label(id: &str) -> String {
    format!("principal:{id}")
}

fn provider_label(issuer: &str, provider_session_id: &str) -> String {
    format!("provider:{issuer} {provider_session_id}")
}

/// A session in the list that its owner sees.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSummary {
    /// Its name in [`Sessions::revoke`].
    pub key: SessionKey,
    /// When it began, in seconds since 1970.
    pub created_at: u64,
    /// When it was last used, in seconds since 1970, to within a minute.
    pub seen_at: u64,
    /// What the application keeps in it, such as the name of the browser.
    pub data: Map<String, Value>,
}

/// The sessions of a service, in a store.
#[derive(Debug)]
pub struct Sessions<S> {
    store: S,
    options: SessionOptions,
}

impl<S: SessionStore> Sessions<S> {
    /// Sessions in `store`.
    #[must_use]
    pub fn new(store: S, options: SessionOptions) -> Self {
        Self { store, options }
    }

    /// The session that a request's cookie names at `now`, in seconds since 1970, or an empty one.
    ///
    /// # Errors
    /// [`SessionStoreError`] if the store cannot tell.
    pub async fn load(&self, cookies: &Cookies<'_>, now: u64) -> Result<Session, SessionStoreError> {
        let key = cookies.get_unique(&self.options.cookie_name).and_then(SessionId::parse).map(|id| id.key());
        let record = match &key {
            Some(key) => self.store.load(key).await?.filter(|record| self.is_alive(record, now)),
            None => None,
        };
        let is_cookie_dead = record.is_none() && cookies.get(&self.options.cookie_name).is_some();
        Ok(Session {
            current: key.filter(|_| record.is_some()),
            record: record.unwrap_or_else(|| SessionRecord {
                created_at: now,
                seen_at: now,
                expires_at: self.options.expires_at(now, now),
                principal: None,
                data: Map::new(),
                labels: Vec::new(),
            }),
            changes: BTreeMap::new(),
            next: Next::Keep,
            is_continued: false,
            is_cookie_dead,
            next_id: None,
        })
    }

    /// Keeps what changed in the session, and gives the `Set-Cookie` field that the response needs, if it needs one.
    /// Such a response may not be kept by a cache.
    ///
    /// # Errors
    /// [`SessionError`] if the session was not kept; the response must then not claim that it was.
    ///
    /// # Cancel safety
    /// If the future is dropped, a session may be gone that was to get a new id.
    pub async fn commit(&self, session: Session, now: u64) -> Result<Option<HeaderValue>, SessionError> {
        let Session { current, next, is_continued, is_cookie_dead, .. } = session;
        if let (Some(key), Next::Keep) = (current, next) {
            return self.update(&key, session, now).await;
        }
        if let Some(key) = current
            && !self.store.remove(&key).await?
            && (next == Next::Rotate || is_continued)
        {
            // Somebody ended the session while its request ran, and nobody else has logged in since.
            return self.removal_cookie();
        }
        if session.is_worth_keeping() {
            let created_at = if next == Next::Rotate { session.record.created_at } else { now };
            let id = session.next_id.unwrap_or_else(SessionId::generate);
            self.insert(id, session.record, created_at, now).await
        } else if current.is_some() || is_cookie_dead {
            self.removal_cookie()
        } else {
            Ok(None)
        }
    }

    /// Tells what [`commit`](Self::commit) leaves in the browser, if the session is not changed any more.
    ///
    /// What is bound to the session, such as a form's token, is bound to this.
    pub fn cookie_after(&self, session: &mut Session) -> CookieAfter {
        if session.current.is_some() && session.next == Next::Keep {
            CookieAfter::AsSent
        } else if session.is_worth_keeping() {
            CookieAfter::New(session.next_id.get_or_insert_with(SessionId::generate).to_text())
        } else if session.current.is_some() || session.is_cookie_dead {
            CookieAfter::Removed
        } else {
            CookieAfter::AsSent
        }
    }

    /// Ends the session that a [`commit`](Self::commit) has begun with this `Set-Cookie` field, which is not sent.
    ///
    /// # Errors
    /// [`SessionStoreError`] if the session may still be there.
    pub async fn end_new(&self, set_cookie: &HeaderValue) -> Result<(), SessionStoreError> {
        let value = set_cookie.to_str().ok().and_then(|text| text.split_once('='));
        let id = value.and_then(|(_, rest)| SessionId::parse(rest.split(';').next()?));
        match id {
            Some(id) => self.store.remove(&id.key()).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn update(
        &self,
        key: &SessionKey,
        session: Session,
        now: u64,
    ) -> Result<Option<HeaderValue>, SessionError> {
        let Session { record, changes, .. } = session;
        if changes.is_empty() && !self.options.is_touch_due(record.seen_at, now) {
            return Ok(None);
        }
        self.check_size(&record)?;
        let expires_at = self.options.expires_at(record.created_at, now);
        let change = SessionChange { seen_at: now, expires_at, data: changes };
        // Somebody may have ended the session while its request ran; then it stays ended.
        if self.store.update(key, &change).await? { Ok(None) } else { self.removal_cookie() }
    }

    /// Keeps a session under a new id.
    async fn insert(
        &self,
        id: SessionId,
        record: SessionRecord,
        created_at: u64,
        now: u64,
    ) -> Result<Option<HeaderValue>, SessionError> {
        self.check_size(&record)?;
        let expires_at = self.options.expires_at(created_at, now);
        let record = SessionRecord { created_at, seen_at: now, expires_at, ..record };
        self.store.insert(&id.key(), &record).await?;
        let mut cookie = self.options.cookie(id.to_text());
        if self.options.is_persistent {
            let remaining_seconds =
                created_at.saturating_add(self.options.absolute_seconds).saturating_sub(now);
            cookie.set_max_age(time::Duration::seconds(remaining_seconds.try_into().unwrap_or(i64::MAX)));
        }
        Ok(Some(set_cookie(&cookie)?))
    }

    /// The live sessions of a principal at `now`, in seconds since 1970, the last used first.
    ///
    /// # Errors
    /// [`SessionStoreError`] if the store cannot tell.
    pub async fn list(&self, principal_id: &str, now: u64) -> Result<Vec<SessionSummary>, SessionStoreError> {
        let sessions = self.store.list(&principal_label(principal_id)).await?;
        let mut summaries: Vec<SessionSummary> = sessions
            .into_iter()
            .filter(|(_, record)| self.is_alive(record, now))
            .map(|(key, SessionRecord { created_at, seen_at, data, .. })| SessionSummary {
                key,
                created_at,
                seen_at,
                data,
            })
            .collect();
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.seen_at));
        Ok(summaries)
    }

    /// Ends one session of a principal; `false` if it has none of that key.
    ///
    /// # Errors
    /// [`SessionStoreError`] if the session may still be there.
    pub async fn revoke(&self, principal_id: &str, key: &SessionKey) -> Result<bool, SessionStoreError> {
        let record = self.store.load(key).await?;
        let is_own = record
            .and_then(|record| record.principal)
            .is_some_and(|principal| principal.id() == principal_id);
        Ok(is_own && self.store.remove(key).await?)
    }

    /// Ends all sessions of a principal, but for one if it is to be spared, and gives their number. To be called when a
    /// password changes, a right is withdrawn, or the owner asks for it.
    ///
    /// # Errors
    /// [`SessionStoreError`] if some of them may still be there.
    pub async fn log_out_everywhere(
        &self,
        principal_id: &str,
        spared: Option<&SessionKey>,
    ) -> Result<usize, SessionStoreError> {
        self.remove_labelled(&principal_label(principal_id), spared).await
    }

    /// Ends the sessions that were begun in that session of that OpenID provider
    /// ([`Session::set_provider_session`]), and gives their number.
    ///
    /// # Errors
    /// [`SessionStoreError`] if some of them may still be there.
    pub async fn log_out_provider_session(
        &self,
        issuer: &str,
        provider_session_id: &str,
    ) -> Result<usize, SessionStoreError> {
        self.remove_labelled(&provider_label(issuer, provider_session_id), None).await
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    async fn remove_labelled(
        &self,
        label: &str,
        spared: Option<&SessionKey>,
    ) -> Result<usize, SessionStoreError> {
        let mut removed_count = 0;
        for (key, _) in self.store.list(label).await? {
            if spared != Some(&key) && self.store.remove(&key).await? {
                removed_count += 1;
            }
        }
        Ok(removed_count)
    }

    /// The time-outs of today decide, even if a session began under longer ones.
    fn is_alive(&self, record: &SessionRecord, now: u64) -> bool {
        now < record.expires_at.min(self.options.expires_at(record.created_at, record.seen_at))
    }

    fn check_size(&self, record: &SessionRecord) -> Result<(), SessionError> {
        let data_bytes = serde_json::to_vec(&record.data).map_or(usize::MAX, |json| json.len());
        if data_bytes > self.options.data_bytes_max { Err(SessionError::TooLarge) } else { Ok(()) }
    }

    fn removal_cookie(&self) -> Result<Option<HeaderValue>, SessionError> {
        Ok(Some(set_cookie(&removal(&self.options.cookie(String::new())))?))
    }
}
