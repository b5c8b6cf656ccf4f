//! What clients do: requests of all kinds, whole and not, and what is no request.

use std::collections::VecDeque;

use crate::random::Random;

/// One thing that a client does when it has its turn.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Beneath TLS.
    SendRaw(Vec<u8>),
    /// Receives what there is, for so many turns.
    Listen(usize),
    /// Does nothing, for so many turns.
    Deaf(usize),
    /// Ends the sending side.
    Finish,
    Leave,
    Reset,
}

/// What one client does from its first byte to its end.
pub(crate) fn script(random: &mut Random, marker: &str, is_tls: bool) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    if random.chance(30) {
        steps.push_back(Step::Listen(1 + random.below(8)));
    }
    if is_tls && random.chance(10) {
        let len = 1 + random.below(60);
        steps.push_back(Step::SendRaw(random.bytes(len)));
    }
    let bytes = match random.below(20) {
        0 => random_bytes(random),
        1 => upgraded(random, marker),
        2..=4 => websocket(random, marker),
        5 => flood(random, marker),
        _ => {
            let count = 1 + random.below(4);
            (0..count).flat_map(|_| request(random, marker)).collect()
        }
    };
    let bytes = mangled(random, bytes);
    send(random, bytes, &mut steps);
    if is_tls && random.chance(10) {
        steps.push_back(Step::SendRaw(b"\x17\x03\x03\x00\x20not what was agreed on, is it...".to_vec()));
    }
    if random.chance(20) {
        steps.push_back(Step::Finish);
    }
    steps.push_back(if random.chance(20) {
        Step::Deaf(random.below(40))
    } else {
        Step::Listen(random.below(30))
    });
    steps.push_back(if random.chance(40) { Step::Reset } else { Step::Leave });
    steps
}

/// Cuts bytes into pieces, some of which come late.
fn send(random: &mut Random, mut bytes: Vec<u8>, steps: &mut VecDeque<Step>) {
    let pieces = if random.chance(50) { 1 } else { 1 + random.below(6) };
    for _ in 1..pieces {
        if bytes.is_empty() {
            break;
        }
        let rest = bytes.split_off(random.below(bytes.len()));
        steps.push_back(Step::Send(std::mem::replace(&mut bytes, rest)));
        if random.chance(60) {
            steps.push_back(Step::Listen(random.below(8)));
        }
    }
    steps.push_back(Step::Send(bytes));
}

/// Some are cut off, some changed.
fn mangled(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    match random.below(10) {
        0..=2 if !bytes.is_empty() => {
            let at = random.below(bytes.len().min(400));
            bytes.truncate(at);
        }
        3 if !bytes.is_empty() => {
            let at = random.below(bytes.len());
            bytes[at] = random.bytes(1)[0];
        }
        4 => {
            let at = random.below(bytes.len() + 1);
            let line = random.pick(&["\r\n", "\n", ": ", " ", "\r\nHost: b\r\n", "\0", "0\r\n\r\n"]);
            bytes.splice(at..at, line.bytes());
        }
        _ => {}
    }
    bytes
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let len = random.below(200);
    match random.below(3) {
        0 => random.bytes(len),
        // A request line without an end.
        1 => format!("GET /{}", "x".repeat(len)).into_bytes(),
        _ => format!("POST /echo HTTP/1.1\r\nHost: {}", "h".repeat(len)).into_bytes(),
    }
}

fn head(random: &mut Random, method: &str, target: &str, marker: &str) -> String {
    let version = if random.chance(15) { "1.0" } else { "1.1" };
    let mut head = format!("{method} {target} HTTP/{version}\r\n");
    if !random.chance(3) {
        head += "Host: a\r\n";
    }
    for _ in 0..random.below(4) {
        head += &match random.below(7) {
            0 => format!("X-Marker: {marker}\r\n"),
            1 => format!("Cookie: session={marker}\r\n"),
            2 => format!("Accept-Encoding: {}\r\n", random.pick(&["gzip", "br, zstd", "identity"])),
            3 => format!("Connection: {}\r\n", random.pick(&["close", "keep-alive", "upgrade", "x-marker"])),
            4 => format!("X-Long: {}\r\n", marker.repeat(random.below(100))),
            5 => "Expect: 100-continue\r\n".to_owned(),
            _ => format!("X-Forwarded-For: {marker}\r\n"),
        };
    }
    head
}

