#![no_main]

use std::sync::LazyLock;

use gimmal_fuzz::Input;
use gimmal_http::websocket::{
    ClientHandshake, Decoder, Deflate, DeflateConfig, Encoder, Event, MessageKind, Role, ServerHandshake,
    WebSocketLimits,
};
use gimmal_http::{Method, Version};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

const LIMITS: WebSocketLimits = WebSocketLimits { frame_bytes: 1 << 16, message_bytes: 1 << 16 };

fn agreed(keeps_context: bool) -> Deflate {
    let config = DeflateConfig {
        server_no_context_takeover: !keeps_context,
        client_no_context_takeover: !keeps_context,
        threshold_bytes: 0,
        ..DeflateConfig::default()
    };
    let request = ClientHandshake::new(&[], Some(config)).unwrap().headers();
    let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
    handshake.accept(None, Some(&config)).unwrap().deflate.unwrap()
}

/// All that is received, with parts put together, and whether it ended in an error.
fn receive(mut decoder: Decoder, bytes: &[u8], ends: &[usize]) -> (Vec<Item>, bool) {
    let (mut items, mut parts, mut start) = (Vec::new(), Vec::new(), 0);
    for &end in ends {
        let mut piece = bytes[start..end].to_vec();
        start = end;
        let mut rest = &mut piece[..];
        loop {
            let Ok(decoded) = decoder.decode(rest) else { return (items, true) };
            let consumed = decoded.consumed;
            let Some(event) = decoded.event else {
                assert_eq!(consumed, rest.len());
                break;
            };
            items.push(match event {
                Event::Text(text) => Item::Text(text.into_owned()),
                Event::Binary(bytes) => Item::Binary(bytes.into_owned()),
                Event::Part { kind, data, is_last } => {
                    parts.extend_from_slice(&data);
                    rest = &mut rest[consumed..];
                    if !is_last {
                        continue;
                    }
                    let whole = std::mem::take(&mut parts);
                    items.push(match kind {
                        MessageKind::Text => Item::Text(String::from_utf8(whole).expect("UTF-8")),
                        MessageKind::Binary => Item::Binary(whole),
                    });
                    continue;
                }
                Event::Ping(payload) => Item::Ping(payload.to_vec()),
                Event::Pong(payload) => Item::Pong(payload.to_vec()),
                Event::Close(frame) => {
                    Item::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned())))
                }
            });
            rest = &mut rest[consumed..];
        }
    }
    (items, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((selector, data)) = data.split_first() else { return };
    let Some(input) = Input::new(data) else { return };
    let (from, to) = match selector & 1 {
        0 => (Role::Client, Role::Server),
        _ => (Role::Server, Role::Client),
    };
    static DEFLATE: LazyLock<[Deflate; 2]> = LazyLock::new(|| [false, true].map(agreed));
    let deflate = (selector & 2 != 0).then(|| DEFLATE[usize::from(selector & 4 != 0)]);
    let decoder = || Decoder::new(to, LIMITS, deflate);
    let (message, [first, second]) = (input.message, input.cuts);
    let whole = receive(decoder(), message, &[message.len()]);
    assert_eq!(whole, receive(decoder(), message, &[first, second, message.len()]));
    if message.len() <= 128 {
        let every: Vec<usize> = (0..=message.len()).collect();
        assert_eq!(whole, receive(decoder(), message, &every));
    }
    assert_eq!(whole, receive(decoder().in_parts(), message, &[first, second, message.len()]));

    // What was received can be sent, and is received again.
    let (mut encoder, mut out) = (Encoder::new(from, deflate), Vec::new());
    for item in &whole.0 {
        match item {
            Item::Text(text) => encoder.message(text[..].into(), &mut out).unwrap(),
            Item::Binary(bytes) => encoder.message(bytes[..].into(), &mut out).unwrap(),
            Item::Ping(payload) => encoder.ping(payload, &mut out).unwrap(),
            Item::Pong(payload) => encoder.pong(payload, &mut out).unwrap(),
            Item::Close(frame) => {
                let frame = frame.as_ref().map(|(code, reason)| gimmal_http::websocket::CloseFrame {
                    code: gimmal_http::websocket::CloseCode::new(*code).expect("a code that was received"),
                    reason,
                });
                encoder.close(frame, &mut out).unwrap();
            }
        }
    }
    // A message at the limit may grow a little when it is compressed.
    let roomy = WebSocketLimits { frame_bytes: 1 << 20, ..LIMITS };
    let again = receive(Decoder::new(to, roomy, deflate), &out, &[out.len()]);
    assert_eq!(again, (whole.0, false));
});
