//! Extractors: what handlers ask of a request by the types of their arguments.

mod body;
mod path;
mod query;

use std::convert::Infallible;
use std::ops::Deref;
use std::rc::Rc;

use gimmal_runtime::Address;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::error::Error;
use crate::handler::Needs;
use crate::request::{Request, RequestId};

pub use body::Form;
pub(crate) use body::check_media_type;
pub use path::Path;
pub use query::Query;

/// What a handler can have as an argument.
///
/// ```
/// use gimmal::{Error, FromRequest, Request, StatusCode};
///
/// /// The language that the client likes best.
/// struct Language(String);
///
/// impl FromRequest for Language {
///     async fn from_request(request: &mut Request) -> Result<Self, Error> {
///         let all = request.header("accept-language").unwrap_or("en");
///         Ok(Self(all.split([',', ';']).next().unwrap_or("en").to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    note = "implement FromRequest for it, or take a Request"
)]
#[expect(async_fn_in_trait, reason = "a request never leaves its core, so nothing need be Send")]
pub trait FromRequest: Sized {
    /// Takes what it needs of the request. What reads the body takes the body away.
    ///
    /// # Errors
    /// What the client is told in place of the handler's answer.
    async fn from_request(request: &mut Request) -> Result<Self, Error>;

    /// What an `Option<Self>` is in a handler: by default, `None` in place of a failure.
    ///
    /// # Errors
    /// What the client is told in place of the handler's answer.
    async fn from_request_optional(request: &mut Request) -> Result<Option<Self>, Error> {
        Ok(Self::from_request(request).await.ok())
    }

    /// Notes what it needs of the app.
    fn needs(needs: &mut Needs) {
        let _ = needs;
    }
}

/// The whole request, with its body. Extractors to the left of it have taken what they took; those to the right see the
/// same head, and neither the body nor the [`Extensions`](crate::Extensions), which go with the request.
impl FromRequest for Request {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.take())
    }
}

impl FromRequest for Method {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.method().clone())
    }
}

impl FromRequest for Version {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.version())
    }
}

impl FromRequest for HeaderMap {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.to_header_map())
    }
}

impl FromRequest for RequestId {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.id())
    }
}

/// The address of the client, or of the proxy before it.
impl FromRequest for Address {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.peer_addr().await?)
    }
}

/// As [`FromRequest::from_request_optional`] says.
impl<T: FromRequest> FromRequest for Option<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        T::from_request_optional(request).await
    }

    fn needs(needs: &mut Needs) {
        needs.optional(T::needs);
    }
}

/// Leaves a failure to the handler.
impl<T: FromRequest> FromRequest for Result<T, Error> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(T::from_request(request).await)
    }

    fn needs(needs: &mut Needs) {
        needs.optional(T::needs);
    }
}

impl FromRequest for Infallible {
    async fn from_request(_: &mut Request) -> Result<Self, Error> {
        Err(Error::status_only(StatusCode::NOT_FOUND))
    }
}

/// What the app was given with [`App::state`](crate::App::state) or
/// [`App::state_per_core`](crate::App::state_per_core). An app without a state of this type does not start.
///
/// ```
/// use gimmal::{App, State};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// async fn count(visits: State<Arc<AtomicU64>>) -> String {
///     visits.fetch_add(1, Ordering::Relaxed).to_string()
/// }
/// let app = App::new().state(Arc::new(AtomicU64::new(0))).get("/", count);
/// ```
#[derive(Debug)]
pub struct State<T>(
    /// The core's own handle to it.
    pub Rc<T>,
);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: 'static> FromRequest for State<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        request.state().map(Self).ok_or_else(|| {
            let missing = format!("the app has no state of type {}", std::any::type_name::<T>());
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(missing)
        })
    }

    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }
}

/// A value that middleware has put into the request's [`Extensions`](crate::Extensions).
#[derive(Clone, Debug)]
pub struct Extension<T>(
    /// A copy of it.
    pub T,
);

impl<T: Clone + 'static> FromRequest for Extension<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        request.extensions().get::<T>().cloned().map(Self).ok_or_else(|| {
            let missing = format!(
                "no middleware has put a {} into the request; add the one that does",
                std::any::type_name::<T>()
            );
            Error::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(missing)
        })
    }
}
