//! Unpacking piece by piece, into no more room than it is given.

use std::fmt;
use std::io;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use super::Coding;

/// The largest window of zstd as a power of two: 8 MiB (RFC 9659).
const ZSTD_WINDOW_BITS_MAX: u32 = 23;
const GZIP_WINDOW_BITS: u8 = 15;

pub(super) enum Decoder {
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(ZstdDecoder<'static>),
    Gzip(Decompress),
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) read: usize,
    pub(super) written: usize,
    /// The data has come to its end.
    pub(super) ended: bool,
}

/// The data is not what its coding says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corrupt;

impl Decoder {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            // Windows of up to 16 MiB, as RFC 7932 has them.
            Coding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_BITS_MAX))?;
                Self::Zstd(decoder)
            }
            Coding::Gzip => Self::Gzip(Decompress::new_gzip(GZIP_WINDOW_BITS)),
        })
    }

    /// Reads input and writes output as far as both go.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Corrupt> {
        match self {
            Self::Brotli(state) => {
                let (mut input_left, mut read) = (input.len(), 0);
                let (mut output_left, mut written, mut total) = (output.len(), 0, 0);
                let result = BrotliDecompressStream(
                    &mut input_left,
                    &mut read,
                    input,
                    &mut output_left,
                    &mut written,
                    output,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => Err(Corrupt),
                    result => {
                        Ok(Step { read, written, ended: matches!(result, BrotliResult::ResultSuccess) })
                    }
                }
            }
            Self::Zstd(decoder) => {
                let status = decoder.run_on_buffers(input, output).map_err(|_| Corrupt)?;
                let (read, written) = (status.bytes_read, status.bytes_written);
                Ok(Step { read, written, ended: status.remaining == 0 && read + written > 0 })
            }
            Self::Gzip(decoder) => {
                let (read_before, written_before) = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(input, output, FlushDecompress::None).map_err(|_| Corrupt)?;
                Ok(Step {
                    read: (decoder.total_in() - read_before) as usize,
                    written: (decoder.total_out() - written_before) as usize,
                    ended: status == Status::StreamEnd,
                })
            }
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::Gzip(_) => "Gzip",
        })
    }
}
