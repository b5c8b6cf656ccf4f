#![no_main]

use gimmal_fuzz::Input;
use gimmal_http::{BodyDecoder, BodyError, BodyFraming, Decoded, Limits};
use libfuzzer_sys::fuzz_target;

/// Data, and where the body ended with which trailers.
type Body = (Vec<u8>, Option<(usize, String)>);

/// The data before an error is the same only where the error does not depend on how much came at once.
fn decode(framing: BodyFraming, input: &[u8], ends: &[usize]) -> Result<Body, BodyError> {
    let limits = Limits { body_bytes: 4096, chunk_line_bytes: 32, trailer_bytes: 128, ..Limits::default() };
    let mut body = BodyDecoder::new(framing, &limits)?;
    let (mut at, mut data) = (0, Vec::new());
    for &end in ends {
        loop {
            match body.decode(&input[at..end])? {
                Decoded::Data(range) => {
                    assert!(!range.is_empty() && at + range.end <= end);
                    data.extend_from_slice(&input[at..end][range.clone()]);
                    at += range.end;
                }
                Decoded::Partial => break at = end,
                Decoded::End { consumed } => {
                    assert!(body.is_complete() && at + consumed <= end);
                    let trailers = format!("{:?}", body.take_trailers());
                    return Ok((data, Some((at + consumed, trailers))));
                }
            }
        }
    }
    assert_eq!(body.received(), data.len() as u64);
    assert_eq!(body.finish().is_ok(), framing == BodyFraming::UntilClose);
    Ok((data, None))
}

fuzz_target!(|data: &[u8]| {
    let Some((selector, data)) = data.split_first() else { return };
    let Some(input) = Input::new(data) else { return };
    let framing = match selector % 4 {
        0 => BodyFraming::Length(u64::from(*selector)),
        1 => BodyFraming::UntilClose,
        _ => BodyFraming::Chunked,
    };
    let (message, [first, second]) = (input.message, input.cuts);
    let whole = decode(framing, message, &[message.len()]);
    assert_eq!(whole, decode(framing, message, &[first, second, message.len()]));
    let every: Vec<usize> = (0..=message.len()).collect();
    assert_eq!(whole, decode(framing, message, &every));
});
