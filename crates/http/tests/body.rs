//! Bodies by RFC 9112 sections 6 and 7, each cut at every byte.

use gimmal_http::{BodyDecoder, BodyError, BodyFraming, Decoded, HeaderMap, Limits};

/// What a decoder made of an input.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    /// Bytes used up.
    consumed: usize,
    complete: bool,
    error: Option<BodyError>,
    trailers: Option<HeaderMap>,
}

/// Decodes `input`, of which the bytes up to each of `cuts` arrive together.
fn decode(framing: BodyFraming, limits: &Limits, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut body = match BodyDecoder::new(framing, limits) {
        Ok(body) => body,
        Err(error) => return Outcome { error: Some(error), ..outcome },
    };
    'pieces: for end in cuts.iter().copied().chain([input.len()]) {
        loop {
            let piece = &input[outcome.consumed..end];
            match body.decode(piece) {
                Ok(Decoded::Data(range)) => {
                    assert!(!range.is_empty());
                    outcome.data.extend_from_slice(&piece[range.clone()]);
                    outcome.consumed += range.end;
                }
                Ok(Decoded::Partial) => {
                    outcome.consumed = end;
                    break;
                }
                Ok(Decoded::End { consumed }) => {
                    outcome.consumed += consumed;
                    assert!(body.is_complete());
                    assert_eq!(body.decode(b"more"), Ok(Decoded::End { consumed: 0 }));
                    break 'pieces;
                }
                Err(error) => {
                    assert_eq!(body.decode(b"more"), Err(error), "an error stays");
                    assert_eq!(body.finish(), Err(error));
                    outcome.error = Some(error);
                    break 'pieces;
                }
            }
        }
    }
    outcome.complete = body.is_complete();
    assert_eq!(body.received(), outcome.data.len() as u64);
    outcome.trailers = body.take_trailers();
    assert_eq!(body.take_trailers(), None, "trailers are given once");
    outcome
}

/// The outcome for the whole input, after a check that it is the same for every cut, and byte by byte.
fn decode_every_way(framing: BodyFraming, limits: &Limits, input: &[u8]) -> Outcome {
    let whole = decode(framing, limits, input, &[]);
    let same = |other: Outcome, cuts: &str| {
        assert_eq!(
            (&other.data, other.error, &other.trailers),
            (&whole.data, whole.error, &whole.trailers),
            "{cuts}"
        );
        // Bytes before an error count for nothing, as the connection ends.
        if whole.error.is_none() {
            assert_eq!((other.consumed, other.complete), (whole.consumed, whole.complete), "{cuts}");
        }
    };
    for cut in 0..=input.len() {
        same(decode(framing, limits, input, &[cut]), &format!("cut at {cut}"));
    }
    let every: Vec<usize> = (0..input.len()).collect();
    same(decode(framing, limits, input, &every), "byte by byte");
    whole
}

fn chunked(input: &str) -> Outcome {
    decode_every_way(BodyFraming::Chunked, &Limits::default(), input.as_bytes())
}

#[test]
fn rfc9112_6_2_a_body_of_known_length() {
    let limits = Limits::default();
    let outcome = decode_every_way(BodyFraming::Length(5), &limits, b"helloGET");
    assert_eq!((&outcome.data[..], outcome.consumed, outcome.complete), (&b"hello"[..], 5, true));
    let outcome = decode_every_way(BodyFraming::Length(5), &limits, b"hell");
    assert_eq!((&outcome.data[..], outcome.complete), (&b"hell"[..], false));
}

#[test]
fn no_body_ends_at_once() {
    for framing in [BodyFraming::None, BodyFraming::Length(0)] {
        let outcome = decode_every_way(framing, &Limits::default(), b"GET");
        assert_eq!((outcome.consumed, outcome.complete), (0, true));
    }
}

