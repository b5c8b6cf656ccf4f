//! What holds for every WebSocket connection: what is sent is received, and cuts change nothing.

use gimmal_http::websocket::{
    ClientHandshake, CloseCode, CloseFrame, Decoder, Deflate, DeflateConfig, Encoder, Event, Message,
    MessageKind, PreparedMessage, Role, ServerHandshake, WebSocketError, WebSocketLimits,
};
use gimmal_http::{Method, Version};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What is sent, and what must be received.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    /// In parts of this many bytes or a little more.
    Parts(usize),
    Prepared,
}

fn item() -> impl Strategy<Value = (Item, Way)> {
    let way = prop_oneof![Just(Way::Whole), (1usize..40).prop_map(Way::Parts), Just(Way::Prepared)];
    let item = prop_oneof![
        3 => "\\PC{0,20}".prop_map(Item::Text),
        2 => "(ab|cd|\u{1f600}){0,60}".prop_map(Item::Text),
        2 => vec(any::<u8>(), 0..200).prop_map(Item::Binary),
        1 => (any::<u8>(), 0usize..70_000).prop_map(|(byte, len)| Item::Binary(vec![byte; len])),
        1 => vec(any::<u8>(), 0..126).prop_map(Item::Ping),
        1 => vec(any::<u8>(), 0..126).prop_map(Item::Pong),
    ];
    (item, way)
}

fn config() -> impl Strategy<Value = Option<DeflateConfig>> {
    let config = (any::<bool>(), any::<bool>(), 9u8..=15, 9u8..=15, 1u8..=9, select(vec![0usize, 20]));
    option::of(config.prop_map(|(server, client, server_bits, client_bits, level, threshold_bytes)| {
        DeflateConfig {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
            level,
            threshold_bytes,
        }
    }))
}

fn agreed(config: Option<DeflateConfig>) -> Option<Deflate> {
    let request = ClientHandshake::new(&[], config).unwrap().headers();
    let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
    handshake.accept(None, config.as_ref()).unwrap().deflate
}

fn send(encoder: &mut Encoder, item: &Item, way: Way, out: &mut Vec<u8>) {
    let message = match item {
        Item::Ping(payload) => return encoder.ping(payload, out).unwrap(),
        Item::Pong(payload) => return encoder.pong(payload, out).unwrap(),
        Item::Close(frame) => {
            let frame = frame
                .as_ref()
                .map(|(code, reason)| CloseFrame { code: CloseCode::new(*code).unwrap(), reason });
            return encoder.close(frame, out).unwrap();
        }
        Item::Text(text) => Message::from(&text[..]),
        Item::Binary(bytes) => Message::from(&bytes[..]),
    };
    match way {
        Way::Whole => encoder.message(message, out).unwrap(),
        Way::Prepared => {
            let prepared = PreparedMessage::compressed(message, 6);
            out.extend_from_slice(&encoder.prepared(&prepared).unwrap());
        }
        Way::Parts(size) => {
            let mut rest = message;
            loop {
                let (part, tail) = split(rest, size);
                let is_last = matches!(tail, Message::Text("") | Message::Binary([]));
                encoder.part(part, is_last, out).unwrap();
                if is_last {
                    break;
                }
                rest = tail;
            }
        }
    }
}

fn split(message: Message<'_>, size: usize) -> (Message<'_>, Message<'_>) {
    match message {
        Message::Binary(bytes) => {
            let (part, tail) = bytes.split_at(size.min(bytes.len()));
            (part.into(), tail.into())
        }
        Message::Text(text) => {
            let end = (size..text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            let (part, tail) = text.split_at(end);
            (part.into(), tail.into())
        }
    }
}

/// Everything that is received, with parts put together again, and the error at the end.
fn receive(mut decoder: Decoder, bytes: &[u8], cuts: &[Index]) -> (Vec<Item>, Option<WebSocketError>) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let (mut items, mut parts, mut start) = (Vec::new(), Vec::new(), 0);
    for end in ends {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        let mut rest = &mut piece[..];
        loop {
            let decoded = match decoder.decode(rest) {
                Ok(decoded) => decoded,
                Err(error) => return (items, Some(error)),
            };
            let Some(event) = decoded.event else { break };
            match event {
                Event::Text(text) => items.push(Item::Text(text.into_owned())),
                Event::Binary(bytes) => items.push(Item::Binary(bytes.into_owned())),
                Event::Part { kind, data, is_last } => {
                    parts.extend_from_slice(&data);
                    if is_last {
                        let whole = std::mem::take(&mut parts);
                        items.push(match kind {
                            MessageKind::Text => Item::Text(String::from_utf8(whole).unwrap()),
                            MessageKind::Binary => Item::Binary(whole),
                        });
                    }
                }
                Event::Ping(payload) => items.push(Item::Ping(payload.to_vec())),
                Event::Pong(payload) => items.push(Item::Pong(payload.to_vec())),
                Event::Close(frame) => {
                    items.push(Item::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned()))));
                }
            }
            let consumed = decoded.consumed;
            rest = &mut rest[consumed..];
        }
    }
    (items, None)
}

/// Bytes that are often nearly frames.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = select(vec![
        0x00u8, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0xc2, 0x41, 0x83, 0x09, 0xff,
    ]);
    let payload = prop_oneof![
        Just(b"\xf2\x48\xcd\xc9\xc9\x07\x00".to_vec()),
        Just(b"\x03\xe8".to_vec()),
        Just("h\u{e9}".as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    let frame = (first, any::<bool>(), payload, 0u8..40).prop_map(|(first, is_masked, payload, odd)| {
        let len = payload.len() as u8 + u8::from(odd == 0);
        let mut frame = vec![first, len | if is_masked { 0x80 } else { 0 }];
        if is_masked {
            frame.extend_from_slice(&[0; 4]);
        }
        frame.extend_from_slice(&payload);
        frame
    });
    prop_oneof![
        4 => vec(frame, 0..6).prop_map(|frames| frames.concat()),
        1 => vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_is_received(
        items in vec(item(), 0..6),
        close in option::of((select(vec![1000u16, 1011, 4999]), "\\PC{0,20}")),
        is_client in any::<bool>(),
        config in config(),
        in_parts in any::<bool>(),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let (from, to) = if is_client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let deflate = agreed(config);
        let (mut encoder, mut bytes) = (Encoder::new(from, deflate), Vec::new());
        let close = (Item::Close(close), Way::Whole);
        for (item, way) in items.iter().chain([&close]) {
            send(&mut encoder, item, *way, &mut bytes);
        }
        let decoder = Decoder::new(to, WebSocketLimits::default(), deflate);
        let decoder = if in_parts { decoder.in_parts() } else { decoder };
        let expected: Vec<Item> = items.into_iter().chain([close]).map(|(item, _)| item).collect();
        prop_assert_eq!(receive(decoder, &bytes, &cuts), (expected, None));
    }

    #[test]
    fn any_bytes_give_one_answer(
        bytes in nearly_frames(),
        is_client in any::<bool>(),
        is_compressed in any::<bool>(),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let role = if is_client { Role::Client } else { Role::Server };
        let deflate = agreed(is_compressed.then(DeflateConfig::default));
        let limits = WebSocketLimits { frame_bytes: 100, message_bytes: 200 };
        let decoder = || Decoder::new(role, limits, deflate);
        let whole = receive(decoder(), &bytes, &[]);
        prop_assert_eq!(&receive(decoder(), &bytes, &cuts), &whole);
        // In parts the same messages come out, and the same errors.
        prop_assert_eq!(receive(decoder().in_parts(), &bytes, &cuts), whole);
    }
}
