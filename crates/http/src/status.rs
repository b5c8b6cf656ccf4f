//! Status lines as constant bytes (RFC 9112 section 4).

use http::StatusCode;

macro_rules! status_lines {
    ($($code:literal $reason:literal)+) => {
        /// The whole line for a registered status.
        fn status_line(status: StatusCode) -> Option<&'static [u8]> {
            match status.as_u16() {
                $($code => Some(concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes()),)+
                _ => None,
            }
        }

        #[cfg(test)]
        const CODES: &[u16] = &[$($code),+];
    };
}

status_lines! {
    100 "Continue" 101 "Switching Protocols" 102 "Processing" 103 "Early Hints"
    200 "OK" 201 "Created" 202 "Accepted" 203 "Non-Authoritative Information" 204 "No Content"
    205 "Reset Content" 206 "Partial Content" 207 "Multi-Status" 208 "Already Reported" 226 "IM Used"
    300 "Multiple Choices" 301 "Moved Permanently" 302 "Found" 303 "See Other" 304 "Not Modified"
    305 "Use Proxy" 307 "Temporary Redirect" 308 "Permanent Redirect"
    400 "Bad Request" 401 "Unauthorized" 402 "Payment Required" 403 "Forbidden" 404 "Not Found"
    405 "Method Not Allowed" 406 "Not Acceptable" 407 "Proxy Authentication Required" 408 "Request Timeout"
    409 "Conflict" 410 "Gone" 411 "Length Required" 412 "Precondition Failed" 413 "Content Too Large"
    414 "URI Too Long" 415 "Unsupported Media Type" 416 "Range Not Satisfiable" 417 "Expectation Failed"
    421 "Misdirected Request" 422 "Unprocessable Content" 423 "Locked" 424 "Failed Dependency" 425 "Too Early"
    426 "Upgrade Required" 428 "Precondition Required" 429 "Too Many Requests"
    431 "Request Header Fields Too Large" 451 "Unavailable For Legal Reasons"
    500 "Internal Server Error" 501 "Not Implemented" 502 "Bad Gateway" 503 "Service Unavailable"
    504 "Gateway Timeout" 505 "HTTP Version Not Supported" 506 "Variant Also Negotiates"
    507 "Insufficient Storage" 508 "Loop Detected" 510 "Not Extended" 511 "Network Authentication Required"
}

/// Appends the status line; of a status that is not registered with an empty reason.
pub(crate) fn push_status_line(status: StatusCode, out: &mut Vec<u8>) {
    if let Some(line) = status_line(status) {
        out.extend_from_slice(line);
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b" \r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_its_code() {
        for &code in CODES {
            let mut out = Vec::new();
            push_status_line(StatusCode::from_u16(code).unwrap(), &mut out);
            let line = String::from_utf8(out).unwrap();
            assert!(line.starts_with(&format!("HTTP/1.1 {code} ")) && line.ends_with("\r\n"), "{line:?}");
        }
    }

    #[test]
    fn an_unregistered_status_has_an_empty_reason() {
        let mut out = Vec::new();
        push_status_line(StatusCode::from_u16(299).unwrap(), &mut out);
        assert_eq!(out, b"HTTP/1.1 299 \r\n");
    }
}
