#![no_main]

use gimmal_http::websocket::{ClientHandshake, DeflateConfig, ServerHandshake};
use gimmal_http::{HeaderValue, Method, StatusCode, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    // As the offer of a client to a server.
    let client = ClientHandshake::new(&[], Some(DeflateConfig::default())).unwrap();
    let mut request = client.headers();
    request.insert("sec-websocket-extensions", value.clone());
    request.insert("sec-websocket-protocol", value.clone());
    request.insert("origin", value.clone());
    request.insert("host", value.clone());
    if let Ok(handshake) = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request) {
        let _ = handshake.is_same_origin();
        for protocol in handshake.protocols() {
            assert!(handshake.accept(Some(protocol), Some(&DeflateConfig::default())).is_ok());
        }
    }
    // As the answer of a server to a client.
    let request = client.headers();
    let handshake = ServerHandshake::read(&Method::GET, Version::HTTP_11, &request).unwrap();
    let mut answer = handshake.accept(None, None).unwrap().headers;
    answer.insert("sec-websocket-extensions", value);
    let _ = client.confirm(StatusCode::SWITCHING_PROTOCOLS, &answer);
});