#[test]
fn rfc9112_6_3_a_body_until_close_ends_by_finish() {
    let mut body = BodyDecoder::new(BodyFraming::UntilClose, &Limits::default()).unwrap();
    assert_eq!(body.decode(b"abc"), Ok(Decoded::Data(0..3)));
    assert_eq!(body.decode(b""), Ok(Decoded::Partial));
    assert!(!body.is_complete());
    assert_eq!(body.finish(), Ok(()));
    assert!(body.is_complete());
    assert_eq!(body.decode(b""), Ok(Decoded::End { consumed: 0 }));
}

#[test]
fn rfc9112_8_a_connection_that_ends_too_early() {
    for (framing, input) in [
        (BodyFraming::Length(5), "hell"),
        (BodyFraming::Chunked, ""),
        (BodyFraming::Chunked, "5\r\nhell"),
        (BodyFraming::Chunked, "5\r\nhello\r\n0\r\n"),
        (BodyFraming::Chunked, "0\r\nA: 1\r\n\r"),
    ] {
        let mut body = BodyDecoder::new(framing, &Limits::default()).unwrap();
        let mut at = 0;
        while let Ok(Decoded::Data(range)) = body.decode(&input.as_bytes()[at..]) {
            at += range.end;
        }
        assert_eq!(body.finish(), Err(BodyError::Incomplete), "{input:?}");
    }
}

#[test]
fn rfc9112_7_1_chunks() {
    let cases = [
        ("0\r\n\r\nGET", "", 5),
        ("5\r\nhello\r\n0\r\n\r\nGET", "hello", 15),
        ("5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", "hello world", 31),
        ("00a\r\n0123456789\r\n000\r\n\r\n", "0123456789", 24),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 20),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 12),
        ("3\r\n0\r\n\r\n0\r\n\r\n", "0\r\n", 13),
    ];
    for (input, data, consumed) in cases {
        let outcome = chunked(input);
        assert_eq!((outcome.error, outcome.complete, outcome.trailers), (None, true, None), "{input:?}");
        assert_eq!((outcome.data, outcome.consumed), (data.as_bytes().to_vec(), consumed), "{input:?}");
    }
}

#[test]
fn rfc9112_7_1_1_extensions_are_ignored() {
    let extensions = [
        ";a",
        ";a=b",
        "; a = b",
        " ; a\t=\tb ;c",
        ";a;b;5",
        ";a=\"b;c\\\"d\"",
        ";a=\"\"",
        ";a=\"\u{e9}\\\u{e9}\t\";b",
    ];
    for extension in extensions {
        let outcome = chunked(&format!("2{extension}\r\nhi\r\n0{extension}\r\n\r\n"));
        assert_eq!((&outcome.data[..], outcome.complete), (&b"hi"[..], true), "{extension:?}");
    }
}

#[test]
fn rfc9112_7_1_2_trailers_are_kept_but_for_those_that_may_not_be_believed() {
    let outcome = chunked(
        "1\r\nx\r\n0\r\nDigest: a\r\ndigest:b \r\nX:\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: h\r\n\
         Authorization: a\r\nSet-Cookie: c\r\nX-Forwarded-For: f\r\nTrailer: t\r\nConnection: close\r\n\r\nGET",
    );
    let trailers = outcome.trailers.unwrap();
    let kept: Vec<_> =
        trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(kept, [("digest", "a"), ("digest", "b"), ("x", "")]);
    assert!(chunked("0\r\nHost: h\r\n\r\n").trailers.unwrap().is_empty());
    assert_eq!(chunked("0\r\nA: 1\r\n").trailers, None, "not before the end");
}

