//! Frames and messages by RFC 6455 sections 5 to 8 and RFC 7692 sections 6 to 8, each cut at every byte.

use gimmal_http::websocket::{
    ClientHandshake, CloseCode, CloseFrame, Decoder, Deflate, DeflateConfig, Encoder, Event, Message,
    MessageKind, PreparedMessage, Role, SendError, ServerHandshake, WebSocketError, WebSocketLimits,
};
use gimmal_http::{Method, Version};

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Part(MessageKind, Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Error(WebSocketError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.into_owned()),
            Event::Part { kind, data, is_last } => Self::Part(kind, data.into_owned(), is_last),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned())))
            }
        }
    }
}

/// Everything that a decoder finds in `bytes`, which arrive in the pieces that `cuts` make.
fn decode(mut decoder: Decoder, bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut start = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        let mut rest = &mut piece[..];
        loop {
            match decoder.decode(rest) {
                Ok(decoded) => {
                    let is_idle = decoded.event.is_none();
                    seen.extend(decoded.event.map(Seen::from));
                    let consumed = decoded.consumed;
                    rest = &mut rest[consumed..];
                    if is_idle {
                        assert!(rest.is_empty(), "without an event all of the input is used up");
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut []), Err(error), "an error stays");
                    seen.push(Seen::Error(error));
                    return seen;
                }
            }
        }
    }
    seen
}

/// The same for the whole input, after a check that no cut changes it.
fn decode_every_way(decoder: impl Fn() -> Decoder, bytes: &[u8]) -> Vec<Seen> {
    let whole = decode(decoder(), bytes, &[]);
    for cut in 0..=bytes.len() {
        assert_eq!(decode(decoder(), bytes, &[cut]), whole, "cut at {cut}");
    }
    let every: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(decode(decoder(), bytes, &every), whole, "byte by byte");
    whole
}

fn client(bytes: &[u8]) -> Vec<Seen> {
    decode_every_way(|| Decoder::new(Role::Client, WebSocketLimits::default(), None), bytes)
}

