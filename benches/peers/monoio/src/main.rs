//! monoio: a raw loop on its io_uring driver.

use std::net::TcpListener;

use contract::PIECE;
use contract::raw::{Exchange, Next};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::TcpStream;

const RECEIVE_BYTES: usize = 64 * 1024;

fn main() {
    contract::on_each_core(|listener| {
        let mut runtime =
            monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(4096).build().unwrap();
        runtime.block_on(serve(listener));
    });
}

async fn serve(listener: TcpListener) {
    let listener = monoio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        monoio::spawn(connection(stream));
    }
}

async fn connection(mut stream: TcpStream) {
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
                (result, out) = stream.write_all(out).await;
                if result.is_err() {
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
