//! Compression of messages (RFC 7692 section 7.2).
//!
//! A compressor takes some 370 KiB and a decompressor some 46 KiB. A connection that keeps no context from message to
//! message borrows them from its thread for the time of a message, and holds nothing when it is idle.

use std::cell::RefCell;
use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::WebSocketError;

/// What a flush ends with, and what a message is sent without (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Compressors and decompressors that a thread keeps for its connections, each.
const SPARES_MAX: usize = 4;

thread_local! {
    static COMPRESSORS: RefCell<Vec<(Kind, Box<Compress>)>> = const { RefCell::new(Vec::new()) };
    #[expect(clippy::vec_box, reason = "a box moves between here and a connection as it is")]
    static DECOMPRESSORS: RefCell<Vec<Box<Decompress>>> = const { RefCell::new(Vec::new()) };
}

/// How to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) level: u8,
    /// 9 to 15.
    pub(super) window_bits: u8,
}

/// Compresses the messages of one direction.
pub(super) struct Compressor {
    kind: Kind,
    keeps_context: bool,
    /// Between messages only if the context is kept.
    stream: Option<Box<Compress>>,
}

impl Compressor {
    pub(super) fn new(kind: Kind, keeps_context: bool) -> Self {
        Self { kind, keeps_context, stream: None }
    }

    /// Appends a part of a message in compressed form, so that the peer can read all of it.
    pub(super) fn push(&mut self, part: &[u8], is_last: bool, out: &mut Vec<u8>) {
        let stream = self.stream.get_or_insert_with(|| take_compressor(self.kind));
        let start = out.len();
        compress(stream, part, out);
        if is_last {
            if out[start..].ends_with(&TAIL) {
                out.truncate(out.len() - TAIL.len());
            }
            // RFC 7692 section 7.2.3.6: an empty block, of which the tail is the rest.
            if out.len() == start {
                out.push(0);
            }
            if !self.keeps_context {
                self.forget();
            }
        }
    }

    /// Lets the next message begin with an empty window. It may, at any time.
    pub(super) fn forget(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.reset();
            COMPRESSORS.with_borrow_mut(|spares| {
                if spares.len() < SPARES_MAX {
                    spares.push((self.kind, stream));
                }
            });
        }
    }
}

fn take_compressor(kind: Kind) -> Box<Compress> {
    let spare = COMPRESSORS.with_borrow_mut(|spares| {
        let at = spares.iter().position(|(spare, _)| *spare == kind)?;
        Some(spares.swap_remove(at).1)
    });
    spare.unwrap_or_else(|| {
        let level = Compression::new(u32::from(kind.level));
        Box::new(Compress::new_with_window_bits(level, false, kind.window_bits))
    })
}

