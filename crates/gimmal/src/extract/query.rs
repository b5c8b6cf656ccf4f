//! The query.

use http::StatusCode;
use serde::de::DeserializeOwned;

use super::FromRequest;
use crate::error::Error;
use crate::request::Request;

/// The query as a struct; 400 where it does not fit. A name that comes several times fits a `Vec`.
///
/// ```
/// use gimmal::{App, Query};
///
/// #[derive(serde::Deserialize)]
/// struct Page { #[serde(default)] offset: u64, #[serde(default)] tag: Vec<String> }
///
/// async fn list(Query(page): Query<Page>) -> String {
///     format!("from {} on, tagged {:?}", page.offset, page.tag)
/// }
/// let app = App::new().get("/items", list);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(
    /// The value.
    pub T,
);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    async fn from_request(request: &mut Request) -> Result<Self, Error> {
        serde_html_form::from_str(request.query().unwrap_or_default())
            .map(Self)
            .map_err(|error| Error::new(StatusCode::BAD_REQUEST, format!("the query is refused: {error}")))
    }
}
