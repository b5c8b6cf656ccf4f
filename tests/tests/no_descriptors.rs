//! A process that may open no more files. It is alone in this program, since the limit is the process's.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use gimmal::files::Files;
use gimmal::{App, Backend};
use gimmal_tests::{Client, eventually, pattern, server, start};

const BYTES: usize = 300_000;

fn limit_descriptors(max: &str) {
    let process = std::process::id().to_string();
    let limit = Command::new("prlimit").args(["--pid", &process, &format!("--nofile={max}:")]).status();
    assert!(limit.expect("prlimit is installed (util-linux)").success());
}

/// A socket on io_uring needs a descriptor of the process for the kernel to send a file; without one, files are read.
#[test]
fn files_are_served_where_no_descriptor_is_left() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long"), pattern(0, BYTES)).unwrap();
    let files = Files::open(&folder).unwrap().stale_after(Duration::from_secs(3600));
    let server = start(server(App::new().files("/", files), Backend::IoUring));
    let mut client = Client::connect(server.address());
    client.send("HEAD /long HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 200);

    let mut fillers: Vec<File> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
    let highest = fillers.last().unwrap().as_raw_fd();
    limit_descriptors(&(highest + 1).to_string());
    while let Ok(filler) = File::open("/dev/null") {
        fillers.push(filler);
    }
    for _ in 0..3 {
        assert!(client.get("/long").body == pattern(0, BYTES));
    }
    assert_eq!(server.handle().counters().file_sends, 0);

    fillers.clear();
    assert!(client.get("/long").body == pattern(0, BYTES));
    eventually("the kernel sends them again", || server.handle().counters().file_sends > 0);
}
