//! Whether the time of an answer tells an unknown user from a wrong password: asks a server for both in turn, over one
//! connection, and compares.
//!
//! `cargo run --release -p gimmal-benches --bin login_timing [PAIRS]`. The processor should have little else to do.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gimmal::auth::{AccountOptions, Accounts, Authenticator, MemoryUsers, Principal, Realm, User};
use gimmal::security::SecretString;
use gimmal::security::attempts::{AttemptLimits, Attempts};
use gimmal::security::password::Passwords;
use gimmal::test::TestServer;
use gimmal::{App, BoxError};

/// `alice:wrong!` and `nobod:wrong!`.
const WRONG_PASSWORD: &str = "YWxpY2U6d3Jvbmch";
const UNKNOWN_USER: &str = "bm9ib2Q6d3Jvbmch";

/// Users who may be guessed at without end: what slows guessing down would be all that is measured.
fn accounts() -> Result<Accounts, BoxError> {
    let hash = Passwords::default().hash(&SecretString::from("the right one"))?;
    let patient = AttemptLimits { free: u32::MAX, lock_out_after: None, ..AttemptLimits::PAIR };
    let attempts =
        Attempts::new().with_pair_limits(patient).with_network_limits(patient).with_account_limits(patient);
    let options = AccountOptions { attempts, ..AccountOptions::default() };
    Ok(Accounts::with_options(MemoryUsers::new([User::new("alice").with_password_hash(hash)]), options))
}

fn ask(stream: &mut TcpStream, credentials: &str) -> io::Result<Duration> {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credentials}\r\n\r\n");
    let started = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nUnauthorized") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    Ok(started.elapsed())
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// The Mann-Whitney test: how many standard deviations the ranks of one sample lie from where they would if both were of
/// one kind.
fn deviation(one: &[Duration], other: &[Duration]) -> f64 {
    let greater = one.iter().map(|a| other.iter().filter(|b| a > *b).count()).sum::<usize>() as f64;
    let (n, m) = (one.len() as f64, other.len() as f64);
    (greater - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

fn main() -> Result<(), BoxError> {
    let pairs: usize = std::env::args().nth(1).map_or(Ok(500), |text| text.parse())?;
    let authenticator = Authenticator::new(Realm::new("Staff")?).basic(&accounts()?);
    let app = App::new().get("/", async |me: Principal| me.id().to_owned()).with(authenticator);
    let server = TestServer::start(app)?;
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_nodelay(true)?;
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..pairs {
        // Which comes first changes, so that the order favours neither.
        let first_wrong = number % 2 == 0;
        for is_wrong in [first_wrong, !first_wrong] {
            if is_wrong {
                wrong.push(ask(&mut stream, WRONG_PASSWORD)?);
            } else {
                unknown.push(ask(&mut stream, UNKNOWN_USER)?);
            }
        }
    }
    let deviation = deviation(&wrong, &unknown);
    let mut out = io::stdout().lock();
    writeln!(out, "milliseconds       10 %    median      90 %")?;
    for (what, times) in [("wrong password", &mut wrong), ("unknown user", &mut unknown)] {
        times.sort_unstable();
        let [low, median, high] = [10, 50, 90].map(|percent| percentile(times, percent));
        writeln!(out, "{what:14} {low:8.3}  {median:8.3}  {high:8.3}")?;
    }
    let verdict = if deviation.abs() < 2.58 { "no difference is seen" } else { "they can be told apart" };
    writeln!(out, "Mann-Whitney over {pairs} pairs: {deviation:+.2} standard deviations; {verdict} at 1 %")?;
    Ok(())
}
