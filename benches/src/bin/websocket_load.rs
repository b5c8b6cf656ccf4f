//! Load of WebSocket messages: `websocket_load ADDRESS load|idle`. The server is to send every message back, without
//! extensions.
//!
//! `load` keeps so many messages of so many bytes under way on each connection, and says how many came back. `idle` opens so
//! many connections, has one message back on each, says so, and holds them until its input ends.
#![expect(clippy::print_stdout, reason = "the harness reads it")]

use std::io::{self, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// The key of RFC 6455, section 1.3. Its answer is not looked at: other tests do that.
const HANDSHAKE: &[u8] =
    b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Load,
    Idle,
}

#[derive(Parser)]
struct Args {
    address: SocketAddr,
    kind: Kind,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Length of a message.
    #[arg(long, default_value_t = 32)]
    bytes: usize,
    /// Messages under way on a connection.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// A binary frame as a client sends it, or as a server does (RFC 6455, section 5.2).
fn frame(bytes: usize, is_masked: bool) -> Vec<u8> {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    match bytes {
        0..126 => frame.push(mask_bit | bytes as u8),
        126..65_536 => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
    if is_masked {
        frame.extend_from_slice(&MASK);
    }
    let payload = (0..bytes).map(|at| (at * 31) as u8);
    if is_masked {
        frame.extend(payload.zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    frame
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(HANDSHAKE).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    Ok(stream)
}

/// What goes out at one go, and what has to come back.
struct Exchange {
    sent: Vec<u8>,
    expected: Vec<u8>,
}

impl Exchange {
    fn new(bytes: usize, messages: usize) -> Self {
        Self { sent: frame(bytes, true).repeat(messages), expected: frame(bytes, false).repeat(messages) }
    }

    async fn run(&self, stream: &mut TcpStream, came: &mut [u8]) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        // A server that answers while it is still being sent to must be read from.
        tokio::try_join!(writer.write_all(&self.sent), reader.read_exact(came))?;
        if came == self.expected { Ok(()) } else { Err(io::Error::other("another message came back")) }
    }
}

async fn load(args: &Args) -> io::Result<()> {
    let exchange = Rc::new(Exchange::new(args.bytes, args.pipeline));
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(open(args.address).await?);
    }
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let exchange = Rc::clone(&exchange);
            tokio::task::spawn_local(async move {
                let mut came = vec![0; exchange.expected.len()];
                let mut exchanges = 0;
                while Instant::now() < until {
                    exchange.run(&mut stream, &mut came).await?;
                    exchanges += 1;
                }
                Ok::<_, io::Error>(exchanges)
            })
        })
        .collect();
    let mut messages = 0;
    for task in tasks {
        messages += args.pipeline * task.await.map_err(io::Error::other)??;
    }
    println!("{messages} messages, 0 wrong");
    Ok(())
}

async fn idle(args: &Args) -> io::Result<()> {
    let exchange = Exchange::new(args.bytes, 1);
    let mut came = vec![0; exchange.expected.len()];
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        let mut stream = open(args.address).await?;
        exchange.run(&mut stream, &mut came).await?;
        streams.push(stream);
    }
    println!("{} connections, 0 wrong", streams.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        match args.kind {
            Kind::Load => load(&args).await,
            Kind::Idle => idle(&args).await,
        }
    })
}
