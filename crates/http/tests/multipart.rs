//! Forms as they come from browsers, from tools and from whoever means harm, whole and in pieces.

use gimmal_http::multipart::{Boundary, MultipartDecoder, MultipartError, MultipartEvent, MultipartLimits};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A part with its content.
#[derive(Clone, Debug, PartialEq)]
struct Whole {
    name: String,
    file_name: Option<String>,
    content: Vec<u8>,
}

/// Reads a form whose bytes come up to each of `ends` in turn.
fn read(
    boundary: &str,
    limits: MultipartLimits,
    body: &[u8],
    ends: &[usize],
) -> Result<Vec<Whole>, MultipartError> {
    let mut decoder = MultipartDecoder::new(&Boundary::new(boundary.as_bytes())?, limits);
    let (mut parts, mut at, mut is_open) = (Vec::<Whole>::new(), 0, false);
    for &end in ends {
        loop {
            let decoded = decoder.decode(&body[at..end])?;
            at += decoded.consumed;
            match decoded.event {
                Some(MultipartEvent::Part(part)) => {
                    assert!(!is_open, "a part begins within a part");
                    is_open = true;
                    let file_name = part.file_name().map(str::to_owned);
                    parts.push(Whole { name: part.name().to_owned(), file_name, content: Vec::new() });
                }
                Some(MultipartEvent::Data(data)) => {
                    assert!(is_open && !data.is_empty() && data.len() == decoded.consumed);
                    parts.last_mut().unwrap().content.extend_from_slice(data);
                }
                Some(MultipartEvent::PartEnd) => is_open = false,
                Some(MultipartEvent::End) => {
                    assert!(!is_open);
                    return decoder.finish().map(|()| parts);
                }
                None => break,
            }
        }
        let is_in_headers = end - at <= limits.header_bytes;
        assert!(end - at < 256 || is_in_headers, "{} bytes are kept", end - at);
    }
    decoder.finish().map(|()| parts)
}

/// Reads a form whole, cut in two at each place, and byte by byte: all must give the same.
fn read_all_ways(boundary: &str, body: &[u8]) -> Result<Vec<Whole>, MultipartError> {
    let limits = MultipartLimits::default();
    let whole = read(boundary, limits, body, &[body.len()]);
    for cut in 0..body.len() {
        assert_eq!(read(boundary, limits, body, &[cut, body.len()]), whole, "cut at {cut}");
    }
    assert_eq!(read(boundary, limits, body, &(0..=body.len()).collect::<Vec<_>>()), whole, "byte by byte");
    whole
}

fn head(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n")
}

fn texts(parts: &[Whole]) -> Vec<(&str, &str)> {
    parts.iter().map(|part| (part.name.as_str(), std::str::from_utf8(&part.content).unwrap())).collect()
}

