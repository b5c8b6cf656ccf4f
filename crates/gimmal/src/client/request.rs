//! Requests as they are made by hand.

use std::fmt;
use std::time::{Duration, Instant};

use gimmal_runtime::Address;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde::Serialize;

use super::Client;
use super::error::ClientError;
use super::exchange::{Outgoing, exchange};
use super::origin::Origin;
use super::redirect::{self, Redirected};
use super::response::ClientResponse;
use crate::body::{Body, Chunk};
use crate::response::{FORM, JSON};

/// A request that [`send`](Self::send) sends.
///
/// ```no_run
/// # async fn example(client: gimmal::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use gimmal::{Address, HeaderValue, header};
///
/// let response = client
///     .post("http://localhost/containers/prune")
///     .at(Address::Unix("/run/docker.sock".into()))
///     .with_header(header::ACCEPT, HeaderValue::from_static("application/json"))
///     .send()
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "it is sent by `send`"]
pub struct ClientRequest {
    client: Client,
    method: Method,
    url: Result<Uri, ClientError>,
    at: Option<Address>,
    headers: HeaderMap,
    body: Result<Body, ClientError>,
    whole: Option<Duration>,
}

impl ClientRequest {
    pub(super) fn new(client: Client, method: Method, url: &str) -> Self {
        let url = url.parse().map_err(|_| ClientError::Url("it has characters that must be escaped as %XX"));
        let whole = client.options().whole;
        Self { client, method, url, at: None, headers: HeaderMap::new(), body: Ok(Body::empty()), whole }
    }

    /// Connects to this address in place of the host of the URL, as for a Unix socket. With `https` the server must
    /// still prove to be that host.
    pub fn at(mut self, address: Address) -> Self {
        self.at = Some(address);
        self
    }

    /// Sets a header field, in place of all of its name. `Host` is made from the URL unless it is set; the fields of
    /// framing are made from the body. With `Expect: 100-continue` the body waits until the server wants it, for a
    /// second at most.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The header fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Sets the body. A stream is sent as it is made, in chunks if its length is not known.
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = Ok(body.into());
        self
    }

    /// Sets the body to a value as JSON. If it cannot be serialised, `send` fails.
    pub fn with_json(mut self, value: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(value)
            .map(|bytes| Body::from(bytes).with_media_type(&JSON))
            .map_err(|error| ClientError::Request(error.into()));
        self
    }

    /// Sets the body to the fields of a form. If it cannot be serialised, `send` fails.
    pub fn with_form(mut self, value: &impl Serialize) -> Self {
        self.body = serde_html_form::to_string(value)
            .map(|text| Body::from(text).with_media_type(&FORM))
            .map_err(|error| ClientError::Request(error.into()));
        self
    }

    /// Sets how long all of it may take, redirects and the body of the response included, in place of
    /// [`ClientOptions::whole`](super::ClientOptions::whole).
    pub fn with_timeout(mut self, whole: Duration) -> Self {
        self.whole = Some(whole);
        self
    }

    /// Sends the request and waits for the head of the response.
    ///
    /// # Errors
    /// [`ClientError`]. A response of any status is a response.
    pub async fn send(self) -> Result<ClientResponse, ClientError> {
        let Self { client, mut method, url, mut at, mut headers, body, whole } = self;
        let (mut url, mut body) = (url?, body?);
        let until = whole.and_then(|whole| Instant::now().checked_add(whole));
        if let Some(media_type) = body.media_type() {
            headers.entry(header::CONTENT_TYPE).or_insert_with(|| media_type.clone());
        }
        for _ in 0..client.options().redirects_max {
            let (spare, sent) = split(body);
            let response =
                send(&client, &url, at.clone(), method.clone(), headers.clone(), sent, until).await?;
            match redirect::of(&url, &response, &method, spare.is_some())? {
                None => return Ok(response),
                Some(Redirected { url: next, keeps_method }) => {
                    if (url.scheme(), url.authority()) != (next.scheme(), next.authority()) {
                        redirect::forget_secrets(&mut headers);
                        at = None;
                    }
                    url = next;
                    body = spare.map_or_else(Body::empty, Body::from);
                    if !keeps_method {
                        (method, body) = (redirect::without_body(&method), Body::empty());
                        headers.remove(header::CONTENT_TYPE);
                    }
                }
            }
        }
        send(&client, &url, at, method, headers, body, until).await
    }
}

/// A body that can be sent once more, and one to send.
fn split(body: Body) -> (Option<Chunk>, Body) {
    match body.try_into_chunk() {
        Ok(chunk) => (Some(chunk.clone()), chunk.into()),
        Err(streaming) => (None, streaming),
    }
}

async fn send(
    client: &Client,
    url: &Uri,
    at: Option<Address>,
    method: Method,
    mut headers: HeaderMap,
    body: Body,
    until: Option<Instant>,
) -> Result<ClientResponse, ClientError> {
    let origin = Origin::of(url, at)?;
    headers.entry(header::HOST).or_insert_with(|| origin.authority().clone());
    let target = match url.path_and_query() {
        _ if method == Method::CONNECT => url.authority().map_or("", |authority| authority.as_str()),
        Some(path) => path.as_str(),
        None => "/",
    };
    let target = target.to_owned();
    let mut request = Outgoing { method, target, headers, body, until };
    exchange(client, &origin, &mut request, &mut |_, _, _| {}).await.map_err(|failed| failed.error)
}

impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest").field("method", &self.method).finish_non_exhaustive()
    }
}
