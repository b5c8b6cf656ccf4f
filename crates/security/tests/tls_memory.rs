//! What a session takes from the heap: nothing for a buffer while it waits, and one allocation a record.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use gimmal_security::tls::{TlsClientConfig, TlsServerConfig, TlsSession, TlsState};

/// Counts the bytes in use and the allocations. This binary has one test alone, so they are its own.
struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    BYTES.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that the heap has grown by, and allocations, during `work`.
fn counted<T>(work: impl FnOnce() -> T) -> (T, isize, usize) {
    let (bytes, allocations) = (BYTES.load(Ordering::Relaxed), ALLOCATIONS.load(Ordering::Relaxed));
    let value = work();
    let (bytes, allocations) =
        (BYTES.load(Ordering::Relaxed) - bytes, ALLOCATIONS.load(Ordering::Relaxed) - allocations);
    (value, bytes, allocations)
}

#[test]
fn an_open_session_that_waits_holds_little_and_a_record_costs_one_allocation() {
    let server_config = TlsServerConfig::self_signed_for_development(&["localhost"]).unwrap();
    let root = server_config.certificates()[0].certificate().pem();
    let client_config = TlsClientConfig::builder().roots_pem(root.as_bytes()).build().unwrap();

    let mut to_server = Vec::new();
    let mut client = TlsSession::client(&client_config, "localhost", &mut to_server).unwrap();
    let (mut to_client, mut plaintext) = (Vec::with_capacity(64 * 1024), Vec::with_capacity(64 * 1024));
    let (mut server, mut held, _) = counted(|| TlsSession::server(&server_config).unwrap());
    while client.state() == TlsState::Handshaking || server.state() == TlsState::Handshaking {
        held += counted(|| server.receive(&mut to_server, &mut plaintext, &mut to_client).unwrap()).1;
        to_server.clear();
        client.receive(&mut to_client, &mut plaintext, &mut to_server).unwrap();
        to_client.clear();
    }

    // Records of all sizes, whole and in pieces.
    for size in [1, 100, 10_000, 16_384] {
        for pieces in [1, 3] {
            to_server.clear();
            client.send(&vec![7; size], &mut to_server).unwrap();
            plaintext.clear();
            let step = to_server.len().div_ceil(pieces);
            for piece in to_server.chunks_mut(step) {
                let (_, bytes, allocations) =
                    counted(|| server.receive(piece, &mut plaintext, &mut to_client).unwrap());
                held += bytes;
                // The first record makes room in a queue, once.
                let expected = if size == 1 { 2 } else { 1 };
                assert!(
                    pieces > 1 || allocations <= expected,
                    "{allocations} allocations for a record of {size}"
                );
            }
            assert_eq!(plaintext, vec![7; size]);

            to_client.clear();
            let message = vec![7; size];
            let ((), bytes, allocations) = counted(|| server.send(&message, &mut to_client).unwrap());
            assert_eq!((bytes, allocations), (0, 1));
            client.receive(&mut to_client, &mut Vec::new(), &mut Vec::new()).unwrap();
        }
    }
    assert!((500..2600).contains(&held), "an open session holds {held} bytes");
    assert!(size_of::<TlsSession>() <= 96);
}
