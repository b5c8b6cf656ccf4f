//! From a file to the answer for a request: conditions, ranges and body.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use gimmal_http::{Date, EntityTag, Precondition, Ranges, Validators, content_range, unsatisfied_range};
use gimmal_runtime::{File, Metadata};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::body::{Body, BoxError};
use crate::file_body::FileBody;
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
    source: Source,
    length: u64,
    validators: Validators,
    /// The fields of the whole, shared by all responses that send it.
    headers: Rc<HeaderMap>,
}

impl Representation {
    /// `headers` are `Content-Type`, and what else there is to say.
    pub(super) fn new(source: Source, length: u64, validators: Validators, mut headers: HeaderMap) -> Self {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(tag) = &validators.entity_tag {
            headers.insert(header::ETAG, tag.value().clone());
        }
        if let Some(seconds) = validators.last_modified_unix_secs {
            let date = HeaderValue::from_bytes(Date::at(seconds).as_bytes());
            headers.insert(header::LAST_MODIFIED, date.expect("a date is a field value"));
        }
        Self { source, length, validators, headers: Rc::new(headers) }
    }

    pub(super) fn of_file(source: Source, metadata: &Metadata, headers: HeaderMap) -> Self {
        Self::new(source, metadata.len, validators(metadata), headers)
    }

    /// Answers a GET or HEAD request.
    pub(super) fn answer(&self, request: &Request) -> Response {
        match self.validators.evaluate(request.method(), |name| request.header_all(name)) {
            Precondition::Failed => return StatusCode::PRECONDITION_FAILED.into_response(),
            Precondition::NotModified => return self.telling_of_the_whole(self.not_modified()),
            Precondition::Holds => {}
        }
        match self.ranges(request) {
            Ranges::Whole => Response::new(self.part(&(0..self.length))).with_shared_headers(&self.headers),
            Ranges::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE
                .into_response()
                .with_header(header::CONTENT_RANGE, unsatisfied_range(self.length)),
            Ranges::Parts(ranges) => self.telling_of_the_whole(match &ranges[..] {
                [range] => Response::new(self.part(range))
                    .with_status(StatusCode::PARTIAL_CONTENT)
                    .with_shared_headers(&self.headers)
                    .with_header(header::CONTENT_RANGE, content_range(range, self.length)),
                _ => self.multipart(&ranges),
            }),
        }
    }

    /// Tells middleware what the 200 would be.
    #[cfg(feature = "compression")]
    fn telling_of_the_whole(&self, mut response: Response) -> Response {
        response.extensions_mut().insert(super::Whole {
            content_type: self.headers.get(header::CONTENT_TYPE).cloned(),
            is_encoded: self.headers.contains_key(header::CONTENT_ENCODING),
            length: self.length,
        });
        response
    }

    #[cfg(not(feature = "compression"))]
    #[expect(clippy::unused_self, reason = "as it is with the feature")]
    fn telling_of_the_whole(&self, response: Response) -> Response {
        response
    }

    /// RFC 9110 section 15.4.5: what describes the content is left out.
    fn not_modified(&self) -> Response {
        let mut response =
            Response::default().with_status(StatusCode::NOT_MODIFIED).with_shared_headers(&self.headers);
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ACCEPT_RANGES] {
            response.headers_mut().remove(name);
        }
        response
    }

    /// A range, which never passes the end.
    fn part(&self, range: &Range<u64>) -> Body {
        match &self.source {
            // They are in memory: their positions fit.
            Source::Bytes(bytes) => Body::from(bytes.slice(range.start as usize..range.end as usize)),
            Source::File(file) => Body::file(FileBody::new(Rc::clone(file), range.clone())),
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

    /// Several ranges as `multipart/byteranges` (RFC 9110 section 14.6).
    fn multipart(&self, ranges: &[Range<u64>]) -> Response {
        let boundary = boundary();
        let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
        for range in ranges {
            let mut head = format!("\r\n--{boundary}\r\nContent-Range: ").into_bytes();
            head.extend_from_slice(content_range(range, self.length).as_bytes());
            if let Some(media_type) = self.headers.get(header::CONTENT_TYPE) {
                head.extend_from_slice(b"\r\nContent-Type: ");
                head.extend_from_slice(media_type.as_bytes());
            }
            head.extend_from_slice(b"\r\n\r\n");
            parts.push_back(Body::from(head));
            parts.push_back(self.part(range));
        }
        parts.push_back(Body::from(format!("\r\n--{boundary}--\r\n")));
        let multipart = format!("multipart/byteranges; boundary={boundary}");
        let multipart = HeaderValue::try_from(multipart).expect("hexadecimal digits are a field value");
        Response::new(joined(parts))
            .with_status(StatusCode::PARTIAL_CONTENT)
            .with_shared_headers(&self.headers)
            .with_header(header::CONTENT_TYPE, multipart)
    }
}

/// One body after the other, whose lengths are known.
fn joined(bodies: VecDeque<Body>) -> Body {
    let length = bodies.iter().filter_map(Body::length).sum();
    let chunks = stream::try_unfold(bodies, |mut bodies| async move {
        while let Some(body) = bodies.front_mut() {
            match body.chunk().await.transpose()? {
                Some(chunk) => return Ok(Some((chunk, bodies))),
                None => drop(bodies.pop_front()),
            }
        }
        Ok::<_, BoxError>(None)
    });
    Body::sized(length, chunks)
}

/// A text that no file holds, save by a chance of one in 2^128.
fn boundary() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

/// Whether a further change of the file will show in its times: clocks of file systems tick every 10 ms, and some every
/// two seconds.
pub(super) fn is_settled(metadata: &Metadata) -> bool {
    metadata.modified.elapsed().is_ok_and(|age| age >= Duration::from_secs(2))
}

/// Inode, times of change to the nanosecond and length: they differ whenever a file is written or replaced. While a
/// change may not show yet the tag is weak (RFC 9110 section 8.8.1), and another than the strong one that follows, so
/// that nobody goes on with what was replaced within one tick.
fn validators(metadata: &Metadata) -> Validators {
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let Metadata { inode, modified, changed, len, .. } = *metadata;
    let tag = format!("{inode:x}-{:x}-{:x}-{len:x}", nanos(modified), nanos(changed));
    let entity_tag = if is_settled(metadata) {
        EntityTag::strong(&tag)
    } else {
        EntityTag::strong(&format!("{tag}-new")).map(|tag| tag.to_weak())
    };
    Validators {
        entity_tag,
        // RFC 9110 section 8.8.2.1: never in the future.
        last_modified_unix_secs: (modified <= SystemTime::now()).then(|| unix_secs(modified)),
    }
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
