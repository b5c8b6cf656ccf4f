#![no_main]

use gimmal_fuzz::{Answer, Input, check};
use gimmal_http::{BodyFraming, Limits, Parsed, RequestHead, encode_request};
use libfuzzer_sys::fuzz_target;

fn answer(head: &mut RequestHead, bytes: &[u8]) -> Answer {
    let Parsed::Complete(len) = head.parse(bytes, &Limits::default()).map_err(drop)? else { return Ok(None) };
    let view = head.view(bytes);
    let line = (view.method(), view.version(), view.target(), view.form(), view.path(), view.query());
    let facts =
        (head.framing(), head.keep_alive(), head.expects_continue(), head.upgrade(), view.authority());
    Ok(Some(format!("{len} {line:?} {facts:?} {:?}", view.headers().collect::<Vec<_>>())))
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let mut head = RequestHead::new();
    let whole = answer(&mut head, input.message);
    let mut in_pieces = RequestHead::new();
    check(&input, &whole, |bytes| answer(&mut in_pieces, bytes));
    if let Ok(Some(_)) = whole {
        assert_ne!(head.framing(), BodyFraming::UntilClose);
        let view = head.view(input.message);
        let end = input.message.windows(4).position(|window| window == b"\r\n\r\n").expect("an end");
        let text = &input.message[..end];
        assert!(
            text.iter().zip(text.iter().skip(1)).all(|(a, b)| (*a == b'\r') == (*b == b'\n')),
            "a bare CR or LF"
        );
        // What is taken is written again as it was.
        let mut out = Vec::new();
        encode_request(view.method(), view.target(), &view.to_header_map(), head.framing(), &mut out);
        let line = format!("{} {} HTTP/1.1\r\n", view.method(), view.target());
        assert!(out.starts_with(line.as_bytes()));
    }
});
