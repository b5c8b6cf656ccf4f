//! Extractors that read the body.

use bytes::Bytes;
use gimmal_security::Principal;
use gimmal_security::audit::AuditEvent;
use gimmal_security::json_guard::{self, JsonLimits, JsonRefused};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::FromRequest;
use crate::audit::Recorder;
use crate::body::Body;
use crate::error::Error;
use crate::request::Request;
use crate::response::Json;

/// The body as it arrives, within the limit of the route.
impl FromRequest for Body {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.take_body())
    }
}

/// All of the body.
impl FromRequest for Bytes {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.bytes().await?)
    }
}

/// All of the body, which must be UTF-8.
impl FromRequest for String {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        let bytes = request.bytes().await?;
        String::from_utf8(bytes.into())
            .map_err(|_| Error::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
    }
}

/// Refuses a body of another media type.
pub(crate) fn check_media_type(
    request: &Request,
    is_right: fn(&str) -> bool,
    wanted: &str,
) -> Result<(), Error> {
    let given = request.header("content-type").unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if is_right(essence) {
        return Ok(());
    }
    Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("send the body as {wanted}")))
}

fn is_json(essence: &str) -> bool {
    essence.eq_ignore_ascii_case("application/json")
        || essence.get(essence.len().saturating_sub(5)..).is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

fn is_form(essence: &str) -> bool {
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The route limits the bytes already.
const JSON_LIMITS: JsonLimits = JsonLimits { bytes: usize::MAX, depth: 128, values: 100_000 };

/// Records what looks like a bomb, and gives the answer to it.
async fn refuse_json(request: &Request, refused: JsonRefused) -> Error {
    let reason = refused.to_string();
    let event = AuditEvent::AttackRefused { guard: "json", reason: &reason };
    Recorder::of(request).await.record(event, request.extensions().get().map(Principal::id));
    let status = match refused {
        JsonRefused::TooLong | JsonRefused::TooManyValues => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Error::new(status, reason)
}

/// The body from JSON: 415 if it is not said to be that, 400 where it is malformed, 422 where it does not fit `T`.
///
/// Before anything is built from it, it is held to [`JsonLimits`](crate::defence::JsonLimits): arrays and objects may be
/// nested 128 deep, 400 beyond, and have 100,000 members in all, 413 beyond. Its bytes are held to the body limit of the
/// route. An app with other limits is given them as a state: `App::state(JsonLimits { depth: 64, ..limits })`.
impl<T: DeserializeOwned> FromRequest for Json<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        check_media_type(request, is_json, "application/json")?;
        let limits = request.state::<JsonLimits>().map_or(JSON_LIMITS, |limits| *limits);
        let bytes = request.bytes().await?;
        if let Err(refused) = json_guard::check(&bytes, limits) {
            return Err(refuse_json(request, refused).await);
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status = match error.classify() {
                serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            Error::new(status, format!("the JSON in the body is refused: {error}"))
        })
    }
}

/// The body of a form, `application/x-www-form-urlencoded`. A name that comes several times fits a `Vec`.
///
/// ```
/// use gimmal::{App, Form};
///
/// #[derive(serde::Deserialize)]
/// struct Login { name: String, password: String }
///
/// async fn login(Form(login): Form<Login>) -> String {
///     format!("Hello, {}", login.name)
/// }
/// let app = App::new().post("/login", login);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<T>(
    /// The value.
    pub T,
);

impl<T: DeserializeOwned> FromRequest for Form<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        check_media_type(request, is_form, "application/x-www-form-urlencoded")?;
        let bytes = request.bytes().await?;
        serde_html_form::from_bytes(&bytes).map(Self).map_err(|error| {
            Error::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the form is refused: {error}"))
        })
    }
}