/// A request with a body, by length or in chunks; now and then it is not all there, or more than was said.
fn with_body(random: &mut Random, head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head.as_bytes().to_vec();
    if random.chance(50) {
        let said = match random.below(12) {
            0 => body.len() + 1 + random.below(100),
            1 => body.len() / 2,
            _ => body.len(),
        };
        bytes.extend(format!("Content-Length: {said}\r\n\r\n").bytes());
        bytes.extend_from_slice(body);
        return bytes;
    }
    bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = body;
    while !rest.is_empty() {
        let chunk;
        (chunk, rest) = rest.split_at(1 + random.below(rest.len()));
        let extension = random.pick(&["", "", "", ";a=b"]);
        bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(random.pick(&["0\r\n\r\n", "0\r\n\r\n", "0\r\nchecksum: 1\r\n\r\n", "", "zz\r\n"]).bytes());
    bytes
}

fn body(random: &mut Random, marker: &str) -> Vec<u8> {
    let repeats = match random.below(10) {
        0 => 0,
        1 => 5000,
        2 => 300,
        _ => 1 + random.below(10),
    };
    marker.repeat(repeats).into_bytes()
}

/// One request to any of the routes.
fn request(random: &mut Random, marker: &str) -> Vec<u8> {
    let post = |random: &mut Random, target: &str, body: &[u8]| {
        let head = head(random, "POST", target, marker);
        with_body(random, &head, body)
    };
    match random.below(16) {
        0 | 1 => {
            let method = random.pick(&["GET", "GET", "HEAD", "OPTIONS", "DELETE", "BREW"]);
            let target = random.pick(&["/plaintext", "/plaintext", "/none", "*", "/plaintext?a", "//"]);
            (head(random, method, target, marker) + "\r\n").into_bytes()
        }
        2 | 3 => {
            let method = random.pick(&["GET", "DELETE", "PUT", "PATCH", "OPTIONS"]);
            (head(random, method, &format!("/seen?q={marker}&{marker}=1"), marker) + "\r\n").into_bytes()
        }
        4 => {
            let body = body(random, marker);
            let target = random.pick(&["/echo", "/mirror", "/taken", "/ignored"]);
            post(random, target, &body)
        }
        5 => {
            let body = body(random, marker);
            post(random, "/mirror", &body)
        }
        6 => {
            let json =
                format!("{{\"name\": \"{}\", \"numbers\": [1, 2]}}", marker.repeat(1 + random.below(50)));
            let head = head(random, "POST", "/json", marker) + "Content-Type: application/json\r\n";
            with_body(random, &head, json.as_bytes())
        }
        7 => {
            let target = random.pick(&[
                "/files/small.txt",
                "/files/large.bin",
                "/files/none",
                "/files/../x",
                "/files/",
            ]);
            let range =
                random.pick(&["", "", "Range: bytes=3-9\r\n", "Range: bytes=-5\r\n", "If-None-Match: *\r\n"]);
            let method = random.pick(&["GET", "GET", "HEAD"]);
            (head(random, method, target, marker) + range + "\r\n").into_bytes()
        }
        8..=10 => upstream(random, marker),
        11 => {
            let (method, target) = match random.below(3) {
                0 => ("GET", format!("/tower/hello/{marker}")),
                1 => ("GET", format!("/tower/ticks/{marker}")),
                _ => {
                    let body = body(random, marker);
                    return post(random, "/tower/echo", &body);
                }
            };
            (head(random, method, &target, marker) + "\r\n").into_bytes()
        }
        12 => {
            let form = format!(
                "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n{marker}\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{marker}\"\r\n\r\n{}\r\n--b--\r\n",
                marker.repeat(random.below(400))
            );
            let head =
                head(random, "POST", "/upload", marker) + "Content-Type: multipart/form-data; boundary=b\r\n";
            with_body(random, &head, form.as_bytes())
        }
        13 => (head(random, "GET", &format!("/events/{marker}"), marker) + "\r\n").into_bytes(),
        14 => {
            let target = random.pick(&["/text", "/slow", "/fails", "/endless", "/panic"]);
            (head(random, "GET", target, marker) + "Accept-Encoding: gzip\r\n\r\n").into_bytes()
        }
        _ => malformed(random, marker),
    }
}

fn malformed(random: &mut Random, marker: &str) -> Vec<u8> {
    let head = head(random, "POST", "/echo", marker);
    let rest = random.pick(&[
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\n",
        " folded\r\n\r\n",
        "Bad Name: 1\r\n\r\n",
        "X: \u{1}\r\n\r\n",
        "\r",
    ]);
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A request that goes on to another server, which answers in one of its ways.
fn upstream(random: &mut Random, marker: &str) -> Vec<u8> {
    let way = random.pick(&[
        "echo", "echo", "echo", "half", "none", "chunks", "garbage", "extra", "slow", "stall", "bye", "bye",
    ]);
    let target = format!("/up/{way}/{marker}");
    if random.chance(50) {
        return (head(random, "GET", &target, marker) + "\r\n").into_bytes();
    }
    let body = body(random, marker);
    let head = head(random, "POST", &target, marker);
    with_body(random, &head, &body)
}

/// So many requests at once that the task's share of turns ends within them, and one that goes on to another server.
fn flood(random: &mut Random, marker: &str) -> Vec<u8> {
    let count = if random.chance(30) { random.below(300) } else { 60 + random.below(8) };
    let mut bytes = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count).into_bytes();
    bytes.extend(upstream(random, marker));
    bytes
}

/// A connection that is handed over, and that the server keeps, ends or aborts.
fn upgraded(random: &mut Random, marker: &str) -> Vec<u8> {
    let mut bytes = (head(random, "GET", "/upgrade", marker)
        + "Connection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .into_bytes();
    let order = random.pick(&["", "", "abort ", "burst ", "shutdown ", "finish ", "quit "]);
    bytes.extend(format!("{order}{}", marker.repeat(1 + random.below(100))).bytes());
    bytes
}

fn websocket(random: &mut Random, marker: &str) -> Vec<u8> {
    let extension = random.pick(&["", "", "Sec-WebSocket-Extensions: permessage-deflate\r\n"]);
    let path = random.pick(&["/ws", "/ws", "/tower/ws"]);
    let mut bytes = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{extension}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..random.below(6) {
        let payload = match random.below(8) {
            0 => format!("abort {marker}"),
            1 => format!("burst {marker}"),
            2 => format!("drop {marker}"),
            _ => marker.repeat(1 + random.below(8)),
        };
        match random.below(8) {
            0 => bytes.extend(frame(0x89, marker.as_bytes())),
            1 => {
                bytes.extend(frame(0x01, payload.as_bytes()));
                bytes.extend(frame(0x80, payload.as_bytes()));
            }
            2 => bytes.extend(frame(0x88, b"\x03\xe8")),
            3 => bytes.extend(frame(0xff, payload.as_bytes())),
            _ => bytes.extend(frame(0x81, payload.as_bytes())),
        }
    }
    bytes
}

/// A masked frame of at most 125 bytes of payload (RFC 6455, section 5.2).
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(125)];
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
