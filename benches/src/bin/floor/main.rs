//! The floor: a bare loop that does nothing but answer.
//!
//! It is the bound for a server on one core. It accepts, receives, sends and closes by the cheapest operations
//! that the kernel has, and knows of HTTP only where a request ends: `GET` of anything is answered with
//! `Hello, World!`, `POST` with the body it brought. What a real server costs beyond this is the price of its
//! parser, router and tasks. The same loop on epoll is the control.
//!
//! Not a server to expose: no limits, no time-outs, and whatever is not as expected ends the connection.

mod answers;
mod buffers;
mod epoll;
mod requests;
mod ring;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::{mem, thread};

use clap::{Parser, ValueEnum};
use socket2::{Domain, Socket, Type};

/// A bare loop that answers GET with "Hello, World!" and POST with the request's body.
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// Threads, each pinned to a CPU of the process's affinity mask.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    cores: u16,
    /// How the kernel is asked.
    #[arg(long, default_value = "uring")]
    backend: Backend,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    Uring,
    Epoll,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let cpus = allowed_cpus()?;
    let first = listen(args.addr)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..args.cores {
        listeners.push(listen(addr)?);
    }
    let threads: Vec<_> = listeners
        .into_iter()
        .zip(cpus.into_iter().cycle())
        .map(|(listener, cpu)| {
            thread::spawn(move || -> io::Result<()> {
                pin_to(cpu)?;
                match args.backend {
                    Backend::Uring => ring::serve(&listener),
                    Backend::Epoll => epoll::serve(&listener),
                }
            })
        })
        .collect();
    writeln!(io::stdout(), "listening on http://{addr}")?;
    // SIGTERM keeps its default action: there is nothing here to finish first.
    for thread in threads {
        thread.join().expect("a core panicked")?;
    }
    Ok(())
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer and the size are those of `set`.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is an empty set, and `cpu` came out of one.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the pointer and the size are those of `set`.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
