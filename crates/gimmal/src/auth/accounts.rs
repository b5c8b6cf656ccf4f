//! Users who prove themselves by a password, however it is sent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use gimmal_runtime::blocking;
use gimmal_security::attempts::{Attempts, Decision, DeviceId, Source};
use gimmal_security::audit::AuditEvent;
use gimmal_security::password::{PasswordError, Passwords, Verdict, VerifiedPasswords};
use gimmal_security::{Mechanism, Principal, SecretString};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::users::{DynUserStore, User, UserStore};
use crate::audit::Recorder;
use crate::body::BoxError;
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::response::{IntoResponse, Response};

/// How [`Accounts`] are guarded, and what hashing their passwords may cost.
#[derive(Debug)]
pub struct AccountOptions {
    /// How passwords are hashed. Default: Argon2id with OWASP's parameters.
    pub passwords: Passwords,
    /// What slows brute force down. Default: [`Attempts::new`].
    pub attempts: Attempts,
    /// Which passwords need not be hashed again with each request of Basic. Default: 4096 of them, for 5 minutes;
    /// `None` hashes each time.
    pub verified: Option<VerifiedPasswords>,
    /// Hashes that are made at a time, each of which takes a processor and 19 MiB. Default: half as many as there are
    /// processors, so that the other half goes on to answer.
    pub hashes_running_max: usize,
    /// Hashes that may wait for their turn; who comes beyond is answered with 503. Default 512.
    pub hashes_waiting_max: usize,
}

impl Default for AccountOptions {
    fn default() -> Self {
        Self {
            passwords: Passwords::default(),
            attempts: Attempts::new(),
            verified: Some(VerifiedPasswords::new(4096, Duration::from_secs(300))),
            hashes_running_max: (available_parallelism().map_or(1, usize::from) / 2).max(1),
            hashes_waiting_max: 512,
        }
    }
}

/// Why nobody was logged in. What its text says may be told to the client.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError {
    /// No such user, or another password: which of the two is not told.
    Wrong,
    /// Too many attempts failed.
    TooManyAttempts {
        /// When another attempt may be worth it.
        retry_after: Duration,
    },
    /// Too many passwords wait to be hashed.
    Busy,
    /// A store failed: nobody is let in because it could not tell.
    Store(BoxError),
}

impl LoginError {
    /// 401, 429 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "the user name or the password is wrong",
            Self::TooManyAttempts { .. } => "too many attempts: wait a while",
            Self::Busy | Self::Store(_) => "logins are not possible right now",
        })
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        let told = Self::new(error.status(), error.to_string());
        match error {
            LoginError::Store(cause) => told.with_source(cause as Box<dyn std::error::Error>),
            _ => told,
        }
    }
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        let retry_after = match self {
            Self::TooManyAttempts { retry_after } => Some(retry_after.as_secs().saturating_add(1)),
            Self::Busy => Some(1),
            Self::Wrong | Self::Store(_) => None,
        };
        let response = Error::from(self).into_response();
        match retry_after {
            Some(seconds) => response.with_header(header::RETRY_AFTER, HeaderValue::from(seconds)),
            None => response,
        }
    }
}

/// Users who log in with a password, over Basic, Digest or a form: where they are kept, and what guards them.
///
/// Passwords are hashed on threads for blocking work, few at a time, so that a flood of logins holds up no core. Failed
/// attempts are slowed down and locked out by account and by network ([`Attempts`]). An unknown user takes as long as a
/// wrong password. Clones share it all, and all mechanisms of a service should.
///
/// ```
/// use gimmal::auth::{Accounts, MemoryUsers, User};
///
/// let accounts = Accounts::new(MemoryUsers::new([User::new("alice").with_password_hash("$argon2id$v=19$...")]));
/// ```
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    store: Box<dyn DynUserStore>,
    passwords: Arc<Passwords>,
    attempts: Attempts,
    verified: Option<VerifiedPasswords>,
    hashes: Arc<Semaphore>,
    hashes_waiting: AtomicUsize,
    hashes_waiting_max: usize,
}

