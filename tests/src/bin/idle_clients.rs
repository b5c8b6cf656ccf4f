//! Clients that do nothing: `idle_clients ADDRESS COUNT [ROOT]`. Each asks once and keeps its connection; then it says
//! so. With every line that it is told, each asks once more. It ends with its input. With a file of the certificate that
//! is trusted, they speak TLS to `localhost`.

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;

use gimmal_tests::{Client, TlsClient, trusting};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().and_then(|address| address.parse().ok()).expect("an address");
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).expect("a number");
    match arguments.next() {
        None => run((0..count).map(|_| Client::connect(address)).collect()),
        Some(root) => {
            let config = trusting(&std::fs::read_to_string(root).expect("a file that can be read"));
            let connect = |_| TlsClient::connect_tls(address, "localhost", &config).expect("a handshake");
            run((0..count).map(connect).collect());
        }
    }
}

fn run<S: Read + Write>(mut clients: Vec<Client<S>>) {
    ask(&mut clients);
    for line in std::io::stdin().lock().lines() {
        line.expect("the input is text");
        ask(&mut clients);
    }
}

fn ask<S: Read + Write>(clients: &mut [Client<S>]) {
    for client in &mut *clients {
        let response = client.get("/");
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    writeln!(std::io::stdout(), "{} served", clients.len()).expect("somebody listens");
}
