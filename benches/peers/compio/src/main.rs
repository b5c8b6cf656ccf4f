//! compio: a raw loop on its io_uring driver.

use std::net::TcpListener;

use compio::BufResult;
use compio::io::{AsyncRead as _, AsyncWriteExt as _};
use compio::net::TcpStream;
use contract::PIECE;
use contract::raw::{Exchange, Next};

const RECEIVE_BYTES: usize = 64 * 1024;

fn main() {
    contract::on_each_core(|listener| {
        compio::runtime::Runtime::new().unwrap().block_on(serve(listener));
    });
}

async fn serve(listener: TcpListener) {
    let listener = compio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        compio::runtime::spawn(connection(stream)).detach();
    }
}

async fn connection(mut stream: TcpStream) {
    let mut exchange = Exchange::default();
    let mut received = Vec::with_capacity(RECEIVE_BYTES);
    let mut out = Vec::with_capacity(4096);
    loop {
        received.clear();
        let result;
        BufResult(result, received) = stream.read(received).await;
        if !matches!(result, Ok(1..)) {
            return;
        }
        let mut next = exchange.receive(&received, &mut out);
        loop {
            if !out.is_empty() {
                let sent;
                BufResult(sent, out) = stream.write_all(out).await;
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
