#![no_main]

use gimmal_fuzz::Input;
use gimmal_http::multipart::{Boundary, MultipartDecoder, MultipartError, MultipartEvent, MultipartLimits};
use libfuzzer_sys::fuzz_target;

/// What a form says of each part, and its content.
type Form = Vec<(String, Vec<u8>)>;

fn decode(boundary: &Boundary, input: &[u8], ends: &[usize]) -> Result<Form, MultipartError> {
    let limits = MultipartLimits { header_bytes: 512, parts: 8, preamble_bytes: 64 };
    let mut decoder = MultipartDecoder::new(boundary, limits);
    let (mut at, mut form, mut is_open) = (0, Form::new(), false);
    for &end in ends {
        loop {
            let decoded = decoder.decode(&input[at..end])?;
            at += decoded.consumed;
            assert!(at <= end);
            match decoded.event {
                Some(MultipartEvent::Part(part)) => {
                    assert!(!std::mem::replace(&mut is_open, true) && form.len() < limits.parts);
                    form.push((format!("{part:?}"), Vec::new()));
                }
                Some(MultipartEvent::Data(data)) => {
                    assert!(is_open && !data.is_empty() && data.len() == decoded.consumed);
                    let (_, content) = form.last_mut().expect("a part is open");
                    content.extend_from_slice(data);
                }
                Some(MultipartEvent::PartEnd) => assert!(std::mem::replace(&mut is_open, false)),
                Some(MultipartEvent::End) => {
                    assert!(!is_open);
                    return decoder.finish().map(|()| form);
                }
                None => break,
            }
        }
        assert!(end - at <= limits.header_bytes, "what is kept is bounded");
    }
    decoder.finish().map(|()| form)
}

fuzz_target!(|data: &[u8]| {
    let Some((selector, data)) = data.split_first() else { return };
    let Some(input) = Input::new(data) else { return };
    let message = input.message;
    // The first line is also read as a Content-Type.
    let line = message.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let of_line = Boundary::from_content_type(line);
    let boundary = match of_line {
        Ok(boundary) if selector % 2 == 1 => boundary,
        _ => Boundary::new(b"b").expect("it is a boundary"),
    };
    let [first, second] = input.cuts;
    let whole = decode(&boundary, message, &[message.len()]);
    assert_eq!(whole, decode(&boundary, message, &[first, second, message.len()]));
    let every: Vec<usize> = (0..=message.len()).collect();
    assert_eq!(whole, decode(&boundary, message, &every));
});
