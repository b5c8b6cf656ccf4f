//! Load of new TLS connections: `tls_load ADDRESS full|resumed|idle`. Verifies nothing, since it is the server that is
//! measured.
//!
//! `full` and `resumed` make one connection after the other, ask once on each, and say how many that were. `idle` opens
//! so many, asks once on each, says so, and holds them until its input ends.
#![expect(clippy::print_stdout, reason = "the harness reads it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, StreamOwned,
};

const CLOSING: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const KEEPING: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Full,
    Resumed,
    Idle,
}

#[derive(Parser)]
struct Args {
    address: SocketAddr,
    kind: Kind,
    /// Connections at a time.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Exchange keys by X25519 alone, without the part that is safe from quantum computers.
    #[arg(long)]
    x25519: bool,
}

/// Takes every certificate.
#[derive(Debug)]
struct Trusting(CryptoProvider);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn config(args: &Args) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    if args.x25519 {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if args.kind != Kind::Resumed {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}

/// One connection with one request; whether it was as it should be.
fn once(args: &Args, config: &Arc<ClientConfig>, is_first: bool) -> io::Result<bool> {
    let mut stream = connect(args.address, config)?;
    stream.write_all(CLOSING)?;
    let mut answer = Vec::new();
    // Some servers end without close_notify.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    let is_right = is_first || resumed == (args.kind == Kind::Resumed);
    Ok(is_right && answer.ends_with(b"Hello, World!"))
}

fn handshakes(args: &Args) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let each = || -> io::Result<(usize, usize)> {
        let config = config(args);
        let (mut count, mut wrong) = (0, 0);
        while Instant::now() < until {
            wrong += usize::from(!once(args, &config, count == 0)?);
            count += 1;
        }
        Ok((count, wrong))
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections).map(|_| scope.spawn(each)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<io::Result<Vec<_>>>()
    })?;
    let (count, wrong) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{count} connections, {wrong} wrong");
    Ok(())
}

fn idle(args: &Args) -> io::Result<()> {
    let config = config(args);
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        let mut stream = connect(args.address, &config)?;
        stream.write_all(KEEPING)?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"Hello, World!") {
            let read = stream.read(&mut buffer)?;
            answer.extend_from_slice(&buffer[..read]);
        }
        streams.push(stream);
    }
    println!("{} connections, 0 wrong", streams.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    match args.kind {
        Kind::Idle => idle(&args),
        Kind::Full | Kind::Resumed => handshakes(&args),
    }
}