#[test]
fn what_stands_before_between_and_after_the_boundaries() {
    let (a, c) = (head("a"), head("c"));
    let table: [(String, &[(&str, &str)]); 16] = [
        (format!("--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        (format!("--B\r\n{a}1\r\n--B--\r\n"), &[("a", "1")]),
        (format!("\r\n--B\r\n{a}1\r\n--B--\r\n"), &[("a", "1")]),
        (
            format!("--B \t\r\n{a}1\r\n--B  \r\n{c}2\r\n--B-- \r\nepilogue\r\n--B\r\n{a}3"),
            &[("a", "1"), ("c", "2")],
        ),
        // Text before the first boundary that looks like one.
        (format!("--\r\n--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        (format!("-- dashes --B\r\n--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        (format!("text --B\r\n--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        (format!("--Bogus\r\n--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        (format!("\n--B\n\r\r\n\r\n--B\r\n{a}1\r\n--B--"), &[("a", "1")]),
        // Content that looks like a boundary.
        (
            format!("--B\r\n{a}x--B\r\n-B\r\n--Bx\r\n--b\r\n--B\r\n{c}\r\r\n--B--"),
            &[("a", "x--B\r\n-B\r\n--Bx\r\n--b"), ("c", "\r")],
        ),
        (format!("--B\r\n{a}--Bx\r\n--B -\r\n--B\n\r\n--B--"), &[("a", "--Bx\r\n--B -\r\n--B\n")]),
        // Nothing in it.
        (format!("--B\r\n{a}\r\n--B--"), &[("a", "")]),
        (format!("--B\r\n{a}--B\r\n{c}--B--"), &[("a", ""), ("c", "")]),
        (format!("--B\r\n{a}\r\n\r\n--B--"), &[("a", "\r\n")]),
        ("--B--\r\n".to_owned(), &[]),
        ("\r\n--B--".to_owned(), &[]),
    ];
    for (body, expected) in table {
        let parts = read_all_ways("B", body.as_bytes()).unwrap_or_else(|error| panic!("{body:?}: {error}"));
        assert_eq!(texts(&parts), expected, "{body:?}");
    }
}

#[test]
fn what_cannot_be_read_without_a_loss_is_refused() {
    let a = head("a");
    let blanks = " ".repeat(65);
    let table = [
        (String::new(), MultipartError::Incomplete),
        ("no boundary at all".to_owned(), MultipartError::Incomplete),
        (format!("--B\n{a}1\n--B--"), MultipartError::Incomplete),
        (format!("--B\n{a}1\r\n--B--"), MultipartError::PartMissing),
        ("preamble\r\n--B--".to_owned(), MultipartError::PartMissing),
        (format!("--B\r\n{a}1"), MultipartError::Incomplete),
        (format!("--B\r\n{a}1\r\n--B"), MultipartError::Incomplete),
        (format!("--B\r\n{a}1\r\n--B-"), MultipartError::Incomplete),
        (format!("--B\r\n{a}1\r\n--B\r\n"), MultipartError::Incomplete),
        ("--B\r\nContent-Disposition: form-data; name=a\r\n".to_owned(), MultipartError::Incomplete),
        (format!("--B\r\n{a}1\r\n--B--x"), MultipartError::BoundaryLine),
        (format!("--B\r\n{a}1\r\n--B--\n"), MultipartError::BoundaryLine),
        (format!("--B{blanks}\r\n{a}1\r\n--B--"), MultipartError::BoundaryLine),
        (format!("--B\r\n{a}1\r\n--B{blanks}\r\n"), MultipartError::BoundaryLine),
        ("--B\r\n\r\ncontent\r\n--B--".to_owned(), MultipartError::DispositionMissing),
        ("--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--".to_owned(), MultipartError::NameMissing),
        ("--B\r\nno field\r\n\r\n1\r\n--B--".to_owned(), MultipartError::Header),
        (format!("--B\r\n--B\r\n{a}1\r\n--B--"), MultipartError::Header),
    ];
    for (body, expected) in table {
        assert_eq!(read_all_ways("B", body.as_bytes()), Err(expected), "{body:?}");
    }
}

#[test]
fn limits_are_inclusive_however_the_form_is_cut() {
    let part = |number: usize| format!("--B\r\n{}{number}\r\n", head("a"));
    let body = format!("pre\r\n{}{}--B--", part(1), part(2));
    let header_bytes = head("a").len();
    let fits = MultipartLimits { header_bytes, parts: 2, preamble_bytes: 3 };
    let every: Vec<_> = (0..=body.len()).collect();
    for ends in [&[body.len()][..], &every] {
        let of = |limits| read("B", limits, body.as_bytes(), ends).map(|parts| parts.len());
        assert_eq!(of(fits), Ok(2));
        assert_eq!(
            of(MultipartLimits { header_bytes: header_bytes - 1, ..fits }),
            Err(MultipartError::HeadersTooLong)
        );
        assert_eq!(of(MultipartLimits { parts: 1, ..fits }), Err(MultipartError::TooManyParts));
        assert_eq!(of(MultipartLimits { preamble_bytes: 2, ..fits }), Err(MultipartError::PreambleTooLong));
    }
    let statuses = [
        (MultipartError::HeadersTooLong, 431),
        (MultipartError::PreambleTooLong, 431),
        (MultipartError::TooManyParts, 413),
        (MultipartError::NameMissing, 400),
    ];
    for (error, status) in statuses {
        assert_eq!(error.status().as_u16(), status);
    }
}

/// A name as a browser writes it.
fn browser(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

/// A name as a mail program writes it.
fn mail(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

fn write(boundary: &str, parts: &[Whole], quote: fn(&str) -> String) -> Vec<u8> {
    let mut body = Vec::new();
    for Whole { name, file_name, content } in parts {
        let file_name = file_name.as_deref().map(|name| format!("; filename=\"{}\"", quote(name)));
        let name = quote(name);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{}\r\n\r\n",
            file_name.unwrap_or_default()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

/// Content that is full of what boundaries are made of, but for the boundary itself.
fn content() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 10] =
        [b"\r\n", b"\r", b"\n", b"--", b"-", b"--bo", b"\r\n--bound", b"\r\n--boundaryx", b"\0\xff", b"text"];
    let is_content = |content: &Vec<u8>| {
        let ends = [&b"\r\n"[..], b"--", b" ", b"-", b"\r"];
        let with_lines = [b"\r\n", &content[..], b"\r\n"].concat();
        !ends.iter().any(|end| {
            let line = [b"\r\n--boundary", *end].concat();
            with_lines.windows(line.len()).any(|window| window == line)
        })
    };
    vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat()).prop_filter("a boundary", is_content)
}

fn parts(name: &'static str) -> impl Strategy<Value = Vec<Whole>> {
    let part = (name, option::of(name), content());
    vec(part.prop_map(|(name, file_name, content)| Whole { name, file_name, content }), 0..5)
}

/// What a form is made of.
const FORM: [&[u8]; 11] = [
    b"--b",
    b"\r\n",
    b"\r\n--b",
    b"\r\n\r\n",
    b"--",
    b" ",
    b"\r",
    b"Content-Disposition: form-data; name=\"a\"\r\n\r\n",
    b"x",
    b"-",
    b"\xff",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Backslashes that a browser leaves alone are not among these names: two are one to whoever writes mail.
    #[test]
    fn what_a_browser_sends_is_received(parts in parts("[a-z;:=' \r\n\"*%\u{e9}]{0,8}"), cuts in vec(any::<Index>(), 0..4)) {
        let body = write("boundary", &parts, browser);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        ends.push(body.len());
        ends.sort_unstable();
        prop_assert_eq!(read("boundary", MultipartLimits::default(), &body, &ends), Ok(parts.clone()));
    }

    #[test]
    fn quoted_pairs_are_undone(parts in parts("[a-z;=\\\\\"]{0,8}")) {
        let body = write("boundary", &parts, mail);
        prop_assert_eq!(read("boundary", MultipartLimits::default(), &body, &[body.len()]), Ok(parts));
    }

    #[test]
    fn cuts_change_nothing(pieces in vec(select(&FORM[..]), 0..14)) {
        // An error or a result: the helper compares all ways to cut.
        let _ = read_all_ways("b", &pieces.concat());
    }
}
