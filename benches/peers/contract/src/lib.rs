//! What all servers that are measured have in common: arguments, routes, sockets, and the bytes they send.
//!
//! The contract: `GET /plaintext` is `Hello, World!`; `GET /json` a [`Message`] serialised for each request;
//! `GET /users/{id}` the id, out of a router with 30 routes; `POST /echo` the body; `GET /bytes/{n}` so many bytes;
//! `POST /upload` the number of bytes received. Every answer has Date, Content-Type and Content-Length.

pub mod raw;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::{mem, thread};

use clap::Parser;
use serde::Serialize;
use socket2::{Domain, Socket, Type};

/// The allocator that the fastest forms of the peers are published with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const PLAINTEXT: &str = "Hello, World!";
/// The largest body that a server has to take whole.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// `GET /bytes/{n}` is made of pieces of this.
pub static PIECE: &[u8] = &[b'x'; 256 * 1024];

/// The routes beside the six that are measured, so that a router has 30 to choose from.
pub const OTHER_ROUTES: [&str; 24] = [
    "/",
    "/health",
    "/metrics",
    "/users",
    "/users/{id}/posts",
    "/users/{id}/posts/{post}",
    "/users/{id}/followers",
    "/users/{id}/settings",
    "/posts",
    "/posts/{post}",
    "/posts/{post}/comments",
    "/posts/{post}/comments/{comment}",
    "/posts/{post}/likes",
    "/tags",
    "/tags/{tag}",
    "/search",
    "/login",
    "/logout",
    "/sessions/{session}",
    "/files/{name}",
    "/orders",
    "/orders/{order}",
    "/orders/{order}/items/{item}",
    "/admin/reports/{year}/{month}",
];

#[derive(Serialize)]
pub struct Message {
    pub message: &'static str,
}

/// The JSON answer, to be serialised for each request.
pub fn message() -> Message {
    Message { message: PLAINTEXT }
}

#[derive(Debug, Parser)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
}

/// Reads the arguments and binds a listener for each core, all to the same address.
pub fn listen() -> (Args, Vec<TcpListener>) {
    let mut args = Args::parse();
    let mut listeners = Vec::new();
    for _ in 0..args.cores {
        let listener = listener(args.addr).expect("the address can be bound");
        args.addr = listener.local_addr().expect("a bound socket");
        listeners.push(listener);
    }
    (args, listeners)
}

/// As [`listen`], for servers that share one listener among their threads.
pub fn listen_once() -> (Args, TcpListener) {
    let mut args = Args::parse();
    let listener = listener(args.addr).expect("the address can be bound");
    args.addr = listener.local_addr().expect("a bound socket");
    (args, listener)
}

fn listener(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Says that the server is ready.
pub fn announce(addr: SocketAddr) {
    println!("listening on http://{addr}");
    io::stdout().flush().expect("standard output takes a line");
}

/// Runs `serve` on a thread of its own for each core, pinned to it.
pub fn on_each_core(serve: impl Fn(TcpListener) + Clone + Send + 'static) {
    let (args, listeners) = listen();
    let cpus = allowed_cpus();
    let threads: Vec<_> = listeners
        .into_iter()
        .zip(cpus.into_iter().cycle())
        .map(|(listener, cpu)| {
            let serve = serve.clone();
            thread::spawn(move || {
                pin_to(cpu);
                serve(listener);
            })
        })
        .collect();
    announce(args.addr);
    for thread in threads {
        thread.join().expect("a core panicked");
    }
}

fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is an empty one, and the call fills it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
    }
}

fn pin_to(cpu: usize) {
    // SAFETY: an all-zero set is an empty one, and `cpu` came out of one.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}
