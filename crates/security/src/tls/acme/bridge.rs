//! The caller's HTTP client in the place of instant-acme's.

use std::future::Future;
use std::pin::{Pin, pin};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, Response};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::sync::{mpsc, oneshot};

use crate::fetch::{self, FetchError, HttpFetch};

type Fetched = Result<Response<Vec<u8>>, FetchError>;

/// Hands requests over, and waits for their responses. instant-acme wants a client that can go to another thread,
/// which the caller's need not: so the requests go to the caller's instead.
struct Bridge(mpsc::Sender<(Request<Vec<u8>>, oneshot::Sender<Fetched>)>);

impl HttpClient for Bridge {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let requests = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes().to_vec();
            let (reply, response) = oneshot::channel();
            let gone = || Error::Other("the HTTP client went away".into());
            requests.send((Request::from_parts(parts, body), reply)).await.map_err(|_| gone())?;
            let response =
                response.await.map_err(|_| gone())?.map_err(|error| Error::Other(Box::new(error)))?;
            let (parts, body) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
        })
    }
}

/// Runs `work`, which talks to an ACME server through the client that it is given, and that client through `fetch`.
pub(super) async fn with_client<F: HttpFetch, W: Future>(
    fetch: &F,
    work: impl FnOnce(Box<dyn HttpClient>) -> W,
) -> W::Output {
    let (sender, mut requests) = mpsc::channel(1);
    let mut work = pin!(work(Box::new(Bridge(sender))));
    loop {
        let request = {
            let next = pin!(requests.recv());
            match select(work.as_mut(), next).await {
                Either::Left((output, _)) => return output,
                Either::Right((request, _)) => request,
            }
        };
        let Some((request, reply)) = request else {
            // The client was dropped: what is left of the work does without.
            return work.await;
        };
        // Only that one request is waited for, so the work has nothing to do meanwhile.
        let _ = reply.send(fetch::send(fetch, request).await);
    }
}