/// Compresses all of `part` and flushes.
fn compress(stream: &mut Compress, part: &[u8], out: &mut Vec<u8>) {
    let start = stream.total_in();
    loop {
        let rest = &part[(stream.total_in() - start) as usize..];
        // As much as incompressible data can take, so that one call mostly does.
        out.reserve(rest.len() + rest.len() / 1000 + 64);
        // The only error is that there is nothing to do: a flush just after another one.
        let status = stream.compress_vec(rest, out, FlushCompress::Sync);
        let is_flushed = out.len() < out.capacity();
        if is_flushed || !matches!(status, Ok(Status::Ok)) {
            debug_assert_eq!((stream.total_in() - start) as usize, part.len());
            return;
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressor").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Decompresses the messages of one direction. Its window is always the largest one, which reads what was written with
/// any other.
pub(super) struct Decompressor {
    keeps_context: bool,
    /// Between messages only if the context is kept.
    stream: Option<Box<Decompress>>,
}

impl Decompressor {
    pub(super) fn new(keeps_context: bool) -> Self {
        Self { keeps_context, stream: None }
    }

    /// Decompresses a piece of a message and hands on what comes out of it in small pieces. Stops at their first error.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), WebSocketError>,
    ) -> Result<(), WebSocketError> {
        let stream = self.stream.get_or_insert_with(take_decompressor);
        decompress(stream, piece, take)
    }

    /// Ends the message.
    pub(super) fn finish(
        &mut self,
        take: impl FnMut(&[u8]) -> Result<(), WebSocketError>,
    ) -> Result<(), WebSocketError> {
        self.push(&TAIL, take)?;
        if let Some(mut stream) = self.stream.take_if(|_| !self.keeps_context) {
            stream.reset(false);
            DECOMPRESSORS.with_borrow_mut(|spares| {
                if spares.len() < SPARES_MAX {
                    spares.push(stream);
                }
            });
        }
        Ok(())
    }
}

fn take_decompressor() -> Box<Decompress> {
    DECOMPRESSORS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new(Decompress::new(false)))
}

fn decompress(
    stream: &mut Decompress,
    piece: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), WebSocketError>,
) -> Result<(), WebSocketError> {
    let mut scratch = [0; 8192];
    let mut rest = piece;
    loop {
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(rest, &mut scratch, FlushDecompress::None);
        let status = status.map_err(|_| WebSocketError::Deflate)?;
        rest = &rest[(stream.total_in() - before_in) as usize..];
        let written = (stream.total_out() - before_out) as usize;
        take(&scratch[..written])?;
        match status {
            // RFC 7692 section 7.2.3.4: after a final block another stream may begin. Its window is empty.
            Status::StreamEnd => stream.reset(false),
            // No progress: all is read and written.
            Status::BufError => break,
            Status::Ok => {}
        }
        if rest.is_empty() && written < scratch.len() {
            break;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(WebSocketError::Deflate) }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Decompressor")
            .field("keeps_context", &self.keeps_context)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompressed(decompressor: &mut Decompressor, message: &[u8]) -> Result<Vec<u8>, WebSocketError> {
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        decompressor.push(message, &mut take)?;
        decompressor.finish(&mut take)?;
        Ok(out)
    }

    const KIND: Kind = Kind { level: 6, window_bits: 15 };

    #[test]
    fn rfc7692_7_2_3_1_a_message_in_one_block() {
        let bytes = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(decompressed(&mut Decompressor::new(false), &bytes), Ok(b"Hello".to_vec()));
        let mut out = Vec::new();
        Compressor::new(KIND, false).push(b"Hello", true, &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn rfc7692_7_2_3_2_sharing_the_window() {
        let (first, again) = ([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x00, 0x11, 0x00, 0x00]);
        let mut decompressor = Decompressor::new(true);
        assert_eq!(decompressed(&mut decompressor, &first), Ok(b"Hello".to_vec()));
        assert_eq!(decompressed(&mut decompressor, &again), Ok(b"Hello".to_vec()));
        let mut compressor = Compressor::new(KIND, true);
        let mut out = Vec::new();
        compressor.push(b"Hello", true, &mut out);
        out.clear();
        compressor.push(b"Hello", true, &mut out);
        assert_eq!(out, again);
        // Without the window there is nothing to refer to.
        let mut compressor = Compressor::new(KIND, false);
        for _ in 0..2 {
            out.clear();
            compressor.push(b"Hello", true, &mut out);
            assert_eq!(out, first);
        }
        let mut decompressor = Decompressor::new(false);
        assert_eq!(decompressed(&mut decompressor, &first), Ok(b"Hello".to_vec()));
        assert_eq!(decompressed(&mut decompressor, &again), Err(WebSocketError::Deflate));
    }

    #[test]
    fn rfc7692_7_2_3_3_a_block_without_compression() {
        let bytes = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(decompressed(&mut Decompressor::new(false), &bytes), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn rfc7692_7_2_3_4_a_final_block() {
        let bytes = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(decompressed(&mut Decompressor::new(false), &bytes), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn rfc7692_7_2_3_5_two_blocks() {
        let bytes = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(decompressed(&mut Decompressor::new(false), &bytes), Ok(b"Hello".to_vec()));
        let mut out = Vec::new();
        let mut compressor = Compressor::new(KIND, false);
        compressor.push(b"He", false, &mut out);
        compressor.push(b"llo", true, &mut out);
        assert_eq!(decompressed(&mut Decompressor::new(false), &out), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn rfc7692_7_2_3_6_an_empty_message() {
        assert_eq!(decompressed(&mut Decompressor::new(false), &[0]), Ok(Vec::new()));
        for keeps_context in [false, true] {
            let mut compressor = Compressor::new(KIND, keeps_context);
            for _ in 0..2 {
                let mut out = Vec::new();
                compressor.push(b"", true, &mut out);
                assert_eq!(decompressed(&mut Decompressor::new(false), &out), Ok(Vec::new()), "{out:?}");
            }
        }
    }

    #[test]
    fn an_empty_last_part_ends_the_message() {
        let mut compressor = Compressor::new(KIND, true);
        let mut decompressor = Decompressor::new(true);
        for _ in 0..3 {
            let mut out = Vec::new();
            compressor.push(b"Hello", false, &mut out);
            compressor.push(b"", false, &mut out);
            compressor.push(b"", true, &mut out);
            assert_eq!(decompressed(&mut decompressor, &out), Ok(b"Hello".to_vec()), "{out:x?}");
        }
    }

    #[test]
    fn what_is_no_deflate_is_an_error() {
        for bytes in [&[0x07][..], &[0xff, 0xff], &[0x00, 0x05, 0x00, 0x00, 0x00], &[0x04, 0x80]] {
            let answer = decompressed(&mut Decompressor::new(false), bytes);
            assert_eq!(answer, Err(WebSocketError::Deflate), "{bytes:x?}");
        }
    }
}