fn server(bytes: &[u8]) -> Vec<Seen> {
    decode_every_way(|| Decoder::new(Role::Server, WebSocketLimits::default(), None), bytes)
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

#[test]
fn rfc6455_5_7_the_examples() {
    assert_eq!(client(b"\x81\x05\x48\x65\x6c\x6c\x6f"), [text("Hello")]);
    assert_eq!(server(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), [text("Hello")]);
    assert_eq!(client(b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f"), [text("Hello")]);
    assert_eq!(client(b"\x89\x05\x48\x65\x6c\x6c\x6f"), [Seen::Ping(b"Hello".to_vec())]);
    assert_eq!(server(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), [Seen::Pong(b"Hello".to_vec())]);
    let binary = |head: &[u8], len: usize| {
        let bytes = [head, &vec![7; len]].concat();
        let decoder = Decoder::new(Role::Client, WebSocketLimits::default(), None);
        assert_eq!(decode(decoder, &bytes, &[]), [Seen::Binary(vec![7; len])]);
    };
    binary(b"\x82\x7e\x01\x00", 256);
    binary(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 65536);
}

#[test]
fn rfc6455_5_2_every_length_in_its_shortest_form() {
    let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
    for (len, head) in [
        (0, &b"\x82\x00"[..]),
        (1, b"\x82\x01"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ] {
        let payload = vec![1; len];
        out.clear();
        encoder.message(Message::Binary(&payload), &mut out).unwrap();
        assert_eq!(out, [head, &payload].concat(), "{len}");
        let decoder = Decoder::new(Role::Client, WebSocketLimits::default(), None);
        assert_eq!(decode(decoder, &out, &[]), [Seen::Binary(payload)]);
    }
    for bytes in [
        &b"\x82\x7e\x00\x00"[..],
        b"\x82\x7e\x00\x7d",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(client(bytes), [Seen::Error(WebSocketError::Length)], "{bytes:x?}");
    }
}

#[test]
fn rfc6455_5_2_reserved_bits_and_opcodes() {
    for first in [0x91, 0xa1, 0xc1, 0xf1, 0xc0, 0xc9, 0x99] {
        assert_eq!(client(&[first, 0]), [Seen::Error(WebSocketError::ReservedBit)], "{first:x}");
    }
    for opcode in (3..8).chain(11..16) {
        assert_eq!(client(&[0x80 | opcode, 0]), [Seen::Error(WebSocketError::Opcode)], "{opcode}");
    }
}

#[test]
fn rfc6455_5_1_a_client_masks_and_a_server_does_not() {
    assert_eq!(server(b"\x81\x00"), [Seen::Error(WebSocketError::MaskMissing)]);
    assert_eq!(server(b"\x89\x00"), [Seen::Error(WebSocketError::MaskMissing)]);
    assert_eq!(client(b"\x81\x80\0\0\0\0"), [Seen::Error(WebSocketError::MaskForbidden)]);
    assert_eq!(client(b"\x88\x80\0\0\0\0"), [Seen::Error(WebSocketError::MaskForbidden)]);
}

#[test]
fn rfc6455_5_3_every_frame_of_a_client_has_a_key_of_its_own() {
    let mut encoder = Encoder::new(Role::Client, None);
    let mut keys = std::collections::HashSet::new();
    for _ in 0..200 {
        let mut out = Vec::new();
        encoder.message("same text".into(), &mut out).unwrap();
        assert_eq!((out[0], out[1], out.len()), (0x81, 0x89, 2 + 4 + 9));
        keys.insert(out[2..6].to_vec());
        assert_eq!(server(&out), [text("same text")]);
    }
    assert!(keys.len() > 190, "{} keys of 200", keys.len());
}

#[test]
fn rfc6455_5_4_fragments() {
    // Control frames may come between them, and empty fragments are fragments.
    let bytes = b"\x01\x02He\x89\x01p\x00\x00\x00\x02ll\x8a\x01q\x80\x01o\x82\x01\xff";
    let seen = [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), text("Hello"), Seen::Binary(vec![255])];
    assert_eq!(client(bytes), seen);
    assert_eq!(client(b"\x02\x00\x80\x00"), [Seen::Binary(vec![])]);
    assert_eq!(client(b"\x80\x00"), [Seen::Error(WebSocketError::ContinuationUnexpected)]);
    assert_eq!(client(b"\x00\x01a"), [Seen::Error(WebSocketError::ContinuationUnexpected)]);
    assert_eq!(client(b"\x01\x00\x81\x00"), [Seen::Error(WebSocketError::ContinuationMissing)]);
    assert_eq!(client(b"\x02\x01a\x01\x01a"), [Seen::Error(WebSocketError::ContinuationMissing)]);
    assert_eq!(
        client(b"\x81\x01a\x80\x01a"),
        [text("a"), Seen::Error(WebSocketError::ContinuationUnexpected)]
    );
}

#[test]
fn rfc6455_5_5_control_frames_are_short_and_whole() {
    let longest = [&[0x89, 125][..], &[1; 125]].concat();
    assert_eq!(client(&longest), [Seen::Ping(vec![1; 125])]);
    for opcode in [8, 9, 10] {
        assert_eq!(client(&[opcode, 0]), [Seen::Error(WebSocketError::ControlFragmented)]);
        assert_eq!(client(&[0x80 | opcode, 126]), [Seen::Error(WebSocketError::ControlTooLong)]);
        assert_eq!(client(&[0x80 | opcode, 127]), [Seen::Error(WebSocketError::ControlTooLong)]);
    }
    let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
    assert_eq!(encoder.ping(&[0; 126], &mut out), Err(SendError::ControlTooLong));
    assert_eq!(encoder.pong(&[0; 126], &mut out), Err(SendError::ControlTooLong));
    let reason = &"x".repeat(124);
    let frame = CloseFrame { code: CloseCode::NORMAL, reason };
    assert_eq!(encoder.close(Some(frame), &mut out), Err(SendError::ControlTooLong));
    assert!(out.is_empty() && !encoder.is_closed());
}

#[test]
fn rfc6455_5_5_1_close() {
    let close = |code, reason: &str| Seen::Close(Some((code, reason.to_owned())));
    assert_eq!(client(b"\x88\x00"), [Seen::Close(None)]);
    assert_eq!(client(b"\x88\x02\x03\xe8"), [close(1000, "")]);
    assert_eq!(client(b"\x88\x04\x0f\xa0ok"), [close(4000, "ok")]);
    assert_eq!(client(b"\x88\x04\x03\xe9\xc3\xa9"), [close(1001, "\u{e9}")]);
    assert_eq!(client(b"\x88\x00\x81\x01a\xff\xff"), [Seen::Close(None)], "nothing is read after it");
    assert_eq!(client(b"\x88\x01\x03"), [Seen::Error(WebSocketError::Close)]);
    assert_eq!(client(b"\x88\x03\x03\xe8\xff"), [Seen::Error(WebSocketError::Utf8)]);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let [high, low] = code.to_be_bytes();
        assert_eq!(client(&[0x88, 2, high, low]), [Seen::Error(WebSocketError::Close)], "{code}");
    }
    // In the middle of a message it is no error.
    assert_eq!(client(b"\x01\x01a\x88\x00"), [Seen::Close(None)]);
}

#[test]
fn rfc6455_5_5_1_nothing_is_sent_after_a_close() {
    let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
    let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "bye" };
    encoder.close(Some(frame), &mut out).unwrap();
    assert_eq!(out, b"\x88\x05\x03\xe9bye");
    out.clear();
    assert!(encoder.is_closed());
    assert_eq!(encoder.message("a".into(), &mut out), Err(SendError::Closed));
    assert_eq!(encoder.part("a".into(), true, &mut out), Err(SendError::Closed));
    assert_eq!(encoder.prepared(&PreparedMessage::new("a".into())), Err(SendError::Closed));
    assert_eq!(encoder.ping(b"", &mut out), Err(SendError::Closed));
    assert_eq!(encoder.close(None, &mut out), Err(SendError::Closed));
    assert!(out.is_empty());
}

#[test]
fn rfc6455_5_4_parts_are_sent_as_fragments() {
    let (mut encoder, mut out) = (Encoder::new(Role::Server, None), Vec::new());
    encoder.part("He".into(), false, &mut out).unwrap();
    assert_eq!(encoder.message("a".into(), &mut out), Err(SendError::MessageOpen));
    assert_eq!(encoder.prepared(&PreparedMessage::new("a".into())), Err(SendError::MessageOpen));
    assert_eq!(encoder.part(Message::Binary(b"\xff"), true, &mut out), Err(SendError::MessageOpen));
    encoder.ping(b"p", &mut out).unwrap();
    encoder.part("llo".into(), true, &mut out).unwrap();
    encoder.part("alone".into(), true, &mut out).unwrap();
    encoder.message(Message::Binary(b"b"), &mut out).unwrap();
    assert_eq!(out, b"\x01\x02He\x89\x01p\x80\x03llo\x81\x05alone\x82\x01b");
}

#[test]
fn rfc6455_8_1_text_is_utf_8_over_all_fragments() {
    // A character cut by frames.
    assert_eq!(client(b"\x01\x02\xce\xba\x00\x01\xe1\x80\x02\xbd\xb9"), [text("\u{3ba}\u{1f79}")]);
    for bytes in [
        &b"\x81\x01\xff"[..],
        b"\x81\x02\xc0\xaf",
        b"\x81\x03\xed\xa0\x80",
        b"\x81\x04\xf4\x90\x80\x80",
        b"\x81\x02\xe1\xbd",
        b"\x01\x01\xe1\x80\x01a",
        b"\x01\x02\xe1\xbd\x80\x00",
    ] {
        assert_eq!(client(bytes), [Seen::Error(WebSocketError::Utf8)], "{bytes:x?}");
    }
    assert_eq!(client(b"\x82\x01\xff"), [Seen::Binary(vec![255])]);
}

#[test]
fn rfc6455_8_1_text_fails_as_soon_as_it_can() {
    // The frame announces a hundred bytes; two of them are enough.
    assert_eq!(client(b"\x81\x64\xf4\x90"), [Seen::Error(WebSocketError::Utf8)]);
    assert_eq!(client(b"\x01\x64a\xff"), [Seen::Error(WebSocketError::Utf8)]);
}

#[test]
fn rfc6455_7_4_1_the_codes_of_errors() {
    assert_eq!(WebSocketError::Opcode.close_code(), CloseCode::PROTOCOL_ERROR);
    assert_eq!(WebSocketError::Utf8.close_code(), CloseCode::INVALID_PAYLOAD);
    assert_eq!(WebSocketError::MessageTooLarge.close_code(), CloseCode::TOO_LARGE);
    assert_eq!(WebSocketError::FrameTooLarge.close_code(), CloseCode::TOO_LARGE);
}

#[test]
fn rfc6455_10_4_limits() {
    let limits = WebSocketLimits { frame_bytes: 4, message_bytes: 6 };
    let seen = |bytes: &[u8]| decode_every_way(|| Decoder::new(Role::Client, limits, None), bytes);
    assert_eq!(seen(b"\x81\x04abcd"), [text("abcd")]);
    // The head is enough.
    assert_eq!(seen(b"\x81\x05"), [Seen::Error(WebSocketError::FrameTooLarge)]);
    assert_eq!(seen(b"\x81\x07"), [Seen::Error(WebSocketError::MessageTooLarge)]);
    assert_eq!(
        seen(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
        [Seen::Error(WebSocketError::MessageTooLarge)]
    );
    assert_eq!(seen(b"\x01\x04abcd\x80\x02ef"), [text("abcdef")]);
    assert_eq!(seen(b"\x01\x04abcd\x80\x03"), [Seen::Error(WebSocketError::MessageTooLarge)]);
    assert_eq!(seen(b"\x01\x04abcd\x80\x05"), [Seen::Error(WebSocketError::MessageTooLarge)]);
    // Control frames are no part of a message, and have a bound of their own.
    assert_eq!(seen(b"\x89\x05abcde"), [Seen::Ping(b"abcde".to_vec())]);
}

#[test]
fn parts_are_handed_on_as_they_come() {
    let decoder = || Decoder::new(Role::Client, WebSocketLimits::default(), None).in_parts();
    let part = |data: &[u8], is_last| Seen::Part(MessageKind::Text, data.to_vec(), is_last);
    let bytes = b"\x01\x03He\xc3\x00\x00\x80\x02\xa9!";
    assert_eq!(decode(decoder(), bytes, &[]), [part(b"He\xc3", false), part(b"\xa9!", true)]);
    assert_eq!(
        decode(decoder(), bytes, &[3, 9]),
        [part(b"H", false), part(b"e\xc3", false), part(b"\xa9!", true)]
    );
    assert_eq!(decode(decoder(), bytes, &[10]).last(), Some(&part(b"!", true)));
    assert_eq!(decode(decoder(), b"\x81\x00", &[]), [part(b"", true)]);
    assert_eq!(
        decode(decoder(), b"\x01\x01\xc3\x80\x01a", &[]),
        [part(b"\xc3", false), Seen::Error(WebSocketError::Utf8)]
    );
    let limits = WebSocketLimits { message_bytes: 2, ..WebSocketLimits::default() };
    let small = Decoder::new(Role::Client, limits, None).in_parts();
    assert_eq!(
        decode(small, b"\x02\x02ab\x80\x01c", &[]),
        [
            Seen::Part(MessageKind::Binary, b"ab".to_vec(), false),
            Seen::Error(WebSocketError::MessageTooLarge)
        ]
    );
}

/// What two of ours agree on when the client wants this.
fn agreed(config: DeflateConfig) -> Deflate {
    let request = ClientHandshake::new(&[], Some(config)).unwrap().headers();
    let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
    handshake.accept(None, Some(&config)).unwrap().deflate.unwrap()
}

const KEEPING: DeflateConfig = DeflateConfig {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
    level: 6,
    threshold_bytes: 0,
};

const FORGETTING: DeflateConfig =
    DeflateConfig { server_no_context_takeover: true, client_no_context_takeover: true, ..KEEPING };

fn deflating_client(config: DeflateConfig, bytes: &[u8]) -> Vec<Seen> {
    let deflate = agreed(config);
    decode_every_way(|| Decoder::new(Role::Client, WebSocketLimits::default(), Some(deflate)), bytes)
}

#[test]
fn rfc7692_7_2_3_the_examples_as_frames() {
    let hello = [text("Hello")];
    assert_eq!(deflating_client(FORGETTING, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"), hello);
    assert_eq!(deflating_client(FORGETTING, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"), hello);
    let twice = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(deflating_client(KEEPING, twice), [text("Hello"), text("Hello")]);
    assert_eq!(deflating_client(FORGETTING, twice), [text("Hello"), Seen::Error(WebSocketError::Deflate)]);
    assert_eq!(deflating_client(FORGETTING, b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), hello);
    assert_eq!(deflating_client(FORGETTING, b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), hello);
    assert_eq!(
        deflating_client(FORGETTING, b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
        hello
    );
    assert_eq!(deflating_client(FORGETTING, b"\xc1\x01\x00"), [text("")]);
    // Section 6: a message that is not compressed stays one, and changes no window.
    let mixed = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x02hi\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(deflating_client(KEEPING, mixed), [text("Hello"), text("hi"), text("Hello")]);
}

#[test]
fn rfc7692_6_1_only_the_first_data_frame_has_the_bit() {
    let error = [Seen::Error(WebSocketError::ReservedBit)];
    assert_eq!(deflating_client(FORGETTING, b"\x41\x03\xf2\x48\xcd\xc0\x04\xc9\xc9\x07\x00"), error);
    assert_eq!(deflating_client(FORGETTING, b"\xc9\x00"), error);
    assert_eq!(deflating_client(FORGETTING, b"\x01\x00\xc0\x00"), error);
    assert_eq!(deflating_client(FORGETTING, b"\xa1\x00"), error);
}

#[test]
fn rfc7692_8_what_cannot_be_decompressed_fails() {
    let error = [Seen::Error(WebSocketError::Deflate)];
    assert_eq!(deflating_client(FORGETTING, b"\xc2\x02\xff\xff"), error);
    assert_eq!(deflating_client(FORGETTING, b"\xc2\x05\x00\x05\x00\x00\x00"), error);
    // What decompresses to no text is none.
    let (mut encoder, mut out) = (Encoder::new(Role::Server, Some(agreed(FORGETTING))), Vec::new());
    encoder.message(Message::Binary(b"\xff\xfe\xfd"), &mut out).unwrap();
    out[0] = out[0] & !2 | 1;
    assert_eq!(deflating_client(FORGETTING, &out), [Seen::Error(WebSocketError::Utf8)]);
}

#[test]
fn rfc7692_7_2_1_what_is_sent() {
    let mut encoder = Encoder::new(Role::Server, Some(agreed(KEEPING)));
    let mut out = Vec::new();
    encoder.message("Hello".into(), &mut out).unwrap();
    encoder.message("Hello".into(), &mut out).unwrap();
    assert_eq!(out, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00");
    // Short messages are not worth it.
    let config = DeflateConfig { threshold_bytes: 6, ..KEEPING };
    let mut encoder = Encoder::new(Role::Server, Some(agreed(config)));
    out.clear();
    encoder.message("Hello".into(), &mut out).unwrap();
    assert_eq!(out, b"\x81\x05Hello");
}

#[test]
fn rfc7692_7_2_1_parts_are_compressed_together() {
    for config in [KEEPING, FORGETTING] {
        let mut encoder = Encoder::new(Role::Server, Some(agreed(config)));
        let mut out = Vec::new();
        for _ in 0..2 {
            encoder.part("Hello ".into(), false, &mut out).unwrap();
            encoder.pong(b"", &mut out).unwrap();
            encoder.part("Hello ".into(), false, &mut out).unwrap();
            encoder.part("".into(), true, &mut out).unwrap();
        }
        let pong = Seen::Pong(vec![]);
        let expected = [pong.clone(), text("Hello Hello "), pong, text("Hello Hello ")];
        assert_eq!(deflating_client(config, &out), expected);
    }
}

#[test]
fn rfc7692_7_1_2_a_small_window_is_kept() {
    // A repetition further back than the window may not be referred to, so it costs its full length again.
    let noise: Vec<u8> =
        (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (i >> 3) as u8).collect();
    let message = [&noise[..], &noise].concat();
    let len = |server_max_window_bits| {
        let config = DeflateConfig { server_max_window_bits, ..FORGETTING };
        let (mut encoder, mut out) = (Encoder::new(Role::Server, Some(agreed(config))), Vec::new());
        encoder.message(Message::Binary(&message), &mut out).unwrap();
        let decoder = Decoder::new(Role::Client, WebSocketLimits::default(), Some(agreed(config)));
        assert_eq!(decode(decoder, &out, &[]), [Seen::Binary(message.clone())]);
        out.len()
    };
    assert!(len(15) < 5000, "{}", len(15));
    assert!(len(9) > 7000, "{}", len(9));
}

#[test]
fn decompression_bomb() {
    let deflate = agreed(FORGETTING);
    let mut bomb = Vec::new();
    let zeros = vec![0; 8 << 20];
    Encoder::new(Role::Server, Some(deflate)).message(Message::Binary(&zeros), &mut bomb).unwrap();
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let limits = WebSocketLimits { message_bytes: 1 << 20, ..WebSocketLimits::default() };
    for in_parts in [false, true] {
        let mut decoder = Decoder::new(Role::Client, limits, Some(deflate));
        if in_parts {
            decoder = decoder.in_parts();
        }
        assert_eq!(decode(decoder, &bomb, &[]), [Seen::Error(WebSocketError::MessageTooLarge)]);
    }
    // Exactly at the limit it is a message.
    let mut largest = Vec::new();
    Encoder::new(Role::Server, Some(deflate))
        .message(Message::Binary(&zeros[..1 << 20]), &mut largest)
        .unwrap();
    let decoder = Decoder::new(Role::Client, limits, Some(deflate));
    assert_eq!(decode(decoder, &largest, &[]), [Seen::Binary(vec![0; 1 << 20])]);
}

#[test]
fn decompression_bomb_in_fragments() {
    let deflate = agreed(FORGETTING);
    let (mut encoder, mut bomb) = (Encoder::new(Role::Server, Some(deflate)), Vec::new());
    for _ in 0..64 {
        encoder.part(Message::Binary(&[0; 1 << 16]), false, &mut bomb).unwrap();
    }
    let limits = WebSocketLimits { message_bytes: 1 << 20, ..WebSocketLimits::default() };
    let decoder = Decoder::new(Role::Client, limits, Some(deflate));
    assert_eq!(decode(decoder, &bomb, &[]), [Seen::Error(WebSocketError::MessageTooLarge)]);
}

#[test]
fn a_prepared_message_is_shared_and_not_copied() {
    let message = PreparedMessage::compressed("Hello Hello Hello Hello".into(), 6);
    let (plain, compressed) = {
        let plain = Encoder::new(Role::Server, None).prepared(&message).unwrap();
        let compressed = Encoder::new(Role::Server, Some(agreed(FORGETTING))).prepared(&message).unwrap();
        (plain, compressed)
    };
    assert_eq!(client(&plain), [text("Hello Hello Hello Hello")]);
    assert!(compressed.len() < plain.len() && compressed[0] == 0xc1);
    for _ in 0..10 {
        let again = Encoder::new(Role::Server, None).prepared(&message).unwrap();
        assert_eq!(again.as_ptr(), plain.as_ptr());
        let again = Encoder::new(Role::Server, Some(agreed(KEEPING))).prepared(&message).unwrap();
        assert_eq!(again.as_ptr(), compressed.as_ptr());
    }
    // A connection with a smaller window gets it as it is.
    let small = agreed(DeflateConfig { server_max_window_bits: 10, ..KEEPING });
    let for_small = Encoder::new(Role::Server, Some(small)).prepared(&message).unwrap();
    assert_eq!(for_small.as_ptr(), plain.as_ptr());
    // A client masks, so each frame is one of its own.
    let masked = Encoder::new(Role::Client, None).prepared(&message).unwrap();
    assert_eq!(server(&masked), [text("Hello Hello Hello Hello")]);
}

#[test]
fn rfc7692_7_1_1_a_prepared_message_between_others_keeps_the_windows_in_step() {
    let prepared = PreparedMessage::compressed("something else altogether, something else".into(), 6);
    let mut encoder = Encoder::new(Role::Server, Some(agreed(KEEPING)));
    let mut out = Vec::new();
    for _ in 0..3 {
        encoder.message("Hello Hello".into(), &mut out).unwrap();
        out.extend_from_slice(&encoder.prepared(&prepared).unwrap());
    }
    let pair = [text("Hello Hello"), text("something else altogether, something else")];
    assert_eq!(deflating_client(KEEPING, &out), [&pair[..], &pair, &pair].concat());
}

#[test]
fn an_idle_connection_is_small() {
    let (decoder, encoder) = (size_of::<Decoder>(), size_of::<Encoder>());
    assert!(decoder + encoder <= 256, "{decoder} and {encoder}");
}
