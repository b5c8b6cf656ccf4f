//! From a file to the answer for a request: conditions, ranges and body.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use gimmal_http::{EntityTag, Precondition, Ranges, Validators, content_range, unsatisfied_range};
use gimmal_runtime::{File, Metadata};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::body::{Body, BoxError, Chunk};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// Where the bytes come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(Rc<File>),
    Bytes(Bytes),
}

/// What a resource is at the moment (RFC 9110 section 3.2).
#[derive(Debug)]
pub(super) struct Representation {
    pub(super) source: Source,
    pub(super) length: u64,
    pub(super) validators: Validators,
    /// `Content-Type`, and what else there is to say.
    pub(super) headers: HeaderMap,
}

/// Why the body of a response ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the file has become shorter while it was sent")]
struct Shrunk;

impl Representation {
    pub(super) fn of_file(file: Rc<File>, metadata: &Metadata, headers: HeaderMap) -> Self {
        Self { source: Source::File(file), length: metadata.len, validators: validators(metadata), headers }
    }

    /// Answers a GET or HEAD request.
    pub(super) fn answer(mut self, request: &Request) -> Response {
        match self.validators.evaluate(request.method(), |name| request.header_all(name)) {
            Precondition::Failed => return StatusCode::PRECONDITION_FAILED.into_response(),
            Precondition::NotModified => {
                // RFC 9110 section 15.4.5: what describes the content is left out.
                for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                    self.headers.remove(name);
                }
                self.add_validators();
                return respond(StatusCode::NOT_MODIFIED, self.headers, Body::empty());
            }
            Precondition::Holds => {}
        }
        let ranges = self.ranges(request);
        self.add_validators();
        self.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let length = self.length;
        match ranges {
            Ranges::Whole => {
                respond(StatusCode::OK, self.headers, body(&self.source, [Part::Range(0..length)].into()))
            }
            Ranges::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE
                .into_response()
                .with_header(header::CONTENT_RANGE, unsatisfied_range(length)),
            Ranges::Parts(ranges) => match &ranges[..] {
                [range] => {
                    self.headers.insert(header::CONTENT_RANGE, content_range(range, length));
                    let body = body(&self.source, [Part::Range(range.clone())].into());
                    respond(StatusCode::PARTIAL_CONTENT, self.headers, body)
                }
                _ => self.multipart(&ranges),
            },
        }
    }

    fn ranges(&self, request: &Request) -> Ranges {
        // RFC 9110 section 14.2.
        if *request.method() != Method::GET {
            return Ranges::Whole;
        }
        let mut fields = request.header_all("range");
        let (Some(field), None) = (fields.next(), fields.next()) else { return Ranges::Whole };
        if !self.validators.permit_range(request.header_bytes("if-range"), unix_secs(SystemTime::now())) {
            return Ranges::Whole;
        }
        Ranges::parse(field, self.length)
    }

    fn add_validators(&mut self) {
        if let Some(tag) = &self.validators.entity_tag {
            self.headers.insert(header::ETAG, tag.value().clone());
        }
        if let Some(seconds) = self.validators.last_modified_unix_secs {
            let date = HeaderValue::from_bytes(gimmal_http::Date::at(seconds).as_bytes());
            self.headers.insert(header::LAST_MODIFIED, date.expect("a date is a field value"));
        }
    }

    /// Several ranges as `multipart/byteranges` (RFC 9110 section 14.6).
    fn multipart(mut self, ranges: &[Range<u64>]) -> Response {
        let boundary = boundary();
        let multipart = format!("multipart/byteranges; boundary={boundary}");
        let multipart = HeaderValue::try_from(multipart).expect("hexadecimal digits are a field value");
        let media_type = self.headers.insert(header::CONTENT_TYPE, multipart);
        let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
        for range in ranges {
            let mut head = format!("\r\n--{boundary}\r\nContent-Range: ").into_bytes();
            head.extend_from_slice(content_range(range, self.length).as_bytes());
            if let Some(media_type) = &media_type {
                head.extend_from_slice(b"\r\nContent-Type: ");
                head.extend_from_slice(media_type.as_bytes());
            }
            head.extend_from_slice(b"\r\n\r\n");
            parts.push_back(Part::Text(head.into()));
            parts.push_back(Part::Range(range.clone()));
        }
        parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n").into()));
        respond(StatusCode::PARTIAL_CONTENT, self.headers, body(&self.source, parts))
    }
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body).with_status(status);
    *response.headers_mut() = headers;
    response
}

/// A text that no file holds, save by a chance of one in 2^128.
fn boundary() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

/// A piece of a body.
enum Part {
    Text(Bytes),
    Range(Range<u64>),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.end - range.start,
        }
    }
}

fn body(source: &Source, mut parts: VecDeque<Part>) -> Body {
    let length = parts.iter().map(Part::len).sum();
    match source {
        Source::Bytes(bytes) => {
            let mut chunks = parts.into_iter().map(|part| match part {
                Part::Text(text) => text,
                // Ranges never pass the end, and the bytes are in memory: their positions fit.
                Part::Range(range) => bytes.slice(range.start as usize..range.end as usize),
            });
            match (chunks.next(), chunks.len()) {
                (Some(only), 0) => Body::from(only),
                (first, _) => {
                    let chunks: Vec<_> =
                        first.into_iter().chain(chunks).map(|chunk| Ok(Chunk::from(chunk))).collect();
                    Body::sized(length, stream::iter(chunks))
                }
            }
        }
        Source::File(file) => {
            parts.retain(|part| part.len() > 0);
            let chunks = stream::try_unfold((Rc::clone(file), parts), |(file, mut parts)| async move {
                let chunk = next_chunk(&file, &mut parts).await?;
                Ok(chunk.map(|chunk| (chunk, (file, parts))))
            });
            Body::sized(length, chunks)
        }
    }
}

/// The next piece of a body, read from the open file: one that has been replaced since is read to its end all the same.
async fn next_chunk(file: &File, parts: &mut VecDeque<Part>) -> Result<Option<Chunk>, BoxError> {
    let range = match parts.pop_front() {
        None => return Ok(None),
        Some(Part::Text(text)) => return Ok(Some(text.into())),
        Some(Part::Range(range)) => range,
    };
    let mut chunk = file.read_at(range.start).await?;
    if chunk.is_empty() {
        return Err(Shrunk.into());
    }
    let left = range.end - range.start;
    if let Ok(left) = usize::try_from(left) {
        chunk.truncate(left);
    }
    let start = range.start + chunk.len() as u64;
    if start < range.end {
        parts.push_front(Part::Range(start..range.end));
    }
    Ok(Some(chunk))
}

/// Inode, time of change to the nanosecond and length: they differ whenever a file is written or replaced.
fn validators(metadata: &Metadata) -> Validators {
    let changed = metadata.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let tag = format!("{:x}-{:x}-{:x}", metadata.inode, changed.as_nanos(), metadata.len);
    Validators {
        entity_tag: EntityTag::strong(&tag),
        // RFC 9110 section 8.8.2.1: never in the future.
        last_modified_unix_secs: (metadata.modified <= SystemTime::now())
            .then(|| unix_secs(metadata.modified)),
    }
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
