//! Logging in with a password, by a form.

use std::fmt;
use std::sync::Arc;

use gimmal_security::attempts::{DeviceCookies, DeviceId};
use gimmal_security::cookies::{Cookies, secure_cookie, set_cookie, time};
use gimmal_security::{Mechanism, Principal, SecretString};

use super::accounts::{Accounts, LoginError, PasswordProof};
use super::session::Session;
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::extract::{FromRequest, State};
use crate::handler::Needs;
use crate::request::Request;

/// The cookie of a known device.
const DEVICE_COOKIE: &str = "__Host-device";

/// Logs people in with the password that a form has sent. It needs [`Sessions`](super::Sessions) around the handler and
/// the [`Accounts`] as a state.
///
/// The session gets a new id at each login. With an `Arc<DeviceCookies>` as a state, browsers in which somebody has
/// logged in are known again, so that an attack on an account does not slow down its owner.
///
/// ```
/// use gimmal::auth::{Login, Session};
/// use gimmal::{Form, IntoResponse, Redirect, Response};
/// use gimmal::security::SecretString;
///
/// #[derive(serde::Deserialize)]
/// struct Credentials {
///     name: String,
///     password: SecretString,
/// }
///
/// async fn log_in(login: Login, Form(form): Form<Credentials>) -> Response {
///     match login.password(&form.name, form.password).await {
///         Ok(_) => Redirect::see_other("/").into_response(),
///         Err(refused) => refused.into_response(),
///     }
/// }
///
/// async fn log_out(session: Session) -> Redirect {
///     session.log_out();
///     Redirect::see_other("/")
/// }
/// ```
pub struct Login {
    accounts: State<Accounts>,
    session: Session,
    devices: Option<State<Arc<DeviceCookies>>>,
    /// The value of the cookie that may be that of a known device.
    device_cookie: Option<String>,
}

impl Login {
    /// Checks the password, and logs its user in.
    ///
    /// # Errors
    /// [`LoginError`], with what the client may be told as its text; it is recorded.
    pub async fn password(&self, name: &str, password: SecretString) -> Result<Principal, LoginError> {
        let device = self.device(name);
        let recorder = self.session.recorder();
        let given = password.clone();
        let proved = self.accounts.log_in(name, given, device, Mechanism::Password, recorder).await?;
        let (principal, hash) = proved;
        let name_of_account = self.accounts.store().canonical(name).into_owned();
        let proof = PasswordProof { name: name_of_account, password, hash };
        self.session.log_in_by_password(principal.clone(), Accounts::clone(&self.accounts), proof);
        if device.is_none() {
            self.remember_device(name);
        }
        Ok(principal)
    }

    /// The session in which the login is made.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn device(&self, name: &str) -> Option<DeviceId> {
        let account = self.accounts.store().canonical(name);
        self.devices.as_ref()?.check(self.device_cookie.as_deref()?, &account, unix_seconds())
    }

    fn remember_device(&self, name: &str) {
        let Some(devices) = &self.devices else { return };
        let account = self.accounts.store().canonical(name);
        let mut cookie = secure_cookie(DEVICE_COOKIE, devices.issue(&account, unix_seconds()));
        let lifetime = i64::try_from(DeviceCookies::LIFETIME_SECS).unwrap_or(i64::MAX);
        cookie.set_max_age(time::Duration::seconds(lifetime));
        match set_cookie(&cookie) {
            Ok(cookie) => self.session.add_cookie(cookie),
            Err(error) => tracing::error!(%error, "the cookie of a known device was not set"),
        }
    }
}

impl FromRequest for Login {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let session = Session::from_request(request).await?;
        let accounts = State::from_request(request).await?;
        let cookies = Cookies::parse(request.header_all("cookie"));
        Ok(Self {
            accounts,
            session,
            devices: request.state().map(State),
            device_cookie: cookies.get_unique(DEVICE_COOKIE).map(str::to_owned),
        })
    }

    fn needs(needs: &mut Needs) {
        needs.state::<Accounts>();
        Session::needs(needs);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("session", &self.session).finish_non_exhaustive()
    }
}
