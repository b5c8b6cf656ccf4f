//! Sending the body of a request.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use gimmal_http::{BodyFraming, chunk_prefix, encode_last_chunk};
use gimmal_runtime::OutBuf;

use super::error::{ClientError, Phase};
use super::exchange::{Clock, Link};
use crate::body::{Body, BodyError, BoxError, Chunk};

/// A chunk up to this size is copied behind what is collected already; a larger one goes out from where it lies.
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// What is collected before it goes out, while more is at hand.
const OUT_BYTES: usize = 32 * 1024;

/// Sends a body as it is made, after what lies in `out` already.
pub(super) async fn upload(
    link: Rc<Link>,
    mut out: OutBuf,
    mut body: Body,
    framing: BodyFraming,
    clock: Clock,
) -> Result<(), ClientError> {
    let mut sent = 0;
    while let Some(chunk) = next_chunk(&link, &mut out, &mut body).await {
        let chunk = chunk.map_err(ClientError::Body)?;
        if chunk.is_empty() {
            continue;
        }
        sent += chunk.len() as u64;
        match framing {
            BodyFraming::Length(promised) if sent > promised => return Err(wrong_length()),
            BodyFraming::Chunked => {
                out.extend_from_slice(&chunk_prefix(chunk.len()));
                push(&link, &mut out, chunk);
                out.extend_from_slice(b"\r\n");
            }
            _ => push(&link, &mut out, chunk),
        }
        if out.len() >= OUT_BYTES {
            link.queue(&mut out);
        }
        ready(&link, clock).await?;
    }
    match framing {
        BodyFraming::Length(promised) if sent < promised => return Err(wrong_length()),
        BodyFraming::Chunked => encode_last_chunk(body.take_trailers().as_ref(), &mut out),
        _ => {}
    }
    link.queue(&mut out);
    Ok(())
}

fn wrong_length() -> ClientError {
    ClientError::Body(BodyError::Stream(BoxError::from("it has another length than was promised")))
}

/// The next chunk. What was collected goes out before it is waited for.
async fn next_chunk(link: &Link, out: &mut OutBuf, body: &mut Body) -> Option<Result<Chunk, BodyError>> {
    if let Poll::Ready(next) = poll_fn(|cx| Poll::Ready(body.poll_chunk(cx))).await {
        return next;
    }
    link.queue(out);
    body.chunk().await
}

fn push(link: &Link, out: &mut OutBuf, chunk: Chunk) {
    if chunk.len() <= COPIED_BYTES_MAX {
        out.extend_from_slice(&chunk);
    } else {
        link.queue(out);
        link.stream().queue(chunk);
    }
}

/// Waits until the server has taken enough of what was sent.
async fn ready(link: &Link, clock: Clock) -> Result<(), ClientError> {
    let stream = link.stream();
    let mut waits = false;
    let ready = poll_fn(|cx| {
        let ready = stream.poll_send_ready(cx);
        if ready.is_pending() && !waits {
            waits = true;
            clock.grant(stream, Some(clock.pause));
        }
        ready
    })
    .await;
    if waits {
        clock.grant(stream, None);
    }
    ready.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => ClientError::TimedOut(Phase::Send),
        _ => link.closed(error),
    })
}
