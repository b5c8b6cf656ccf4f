//! The contract for loops that have sockets only: bytes in, bytes out.

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use matchit::Router;

use crate::{OTHER_ROUTES, PLAINTEXT, message};

const HEADERS_MAX: usize = 32;

#[derive(Clone, Copy)]
enum Route {
    Plaintext,
    Json,
    User,
    Echo,
    Bytes,
    Upload,
    Other,
}

static ROUTER: LazyLock<Router<Route>> = LazyLock::new(|| {
    let mut router = Router::new();
    for (path, route) in [
        ("/plaintext", Route::Plaintext),
        ("/json", Route::Json),
        ("/users/{id}", Route::User),
        ("/echo", Route::Echo),
        ("/bytes/{n}", Route::Bytes),
        ("/upload", Route::Upload),
    ] {
        router.insert(path, route).expect("a valid route");
    }
    for path in OTHER_ROUTES {
        router.insert(path, Route::Other).expect("a valid route");
    }
    router
});

/// What the loop does after it has sent what was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Receive,
    /// Send so many bytes of [`crate::PIECE`], over and over, then call [`Exchange::receive`] with nothing.
    SendBytes(usize),
    Close,
}

/// One connection.
#[derive(Default)]
pub struct Exchange {
    pending: Vec<u8>,
    upload: Option<Upload>,
}

struct Upload {
    bytes: usize,
    left: usize,
    close: bool,
}

enum Step {
    Partial,
    Done { consumed: usize, close: bool, send_bytes: usize },
    Uploading { consumed: usize },
}

impl Exchange {
    /// Takes what was received, and writes to `out` what is to be sent.
    pub fn receive(&mut self, received: &[u8], out: &mut Vec<u8>) -> Next {
        let buffered = !self.pending.is_empty();
        let owned;
        let mut rest = if buffered {
            self.pending.extend_from_slice(received);
            owned = std::mem::take(&mut self.pending);
            &owned[..]
        } else {
            received
        };
        let next = loop {
            if let Some(upload) = &mut self.upload {
                let taken = upload.left.min(rest.len());
                upload.left -= taken;
                rest = &rest[taken..];
                if upload.left > 0 {
                    break Next::Receive;
                }
                let (bytes, close) = (upload.bytes.to_string(), upload.close);
                self.upload = None;
                respond(out, "text/plain", bytes.as_bytes(), close);
                if close {
                    break Next::Close;
                }
            }
            if rest.is_empty() {
                break Next::Receive;
            }
            match self.step(rest, out) {
                None => break Next::Close,
                Some(Step::Partial) => break Next::Receive,
                Some(Step::Uploading { consumed }) => rest = &rest[consumed..],
                Some(Step::Done { consumed, close, send_bytes }) => {
                    rest = &rest[consumed..];
                    if send_bytes > 0 {
                        break Next::SendBytes(send_bytes);
                    }
                    if close {
                        break Next::Close;
                    }
                }
            }
        };
        self.pending.extend_from_slice(rest);
        next
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Step> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = request.parse(bytes).ok()? else {
            return Some(Step::Partial);
        };
        let (mut body_bytes, mut close) = (0, request.version == Some(0));
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                body_bytes = str::from_utf8(header.value).ok()?.parse().ok()?;
            } else if header.name.eq_ignore_ascii_case("connection") {
                close = header.value.eq_ignore_ascii_case(b"close");
            }
        }
        let matched = ROUTER.at(request.path?).ok()?;
        if matches!(matched.value, Route::Upload) {
            self.upload = Some(Upload { bytes: body_bytes, left: body_bytes, close });
            return Some(Step::Uploading { consumed: head_bytes });
        }
        let consumed = head_bytes + body_bytes;
        let Some(body) = bytes.get(head_bytes..consumed) else { return Some(Step::Partial) };
        let mut send_bytes = 0;
        match matched.value {
            Route::Plaintext => respond(out, "text/plain", PLAINTEXT.as_bytes(), close),
            Route::Json => {
                let json = serde_json::to_vec(&message()).expect("a message is JSON");
                respond(out, "application/json", &json, close);
            }
            Route::User => respond(out, "text/plain", matched.params.get("id")?.as_bytes(), close),
            Route::Echo => respond(out, "application/octet-stream", body, close),
            Route::Bytes => {
                send_bytes = matched.params.get("n")?.parse().ok()?;
                respond_head(out, "application/octet-stream", send_bytes, close);
            }
            Route::Other | Route::Upload => respond(out, "text/plain", b"ok", close),
        }
        Some(Step::Done { consumed, close, send_bytes })
    }
}

fn respond(out: &mut Vec<u8>, content_type: &str, body: &[u8], close: bool) {
    respond_head(out, content_type, body.len(), close);
    out.extend_from_slice(body);
}

fn respond_head(out: &mut Vec<u8>, content_type: &str, body_bytes: usize, close: bool) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ndate: ");
    write_date(out);
    let close = if close { "connection: close\r\n" } else { "" };
    write!(out, "\r\ncontent-type: {content_type}\r\ncontent-length: {body_bytes}\r\n{close}\r\n")
        .expect("a Vec takes all");
}

/// The date of the current second, formatted once.
fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(formatted, date)| {
        if *formatted != second {
            *formatted = second;
            *date = httpdate::fmt_http_date(now);
        }
        out.extend_from_slice(date.as_bytes());
    });
}
