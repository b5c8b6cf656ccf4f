//! Interim responses to a client (RFC 9110, section 15.2).

use std::rc::Rc;

use gimmal_http::encode_informational;
use gimmal_runtime::OutBuf;
use http::{HeaderMap, StatusCode, Version};

use crate::connection::Connection;
use crate::request::Request;

/// The way to the client of one request for responses before the final one.
pub(crate) struct Interim {
    connection: Rc<Connection>,
    number: u32,
}

impl Interim {
    /// Sends an interim response; nothing once the final one has begun. The handler must have waited for something
    /// since it was called: by then the responses to earlier requests have gone out.
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        if self.connection.awaits_response(self.number) {
            let mut out = OutBuf::take();
            encode_informational(status, headers, &mut out);
            self.connection.queue(&mut out);
        }
    }
}

impl Request {
    /// Returns the way for interim responses; `None` for a client of HTTP/1.0, which does not know them.
    pub(crate) fn interim(&self) -> Option<Interim> {
        let connection = self.connection();
        (self.version() == Version::HTTP_11 && connection.try_stream().is_some())
            .then(|| Interim { connection: Rc::clone(connection), number: self.number() })
    }
}
