//! Clients that do nothing: `idle_clients ADDRESS COUNT`. Each asks once and keeps its connection; then it says so. With
//! every line that it is told, each asks once more. It ends with its input.

use std::io::{BufRead, Write};
use std::net::SocketAddr;

use gimmal_tests::Client;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().and_then(|address| address.parse().ok()).expect("an address");
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).expect("a number");
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(address)).collect();
    ask(&mut clients);
    for line in std::io::stdin().lock().lines() {
        line.expect("the input is text");
        ask(&mut clients);
    }
}

fn ask(clients: &mut [Client]) {
    for client in &mut *clients {
        let response = client.get("/");
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    writeln!(std::io::stdout(), "{} served", clients.len()).expect("somebody listens");
}
