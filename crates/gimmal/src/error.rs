//! What a handler fails with: what the client is told, and what only the log is told.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::body::{Body, BodyError};
use crate::client::ClientError;
use crate::response::{IntoResponse, Response};

/// A failure with the status and the text that the client gets, and a cause that only the log gets.
///
/// Any error turns into one by `?`: a 500 whose cause is logged with the request's id, and of which the client
/// learns nothing else. What the client may know is said with [`Error::new`]. Two kinds of errors know their status: a
/// [`BodyError`] by [`BodyError::status`], and a [`ClientError`] by [`ClientError::status`]. What another server did
/// wrong is 502 or 504 by these, and never the client's fault.
///
/// ```
/// use gimmal::{Error, StatusCode};
///
/// async fn double(text: String) -> Result<String, Error> {
///     let number: i64 = text.trim().parse().map_err(|cause| {
///         Error::new(StatusCode::BAD_REQUEST, "send a whole number").with_source(cause)
///     })?;
///     Ok((2 * number).to_string())
/// }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    status: StatusCode,
    message: Option<Cow<'static, str>>,
    headers: HeaderMap,
    source: Option<Box<dyn StdError>>,
}

impl Error {
    /// A failure that the client is told of: `message` is the body of the response.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            message: Some(message.into()),
            headers: HeaderMap::new(),
            source: None,
        }))
    }

    /// A failure of which the client is told the status alone.
    #[must_use]
    pub fn status_only(status: StatusCode) -> Self {
        Self(Box::new(Inner { status, message: None, headers: HeaderMap::new(), source: None }))
    }

    /// Adds a header field to the response, such as `Retry-After`.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Adds the cause, which is logged and not shown.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What the client is told.
    #[must_use]
    pub fn message(&self) -> &str {
        match &self.0.message {
            Some(message) => message,
            None => self.0.status.canonical_reason().unwrap_or("error"),
        }
    }

    /// The cause.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref()
    }
}

impl IntoResponse for Error {
    /// The cause goes along, for the log.
    fn into_response(self) -> Response {
        let Inner { status, message, headers, source } = *self.0;
        let body = match message {
            Some(Cow::Owned(text)) => Body::from(text),
            Some(Cow::Borrowed(text)) => Body::from(text),
            None => Body::from(status.canonical_reason().unwrap_or("error")),
        };
        let mut response = Response::new(body).with_status(status);
        if !headers.is_empty() {
            *response.headers_mut() = headers;
        }
        match source {
            Some(source) => response.with_error(source),
            None => response,
        }
    }
}

impl<E: StdError + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let error: Box<dyn StdError> = Box::new(error);
        // What is wrong with a request's body is the client's to know.
        let error = match error.downcast::<BodyError>() {
            Ok(body) if body.status().is_client_error() => {
                return Self::new(body.status(), body.to_string());
            }
            Ok(body) => return Self::status_only(body.status()).with_source(body),
            Err(other) => other,
        };
        match error.downcast::<ClientError>() {
            Ok(client) => Self::status_only(client.status()).with_source(client),
            Err(other) => Self::status_only(StatusCode::INTERNAL_SERVER_ERROR).with_source(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status, self.message())
    }
}

/// With all of its causes, as it is what a `main` that fails prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.status)?;
        if let Some(message) = &self.0.message {
            write!(f, ": {message}")?;
        }
        match self.source() {
            Some(source) => write!(f, ": {}", Chain(source)),
            None => Ok(()),
        }
    }
}

/// An error with all of its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors tell their cause themselves.
            if !told.ends_with(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the server cannot be reached: {0}")]
    struct Telling(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("upstream a")]
    struct Silent(#[source] Telling);

    #[test]
    fn each_cause_is_told_once() {
        let error = Silent(Telling(io::Error::other("refused")));
        assert_eq!(Chain(&error).to_string(), "upstream a: the server cannot be reached: refused");
    }
}
