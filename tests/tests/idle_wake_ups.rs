//! What a server does while nobody asks for anything. It is alone in this program, since all of its threads are counted.

use std::fs;
use std::thread;
use std::time::Duration;

use gimmal::App;
use gimmal_tests::{BACKENDS, Client, server, start};

/// Times that a thread of the server has gone to sleep so far.
fn sleeps() -> u64 {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let folder = thread.unwrap().path();
        // The thread may have ended.
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        if !read("comm").starts_with("gimmal-") {
            continue;
        }
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.map_or(0, |count| count.trim().parse::<u64>().unwrap());
    }
    sum
}

/// Twenty ticks a second and core, and forty looks for stalled tasks, are for those who have something to do.
#[test]
fn open_connections_that_do_nothing_wake_nobody() {
    for backend in BACKENDS {
        let server = start(server(App::new().get("/", async || "Hello"), backend));
        let mut clients: Vec<_> = (0..50).map(|_| Client::connect(server.address())).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
        // What was done is followed by a tick, and by the last looks for stalls.
        thread::sleep(Duration::from_secs(1));
        let before = sleeps();
        thread::sleep(Duration::from_secs(3));
        let woken = sleeps() - before;
        assert!(woken <= 15, "{backend:?}: {woken} wake-ups in three seconds");
        assert_eq!(clients[7].get("/").text(), "Hello");
    }
}
