//! Verifies audit logs: `gimmal-audit [--key-file FILE] [--head SEQUENCE:HASH] LOG...`
//!
//! Each log is a chain of its own. It ends with 0 if all are whole, with 1 if one is not, naming the first line that is
//! not as it was written, and with 2 if it was called wrongly.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gimmal_security::SecretSlice;
use gimmal_security::audit::{ChainHead, verify_since};

const USAGE: &str = "\
Verifies audit logs.

gimmal-audit [--key-file FILE] [--head SEQUENCE:HASH] LOG...

  --key-file FILE       the key with which the logs were written, as its bytes
  --head SEQUENCE:HASH  where the last log ended when it was looked at before, as this command prints it; without it,
                        lines that were cut off at the end cannot be missed
";

struct Arguments {
    key: Option<SecretSlice<u8>>,
    /// Where the last log is known to have ended.
    known: ChainHead,
    logs: Vec<PathBuf>,
}

fn read_arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { key: None, known: ChainHead::default(), logs: Vec::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--key-file" => {
                let path = value()?;
                let key = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
                arguments.key = Some(key.into());
            }
            "--head" => {
                let head = value()?;
                let parts = head.split_once(':').and_then(|(sequence, hash)| {
                    Some(ChainHead { sequence: sequence.parse().ok()?, hash: hash.to_owned() })
                });
                arguments.known = parts.ok_or("--head wants SEQUENCE:HASH")?;
            }
            option if option.starts_with('-') => return Err(format!("{option} is no option")),
            log => arguments.logs.push(log.into()),
        }
    }
    if arguments.logs.is_empty() { Err("no log is named".to_owned()) } else { Ok(arguments) }
}

/// Verifies one log; what it says of it.
fn check(path: &Path, key: Option<&SecretSlice<u8>>, known: &ChainHead) -> Result<String, String> {
    let failed = |error: &dyn Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let head = verify_since(BufReader::new(file), key, known).map_err(|error| failed(&error))?;
    let ChainHead { sequence, hash } = head;
    Ok(format!("{}: {sequence} records, all whole; the head is {sequence}:{hash}", path.display()))
}

fn main() -> ExitCode {
    let arguments = match read_arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            // A closed pipe has read enough.
            let _ = write!(stderr(), "{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut code = ExitCode::SUCCESS;
    let last = arguments.logs.len() - 1;
    for (number, log) in arguments.logs.iter().enumerate() {
        let known = if number == last { arguments.known.clone() } else { ChainHead::default() };
        match check(log, arguments.key.as_ref(), &known) {
            Ok(said) => {
                let _ = writeln!(stdout(), "{said}");
            }
            Err(wrong) => {
                let _ = writeln!(stderr(), "{wrong}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