#[test]
fn chunked_forms_that_two_parsers_could_read_in_two_ways() {
    use BodyError::{ChunkExtension, ChunkSize, LineEnd, Trailer};
    let cases = [
        ("empty size", ChunkSize, "\r\nhello"),
        ("extension without size", ChunkSize, ";a\r\n"),
        ("sign", ChunkSize, "+5\r\nhello\r\n"),
        ("negative", ChunkSize, "-5\r\nhello\r\n"),
        ("0x", ChunkSize, "0x5\r\nhello\r\n"),
        ("underscore", ChunkSize, "1_0\r\n"),
        ("leading space", ChunkSize, " 5\r\nhello\r\n"),
        ("space after the size", ChunkExtension, "5 \r\nhello\r\n"),
        ("space in the size", ChunkExtension, "5 0\r\nhello\r\n"),
        ("tab after the size", ChunkExtension, "5\t\r\nhello\r\n"),
        ("no hexadecimal digit", ChunkSize, "5g\r\nhello\r\n"),
        ("comma", ChunkSize, "5,5\r\nhello\r\n"),
        ("beyond ASCII", ChunkSize, "\u{ff15}\r\nhello\r\n"),
        ("NUL", ChunkSize, "5\0\r\nhello\r\n"),
        ("overflow to a small size", ChunkSize, "10000000000000005\r\nhello\r\n"),
        ("17 digits", ChunkSize, "fffffffffffffffff\r\n"),
        ("bare LF after the size", ChunkSize, "5\nhello\r\n0\r\n\r\n"),
        ("bare CR after the size", LineEnd, "5\rhello\r\n0\r\n\r\n"),
        ("two CR after the size", LineEnd, "5\r\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after an extension", LineEnd, "5;a\nhello\r\n0\r\n\r\n"),
        ("no name of an extension", ChunkExtension, "5;\r\nhello\r\n"),
        ("white space as an extension", ChunkExtension, "5;\t\r\nhello\r\n"),
        ("two semicolons", ChunkExtension, "5;;a\r\nhello\r\n"),
        ("no name before a value", ChunkExtension, "5;=a\r\nhello\r\n"),
        ("no value of an extension", ChunkExtension, "5;a=\r\nhello\r\n"),
        ("an extension that is no token", ChunkExtension, "5;bad[=x\r\nhello\r\n"),
        ("a value that is no token", ChunkExtension, "5;a=\u{e9}\r\nhello\r\n"),
        ("a quotation mark in a token", ChunkExtension, "5;a=b\"c\"\r\nhello\r\n"),
        ("more after a quoted value", ChunkExtension, "5;a=\"b\"c\r\nhello\r\n"),
        ("an open quoted value", ChunkExtension, "5;a=\"b\r\nhello\r\n"),
        ("white space in an extension", ChunkExtension, "5;a b\r\nhello\r\n"),
        ("white space after an extension", ChunkExtension, "5;a \r\nhello\r\n"),
        ("bare CR in an extension", LineEnd, "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("quoted bare LF in an extension", LineEnd, "5;a=\"\n\"\r\nhello\r\n"),
        ("NUL in an extension", ChunkExtension, "5;a\0\r\nhello\r\n"),
        ("DEL in an extension", ChunkExtension, "5;a\u{7f}\r\nhello\r\n"),
        ("data longer than its size", LineEnd, "4\r\nhello\r\n0\r\n\r\n"),
        ("data shorter than its size", LineEnd, "6\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the data", LineEnd, "5\r\nhello\n0\r\n\r\n"),
        ("bare CR after the data", LineEnd, "5\r\nhello\r0\r\n\r\n"),
        ("no line end after the data", LineEnd, "5\r\nhello0\r\n\r\n"),
        ("two line ends after the data", ChunkSize, "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("bare LF as the empty line", LineEnd, "0\r\n\n"),
        ("bare LF after a trailer", LineEnd, "0\r\nA: 1\n\r\n"),
        ("bare CR in a trailer", LineEnd, "0\r\nA: 1\rB: 2\r\n\r\n"),
        ("bare CR as the empty line", LineEnd, "0\r\n\rGET"),
        ("obs-fold in a trailer", Trailer, "0\r\nA: 1\r\n 2\r\n\r\n"),
        ("space before a trailer", Trailer, "0\r\n A: 1\r\n\r\n"),
        ("space before the colon of a trailer", Trailer, "0\r\nA : 1\r\n\r\n"),
        ("trailer without a colon", Trailer, "0\r\nGET / HTTP/1.1\r\n\r\n"),
        ("trailer without a name", Trailer, "0\r\n: 1\r\n\r\n"),
        ("NUL in a trailer", Trailer, "0\r\nA: \0\r\n\r\n"),
    ];
    for (rule, error, input) in cases {
        let outcome = chunked(input);
        assert_eq!(outcome.error, Some(error), "{rule}");
        assert_eq!(error.status(), 400, "{rule}");
        assert_eq!((outcome.complete, outcome.trailers), (false, None), "{rule}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let limits = Limits { body_bytes: 8, ..Limits::default() };
    let outcome = |framing, input: &str| decode_every_way(framing, &limits, input.as_bytes());
    let too_large = Some(BodyError::TooLarge);
    assert_eq!(outcome(BodyFraming::Length(9), "").error, too_large);
    assert!(outcome(BodyFraming::Length(8), "12345678").complete);
    // The size line alone is enough, whether in one chunk or in many.
    assert_eq!(outcome(BodyFraming::Chunked, "9\r\n").error, too_large);
    assert_eq!(outcome(BodyFraming::Chunked, "ffffffffffffffff\r\n").error, too_large);
    assert_eq!(outcome(BodyFraming::Chunked, "5\r\nhello\r\n4\r\n").error, too_large);
    assert!(outcome(BodyFraming::Chunked, "5\r\nhello\r\n3\r\n123\r\n0\r\n\r\n").complete);
    let mut body = BodyDecoder::new(BodyFraming::UntilClose, &limits).unwrap();
    assert_eq!(body.decode(b"12345678"), Ok(Decoded::Data(0..8)));
    assert_eq!(body.decode(b"9"), Err(BodyError::TooLarge));
    assert_eq!(BodyError::TooLarge.status(), 413);
}

#[test]
fn chunk_line_bytes_counts_size_and_extension() {
    let limits = Limits { chunk_line_bytes: 4, ..Limits::default() };
    let error = |input: &str| decode_every_way(BodyFraming::Chunked, &limits, input.as_bytes()).error;
    assert_eq!(error("0002\r\nhi\r\n2;ab\r\nhi\r\n0;ab\r\n\r\n"), None);
    assert_eq!(error("00002\r\nhi\r\n"), Some(BodyError::ChunkLineTooLong));
    assert_eq!(error("2;abc\r\nhi\r\n"), Some(BodyError::ChunkLineTooLong));
}

#[test]
fn extension_flood_is_bounded_over_the_whole_body() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(253));
    // 254 bytes of extension each: 64 of them are under 16 KiB, and 65 are over it.
    let flood = |chunks: usize| {
        let input = chunk.repeat(chunks);
        decode(BodyFraming::Chunked, &Limits::default(), input.as_bytes(), &[]).error
    };
    assert_eq!(flood(64), None);
    assert_eq!(flood(65), Some(BodyError::ChunkLineTooLong));
}

#[test]
fn trailer_flood_is_bounded() {
    let limits = Limits { trailer_bytes: 20, headers: 2, ..Limits::default() };
    let error = |input: &str| decode_every_way(BodyFraming::Chunked, &limits, input.as_bytes()).error;
    let line = |value: usize| format!("0\r\na: {}\r\n\r\n", "x".repeat(value));
    assert_eq!(error(&line(15)), None);
    assert_eq!(error(&line(16)), Some(BodyError::TrailerTooLarge));
    assert_eq!(error("0\r\na: 1\r\nb: 1\r\n\r\n"), None);
    assert_eq!(error("0\r\na:1\r\nb:1\r\nc:1\r\n\r\n"), Some(BodyError::TrailerTooLarge));
    assert_eq!(BodyError::TrailerTooLarge.status(), 431);
}
