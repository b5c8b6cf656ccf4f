#![no_main]

use gimmal_fuzz::{Answer, Input, check};
use gimmal_http::{Limits, Method, Parsed, ResponseHeadParser};
use libfuzzer_sys::fuzz_target;

fn answer(head: &mut ResponseHeadParser, bytes: &[u8], request: &Method) -> Answer {
    let parsed = head.parse(bytes, request, &Limits::default()).map_err(drop)?;
    let Parsed::Complete(len) = parsed else { return Ok(None) };
    let view = head.view(bytes);
    let facts = (view.status(), view.version(), head.framing(), head.keep_alive(), head.upgrade());
    Ok(Some(format!("{len} {facts:?} {:?}", view.headers().collect::<Vec<_>>())))
}

fuzz_target!(|data: &[u8]| {
    let Some((selector, data)) = data.split_first() else { return };
    let Some(input) = Input::new(data) else { return };
    let request = [Method::GET, Method::HEAD, Method::CONNECT][usize::from(*selector) % 3].clone();
    let whole = answer(&mut ResponseHeadParser::new(), input.message, &request);
    let mut in_pieces = ResponseHeadParser::new();
    check(&input, &whole, |bytes| answer(&mut in_pieces, bytes, &request));
});
