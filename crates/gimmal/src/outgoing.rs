//! Sending a response.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

use gimmal_http::{BodyFraming, Encoded, ResponseHead, chunk_prefix, encode_last_chunk, encode_response};
use gimmal_runtime::OutBuf;
use http::{HeaderValue, Method, StatusCode};

use crate::body::{Body, BodyError, Chunk};
use crate::connection::{Connection, Facts};
use crate::error::{Chain, Error};
#[cfg(feature = "files")]
use crate::file_body::Shrunk;
use crate::incoming::IncomingBody;
use crate::request::RequestId;
use crate::response::{IntoResponse, Response};
use crate::service::panic_message;
use crate::upgrade::Upgrade;

/// A chunk up to this size is copied behind what is collected already; a larger one goes out from where it lies.
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// What is queued of a large chunk at once, so that a client that reads slowly is seen to make progress.
const PIECE_BYTES: usize = 256 * 1024;

/// How sending a response ended.
pub(crate) enum Outcome {
    Sent {
        /// Bytes of the body.
        bytes: u64,
        /// Whether the connection stays open.
        keep_alive: bool,
    },
    /// The client has gone, is too slow, or got less than was promised.
    Failed,
    /// The body failed before anything had gone out, and this is the answer in place of the response.
    Unsent(Error),
    /// All is collected, and another protocol takes over.
    Upgrade(Upgrade),
}

/// How sending a response begins.
pub(crate) enum Begun {
    /// All of it is collected.
    Done(Outcome),
    /// The body is to follow.
    Rest(Rest),
}

/// A body that is too large to be collected, or not made yet.
pub(crate) struct Rest {
    body: Body,
    encoded: Encoded,
    /// Where the head begins in what is collected.
    head_at: usize,
}