/// A password that was right, and the stored hash that it matched.
pub(super) struct PasswordProof {
    pub(super) name: String,
    pub(super) password: SecretString,
    pub(super) hash: String,
}

/// A place among those who wait for their turn to hash.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Accounts {
    /// The users of `store`, guarded by the default options.
    pub fn new(store: impl UserStore) -> Self {
        Self::with_options(store, AccountOptions::default())
    }

    /// The users of `store`.
    pub fn with_options(store: impl UserStore, options: AccountOptions) -> Self {
        Self(Arc::new(Inner {
            store: Box::new(store),
            passwords: Arc::new(options.passwords),
            attempts: options.attempts,
            verified: options.verified,
            hashes: Arc::new(Semaphore::new(options.hashes_running_max.max(1))),
            hashes_waiting: AtomicUsize::new(0),
            hashes_waiting_max: options.hashes_waiting_max,
        }))
    }

    /// Hashes a new password, in turn with all others. Whether it is a good one is for a
    /// [`PasswordPolicy`](gimmal_security::password::PasswordPolicy) to say.
    ///
    /// # Errors
    /// 400 if it is longer than any password may be, 503 if too many wait or there is no memory for it.
    pub async fn hash(&self, password: SecretString) -> Result<String, Error> {
        match self.in_turn(move |passwords| passwords.hash(&password)).await? {
            Ok(hash) => Ok(hash),
            Err(error @ PasswordError::TooLong) => {
                Err(Error::new(StatusCode::BAD_REQUEST, error.to_string()))
            }
            Err(error) => Err(Error::status_only(StatusCode::SERVICE_UNAVAILABLE).with_source(error)),
        }
    }

    /// Attempts at an account that failed lately, from wherever it is not known.
    #[must_use]
    pub fn failures(&self, name: &str) -> u32 {
        self.0.attempts.failures(&self.0.store.canonical(name), Instant::now())
    }

    /// KiB that Argon2 has written so far, over all hashes that were made or verified: how busy logins keep the machine.
    #[must_use]
    pub fn work_kib(&self) -> u64 {
        self.0.passwords.work_kib()
    }

    /// Runs slow work on a thread for it, when its turn has come.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Passwords) -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let waiting = self.0.hashes_waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.0.hashes_waiting);
        if waiting >= self.0.hashes_waiting_max {
            return Err(LoginError::Busy);
        }
        let turn = Arc::clone(&self.0.hashes).acquire_owned().await.map_err(|_| LoginError::Busy)?;
        drop(place);
        let passwords = Arc::clone(&self.0.passwords);
        let work = move || {
            let _turn = turn;
            work(&passwords)
        };
        blocking(work).await.map_err(|_| LoginError::Busy)
    }

    /// Proves a user by a password. Gives the stored hash that it matched, too.
    pub(super) async fn log_in(
        &self,
        name: &str,
        password: SecretString,
        device: Option<DeviceId>,
        mechanism: Mechanism,
        recorder: &Recorder,
    ) -> Result<(Principal, String), LoginError> {
        let name = &*self.0.store.canonical(name);
        let source = Source { account: name, address: recorder.address(), device };
        let attempt = self.0.attempts.begin(source, Some(&password), Instant::now());
        self.heed(attempt.decision(), name, recorder).await?;
        let proved = self.prove(name, password, mechanism, recorder).await;
        match proved {
            Ok(_) => self.0.attempts.succeeded(attempt, Instant::now()),
            Err(LoginError::Wrong) => {
                let reason = "wrong user name or password";
                recorder.record(AuditEvent::LoginFailed { mechanism, account: Some(name), reason }, None);
            }
            Err(_) => self.0.attempts.abandoned(attempt, Instant::now()),
        }
        proved
    }

    async fn prove(
        &self,
        name: &str,
        password: SecretString,
        mechanism: Mechanism,
        recorder: &Recorder,
    ) -> Result<(Principal, String), LoginError> {
        let user = self.0.store.find(name).await.map_err(LoginError::Store)?;
        let stored = user.as_ref().and_then(|user| user.password_hash.clone());
        // A form is sent once, so there is nothing to be gained.
        let verified = self.0.verified.as_ref().filter(|_| mechanism == Mechanism::Basic);
        if let (Some(verified), Some(user), Some(stored)) = (verified, &user, &stored)
            && verified.contains(&user.id, stored, &password, Instant::now())
        {
            return Ok((user.clone().principal(mechanism, unix_seconds()), stored.clone()));
        }
        let given = password.clone();
        let looked_at = stored.clone();
        let verdict = self.in_turn(move |passwords| passwords.verify(&given, looked_at.as_deref())).await?;
        let (Some(user), Some(stored), true) = (user, stored, self.is_right(name, &verdict)?) else {
            return Err(LoginError::Wrong);
        };
        let stored = match verdict {
            Ok(Verdict::RightRehash(new)) => self.replace_hash(&user, &stored, new).await.unwrap_or(stored),
            _ => stored,
        };
        if let Some(verified) = verified {
            verified.insert(&user.id, &stored, &password, Instant::now());
        }
        recorder.record(AuditEvent::LoginSucceeded { mechanism }, Some(&user.id));
        Ok((user.principal(mechanism, unix_seconds()), stored))
    }

    /// Tells whether a password that was right a moment ago is still right.
    pub(super) async fn is_still_right(&self, proof: &PasswordProof) -> Result<bool, LoginError> {
        let user = self.0.store.find(&proof.name).await.map_err(LoginError::Store)?;
        let Some(stored) = user.and_then(|user| user.password_hash) else { return Ok(false) };
        if stored == proof.hash {
            return Ok(true);
        }
        // Changed, or hashed anew by another login with the same password.
        let (password, looked_at) = (proof.password.clone(), stored);
        let verdict = self.in_turn(move |passwords| passwords.verify(&password, Some(&looked_at))).await?;
        self.is_right(&proof.name, &verdict)
    }

    /// Whether the password was right. A stored hash that is of no use is the operator's to see, and refuses.
    fn is_right(&self, name: &str, verdict: &Result<Verdict, PasswordError>) -> Result<bool, LoginError> {
        match verdict {
            Ok(verdict) => Ok(verdict.is_right()),
            Err(PasswordError::OutOfMemory) => Err(LoginError::Busy),
            Err(error) => {
                let user = tracing::field::display(gimmal_security::LogText::new(name));
                tracing::error!(user, %error, "a stored password hash is of no use");
                Ok(false)
            }
        }
    }

    /// Stores a new hash of a password that was right. If that fails, the old one goes on to serve.
    async fn replace_hash(&self, user: &User, old: &str, new: String) -> Option<String> {
        match self.0.store.replace_password_hash(&user.id, old, &new).await {
            Ok(is_replaced) => is_replaced.then_some(new),
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "a new password hash was not stored"
                );
                None
            }
        }
    }

    /// Waits as long as the guard against brute force wants it, or refuses.
    pub(super) async fn heed(
        &self,
        decision: Decision,
        account: &str,
        recorder: &Recorder,
    ) -> Result<(), LoginError> {
        match decision {
            Decision::Allow => Ok(()),
            Decision::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Decision::Refuse { retry_after } => {
                let seconds = retry_after.as_secs().saturating_add(1);
                recorder.record(AuditEvent::LockedOut { account: Some(account), seconds }, None);
                Err(LoginError::TooManyAttempts { retry_after })
            }
        }
    }

    pub(super) fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    pub(super) fn store(&self) -> &dyn DynUserStore {
        &*self.0.store
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("passwords", &self.0.passwords).finish_non_exhaustive()
    }
}
