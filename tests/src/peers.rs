//! Clients and servers that speak bytes, so that a test can say what no proper one would.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A connection of which the head of each response can be read by itself.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is no zero");
        Self(BufReader::new(stream))
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the server has gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("the server is there");
    }

    /// Reads one head.
    ///
    /// # Panics
    /// If it does not come.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head).expect("a head comes");
            assert_ne!(read, 0, "closed after {head:?}");
        }
        head
    }

    /// Reads as many bytes as these are.
    ///
    /// # Panics
    /// If others come.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let mut came = vec![0; bytes.as_ref().len()];
        self.0.read_exact(&mut came).expect("bytes come");
        assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(bytes.as_ref()));
    }

    /// Ends the sending side.
    ///
    /// # Panics
    /// If the server has gone.
    pub fn finish(&self) {
        self.0.get_ref().shutdown(Shutdown::Write).expect("the server is there");
    }

    /// A second handle that sends.
    ///
    /// # Panics
    /// If there are too many descriptors.
    #[must_use]
    pub fn sender(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("there is a descriptor left")
    }

    /// All that comes until the connection ends, by whatever.
    #[must_use]
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

/// A server that does with each connection what `serve` does, in a thread of its own; its URL, and how many
/// connections there were.
///
/// # Panics
/// If there is no free port.
pub fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    (url, connections)
}

/// A server that answers each request with these bytes.
///
/// # Panics
/// If there is no free port.
#[must_use]
pub fn answering(bytes: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    server(move |mut stream| while !read_head(&mut stream).is_empty() && stream.write_all(bytes).is_ok() {})
}

/// The head that comes next on a connection; what there is of it if the connection ends.
///
/// # Panics
/// If it is not UTF-8.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    String::from_utf8(head).expect("a head is text")
}

/// Bytes that do not repeat soon.
#[must_use]
pub fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