/// Begins to send a response, after which the connection is kept if `keep_alive` says so: collects it in `out` as far as
/// it is small and at hand.
pub(crate) fn begin(
    connection: &Connection,
    out: &mut OutBuf,
    mut response: Response,
    facts: &Facts,
    keep_alive: bool,
) -> Begun {
    // What follows a CONNECT may be meant for a tunnel: it is never read as a request (RFC 9110, section 9.3.6).
    let keep_alive = keep_alive && facts.method != Method::CONNECT;
    let switches = response.status().is_informational();
    match response.take_upgrade() {
        Some(upgrade) if facts.may_upgrade => {
            // A tunnel has no body and no length of one (RFC 9110, section 9.3.6).
            let _ = push_head(connection, out, &response, None, BodyFraming::None, facts, keep_alive);
            return Begun::Done(Outcome::Upgrade(upgrade));
        }
        // To whoever asked, and to proxies in between, a 2xx would say that there is a tunnel.
        None if facts.method == Method::CONNECT && response.status().is_success() => {
            tracing::debug!("a handler answered a CONNECT with success and without a tunnel");
            response = StatusCode::NOT_IMPLEMENTED.into_response();
            connection.complete(&mut response);
        }
        None if !switches => {}
        _ => {
            let status = response.status().as_u16();
            tracing::error!(status, "a handler answered with an upgrade that the request does not ask for");
            response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    }
    let framing = response.body().length().map_or(BodyFraming::Chunked, BodyFraming::Length);
    let media_type = response.body().media_type();
    let head_at = out.len();
    let encoded = push_head(connection, out, &response, media_type, framing, facts, keep_alive);
    if encoded.framing == BodyFraming::None {
        return Begun::Done(Outcome::Sent { bytes: 0, keep_alive: encoded.keep_alive });
    }
    match response.body().in_memory() {
        Some(chunk) if chunk.len() <= COPIED_BYTES_MAX => {
            out.extend_from_slice(chunk);
            Begun::Done(Outcome::Sent { bytes: chunk.len() as u64, keep_alive: encoded.keep_alive })
        }
        _ => Begun::Rest(Rest { body: response.take_body(), encoded, head_at }),
    }
}

/// Sends the rest of a response, as it is made and as the client takes it. `incoming` is the body of its request, if not
/// all of it had come.
pub(crate) async fn finish(
    connection: &Connection,
    out: &mut OutBuf,
    rest: Rest,
    incoming: Option<&Rc<IncomingBody>>,
) -> Outcome {
    let Rest { mut body, encoded, head_at } = rest;
    // While the head can still be taken back.
    let first = poll_fn(|cx| Poll::Ready(poll_first(&mut body, cx))).await;
    let (error, is_unsent) = match first {
        Poll::Ready(Some(Err(error))) => (CutOff::from(error), true),
        first => match push_body(connection, out, encoded.framing, body, first, incoming).await {
            Ok(bytes) => return Outcome::Sent { bytes, keep_alive: encoded.keep_alive },
            Err(error) => (error, false),
        },
    };
    let request = RequestId::new(connection.id(), connection.number());
    let is_clients = incoming.is_some_and(|incoming| incoming.has_failed())
        || matches!(error, CutOff::Body(BodyError::Coding | BodyError::Unpacked(_)));
    match &error {
        CutOff::Body(_) | CutOff::Length { .. } if !is_clients => {
            tracing::error!(%request, error = %Chain(&error), "the body of a response failed");
        }
        _ => tracing::debug!(%request, %error, "a response was cut off"),
    }
    match error {
        CutOff::Body(error) if is_unsent => {
            out.truncate(head_at);
            Outcome::Unsent(answer_to(error, is_clients))
        }
        _ => Outcome::Failed,
    }
}

/// The first piece of a body, if it is at hand; nothing is polled of what the kernel sends by itself.
fn poll_first(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
    #[cfg(feature = "files")]
    if body.as_file().is_some() {
        return Poll::Pending;
    }
    poll_body(body, cx)
}

/// The answer to a request whose response has failed before it began, by whose body that was.
fn answer_to(error: BodyError, is_clients: bool) -> Error {
    match error {
        error if is_clients => error.into(),
        BodyError::Taken | BodyError::Stream(_) => Error::status_only(StatusCode::INTERNAL_SERVER_ERROR),
        // Another server's.
        BodyError::TimedOut => Error::status_only(StatusCode::GATEWAY_TIMEOUT),
        _ => Error::status_only(StatusCode::BAD_GATEWAY),
    }
}

fn push_head(
    connection: &Connection,
    out: &mut OutBuf,
    response: &Response,
    content_type: Option<&HeaderValue>,
    body: BodyFraming,
    facts: &Facts,
    keep_alive: bool,
) -> Encoded {
    out.ensure();
    let mut date = connection.service().date.borrow_mut();
    date.update(connection.stream().core().unix_seconds());
    let head = ResponseHead {
        version: facts.version,
        method: &facts.method,
        status: response.status(),
        headers: response.headers(),
        content_type,
        body,
        keep_alive,
        date: Some(&date),
    };
    encode_response(&head, out)
}

/// Collects a small chunk; queues a large one, piece by piece as the client takes it.
async fn push_chunk(connection: &Connection, out: &mut OutBuf, mut chunk: Chunk) -> std::io::Result<()> {
    if chunk.len() <= COPIED_BYTES_MAX {
        out.ensure();
        out.extend_from_slice(&chunk);
        return Ok(());
    }
    connection.queue(out);
    while !chunk.is_empty() {
        connection.send_ready().await?;
        connection.stream().queue(chunk.split_to(PIECE_BYTES.min(chunk.len())));
    }
    Ok(())
}

/// Why a body that is made while it is sent was cut off.
#[derive(Debug, thiserror::Error)]
enum CutOff {
    #[error("the client has gone or is too slow: {0}")]
    Client(#[from] std::io::Error),
    #[error("the client has ended the connection")]
    Ended,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the body has another length than the {promised} bytes that were promised")]
    Length { promised: u64 },
}

/// Sends a body as it is made; how many bytes it had.
async fn push_body(
    connection: &Connection,
    out: &mut OutBuf,
    framing: BodyFraming,
    mut body: Body,
    first: Poll<Option<Result<Chunk, BodyError>>>,
    incoming: Option<&Rc<IncomingBody>>,
) -> Result<u64, CutOff> {
    #[cfg(feature = "files")]
    let mut sent = push_file(connection, out, framing, &mut body).await?;
    #[cfg(not(feature = "files"))]
    let mut sent = 0;
    let mut next = match first {
        Poll::Ready(next) => next.transpose()?,
        Poll::Pending => next_chunk(connection, out, &mut body, incoming).await?,
    };
    while let Some(chunk) = next {
        sent += chunk.len() as u64;
        match framing {
            BodyFraming::Length(promised) if sent > promised => return Err(CutOff::Length { promised }),
            // It would end the body.
            BodyFraming::Chunked if chunk.is_empty() => {}
            BodyFraming::Chunked => {
                out.ensure();
                out.extend_from_slice(&chunk_prefix(chunk.len()));
                push_chunk(connection, out, chunk).await?;
                out.ensure();
                out.extend_from_slice(b"\r\n");
            }
            _ => push_chunk(connection, out, chunk).await?,
        }
        next = next_chunk(connection, out, &mut body, incoming).await?;
    }
    match framing {
        BodyFraming::Length(promised) if sent < promised => return Err(CutOff::Length { promised }),
        BodyFraming::Chunked => {
            out.ensure();
            encode_last_chunk(body.take_trailers().as_ref(), out);
        }
        _ => {}
    }
    Ok(sent)
}

/// Lets the kernel send a file by itself, behind what was collected; how many bytes of it have gone. What cannot be sent
/// so is left in the body, to be read: over TLS, and files of the rare kinds that know no `sendfile(2)`.
#[cfg(feature = "files")]
async fn push_file(
    connection: &Connection,
    out: &mut OutBuf,
    framing: BodyFraming,
    body: &mut Body,
) -> Result<u64, CutOff> {
    let mut sent = 0;
    let file = match (body.as_file(), framing) {
        (Some(file), BodyFraming::Length(_)) if !connection.stream().is_tls() => file,
        _ => return Ok(sent),
    };
    while file.len() > 0 {
        match connection.send_file(std::mem::take(out), file).await {
            Ok(0) => return Err(CutOff::Body(Shrunk.into())),
            Ok(bytes) => {
                file.advance(bytes);
                sent += bytes;
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

/// The next chunk that a handler makes. What was made before goes out before it is waited for, and waiting ends when
/// the client goes.
async fn next_chunk(
    connection: &Connection,
    out: &mut OutBuf,
    body: &mut Body,
    incoming: Option<&Rc<IncomingBody>>,
) -> Result<Option<Chunk>, CutOff> {
    if let Poll::Ready(next) = poll_fn(|cx| Poll::Ready(poll_body(body, cx))).await {
        if out.len() >= COPIED_BYTES_MAX {
            connection.queue(out);
            connection.send_ready().await?;
        }
        return Ok(next.transpose()?);
    }
    connection.queue(out);
    connection.send_ready().await?;
    poll_fn(|cx| {
        if let Poll::Ready(next) = poll_body(body, cx) {
            return Poll::Ready(next.transpose().map_err(CutOff::from));
        }
        if let Poll::Ready(error) = connection.poll_interrupted(incoming, cx) {
            return Poll::Ready(Err(error.into()));
        }
        if incoming.is_some_and(|incoming| incoming.poll_unawaited(cx).is_pending()) {
            return Poll::Pending;
        }
        connection.poll_gone(cx).map(|()| Err(CutOff::Ended))
    })
    .await
}

/// Polls a body that is the user's code: a panic in it is an error like others.
fn poll_body(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
    catch_unwind(AssertUnwindSafe(|| body.poll_chunk(cx))).unwrap_or_else(|panic| {
        let panic = format!("a panic: {}", panic_message(&*panic));
        Poll::Ready(Some(Err(BodyError::Stream(panic.into()))))
    })
}
