//! tokio-uring: a raw loop on its own sockets.

use std::net::TcpListener;

use contract::PIECE;
use contract::raw::{Exchange, Next};

use tokio_uring::net::TcpStream;

const RECEIVE_BYTES: usize = 64 * 1024;

fn main() {
    contract::on_each_core(|listener| {
        tokio_uring::builder().entries(4096).start(serve(listener));
    });
}

async fn serve(listener: TcpListener) {
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio_uring::spawn(connection(stream));
    }
}

async fn connection(stream: TcpStream) {
    let mut exchange = Exchange::default();
    let mut received = Vec::with_capacity(RECEIVE_BYTES);
    let mut out = Vec::with_capacity(4096);
    let mut result;
    loop {
        received.clear();
        (result, received) = stream.read(received).await;
        if !matches!(result, Ok(1..)) {
            return;
        }
        let mut next = exchange.receive(&received, &mut out);
        loop {
            if !out.is_empty() {
                let sent;
                (sent, out) = stream.write_all(out).await;
                if sent.is_err() {
                    return;
                }
                out.clear();
            }
            match next {
                Next::Receive => break,
                Next::Close => return,
                Next::SendBytes(mut left) => {
                    while left > 0 {
                        let piece = &PIECE[..PIECE.len().min(left)];
                        left -= piece.len();
                        if stream.write_all(piece).await.0.is_err() {
                            return;
                        }
                    }
                    next = exchange.receive(&[], &mut out);
                }
            }
        }
    }
}
