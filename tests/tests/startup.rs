//! Starting where the host grants little: it works with less and says so, or it is an error that names the cure.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gimmal_runtime::{Backend, Cores, ListenOptions, Listener, Listeners};
use gimmal_tests::{BACKENDS, Client};

const SERVER: &str = env!("CARGO_BIN_EXE_poor_server");
/// Has the kernel refuse one system call to a program: `python3 -c FILTER NUMBER PROGRAM ARGUMENT...`.
const FILTER: &str = r#"
import ctypes, os, struct, sys
refused = int(sys.argv[1])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, refused), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7fff0000)]
packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(code), ctypes.addressof(packed))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// A program that runs as a user without privileges, since root has no limits.
fn unprivileged(user: u32, limits: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.args(limits);
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0 {
        command.args(["setpriv", &format!("--reuid={user}"), "--clear-groups", "--inh-caps=-all"]);
    }
    command.args(program);
    command
}

struct Poor {
    child: Child,
    line: String,
    /// Read all the time, so that the server never waits for it.
    log: Option<JoinHandle<String>>,
}

impl Poor {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut log = String::new();
            errors.read_to_string(&mut log).unwrap();
            log
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, line: line.trim().to_owned(), log: Some(log) }
    }

    fn address(&self) -> SocketAddr {
        let address = self.line.split(' ').next().unwrap();
        address.parse().unwrap_or_else(|_| panic!("the server did not start: {:?}", self.line))
    }

    fn backend(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }

    fn get(&self, path: &str) -> String {
        Client::connect(self.address()).get(path).text().to_owned()
    }

    /// Ends it and gives what it has logged.
    fn log(&mut self) -> String {
        let _ = self.child.kill();
        self.log.take().unwrap().join().unwrap()
    }

    /// What it says when it ends by itself, which it must, and not well.
    fn fails(mut self) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it lives on; it said {:?}", self.line);
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!((status.code(), self.line.as_str()), (Some(1), ""));
        self.log()
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(backend: Backend) -> &'static str {
    if backend == Backend::Epoll { "epoll" } else { "uring" }
}

#[test]
fn little_locked_memory_costs_speed_and_not_the_server() {
    for (user, kib) in [(61_100, 64_u32), (61_101, 128), (61_102, 192), (61_103, 0)] {
        for cores in ["1", "2"] {
            let limit = format!("--memlock={0}:{0}", kib * 1024);
            let mut server = Poor::start(&mut unprivileged(user, &[&limit], &[SERVER, "auto", cores]));
            for _ in 0..8 {
                assert!(server.get("/").parse::<usize>().is_ok());
            }
            let log = server.log();
            let told: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
            // Some kernels count no ring as locked memory.
            let enough = told.is_empty() && server.backend() == "io_uring";
            let said_why = told.len() == 1 && told[0].contains("ulimit -l");
            assert!(enough || said_why, "{kib} KiB, {cores} cores: {log}");
        }
    }
}

#[test]
fn a_ring_that_was_asked_for_and_lacks_locked_memory_is_an_error_with_its_cure() {
    let server = Poor::start(&mut unprivileged(61_104, &["--memlock=0:0"], &[SERVER, "uring", "2"]));
    if server.line.is_empty() {
        let error = server.fails();
        assert!(error.contains("ulimit -l"), "{error}");
    } else {
        // This kernel counts no ring as locked memory.
        assert_eq!((server.get("/").len(), server.backend()), (1, "io_uring"));
    }
}

#[test]
fn few_descriptors_are_told_of_and_clients_are_served_side_by_side() {
    for backend in ["auto", "epoll"] {
        for files in [64, 128] {
            let limit = format!("--nofile={files}:{files}");
            let mut server = Poor::start(&mut unprivileged(61_105, &[&limit], &[SERVER, backend, "1"]));
            let mut clients: Vec<_> = (0..files / 4).map(|_| Client::connect(server.address())).collect();
            for client in &mut clients {
                assert_eq!(client.get("/").status, 200);
            }
            let log = server.log();
            assert!(log.contains("RLIMIT_NOFILE") && log.contains("ulimit -n"), "{log}");
        }
    }
}

/// Neither may some cores run and others not, nor may it wait for ever.
#[test]
fn too_few_descriptors_to_start_are_an_error_with_its_cure() {
    for backend in ["auto", "uring", "epoll"] {
        for files in 8..15 {
            let limit = format!("--nofile={files}:{files}");
            let error = Poor::start(&mut unprivileged(61_106, &[&limit], &[SERVER, backend, "2"])).fails();
            assert!(
                error.contains("ulimit -n") || error.contains("Too many open files"),
                "{backend}, {files}: {error}"
            );
        }
    }
}

#[test]
fn threads_that_are_refused_are_an_error_with_its_cure() {
    for backend in ["auto", "epoll"] {
        let error = Poor::start(&mut unprivileged(61_107, &["--nproc=1:1"], &[SERVER, backend, "2"])).fails();
        assert!(error.contains("ulimit -u") && !error.contains("panicked"), "{backend}: {error}");
    }
}

/// The cores have their threads; it is the thread for blocking work that is refused.
#[test]
fn blocking_work_without_a_thread_is_an_error_and_no_panic() {
    let server = Poor::start(&mut unprivileged(61_108, &["--nproc=64:64"], &[SERVER, "epoll", "1"]));
    let process = server.child.id().to_string();
    // Nobody else may set another's limits.
    let limit = ["prlimit", "--pid", &process, "--nproc=1:64"];
    assert!(unprivileged(61_108, &["--core=0:0"], &limit).status().unwrap().success());
    // More than may run at once: what was refused keeps no place.
    for _ in 0..2 * gimmal_runtime::BLOCKING_RUNNING_MAX {
        assert_eq!(server.get("/blocking"), "Err(NoThread)");
    }
    let limit = ["prlimit", "--pid", &process, "--nproc=64:64"];
    assert!(unprivileged(61_108, &["--core=0:0"], &limit).status().unwrap().success());
    assert_eq!(server.get("/blocking"), "Ok(\"done\")");
    assert_eq!(server.get("/"), "0");
}

#[test]
fn a_filter_that_refuses_to_enter_the_ring_leaves_epoll() {
    let enter = libc::SYS_io_uring_enter.to_string();
    let mut server = Poor::start(Command::new("python3").args(["-c", FILTER, &enter, SERVER, "auto", "1"]));
    assert_eq!((server.get("/").as_str(), server.backend()), ("0", "epoll"));
    let log = server.log();
    assert!(log.contains("io_uring_enter"), "{log}");
}

#[test]
fn cores_that_may_not_be_pinned_run_unpinned() {
    let pin = libc::SYS_sched_setaffinity.to_string();
    for backend in BACKENDS {
        let mut server =
            Poor::start(Command::new("python3").args(["-c", FILTER, &pin, SERVER, name(backend), "1"]));
        assert_eq!(server.get("/"), "0", "{backend:?}");
        let log = server.log();
        assert!(log.contains("sched_setaffinity"), "{log}");
    }
}

#[test]
fn a_file_that_grows_too_large_is_an_error_and_not_the_end() {
    for backend in BACKENDS {
        let limit = ["--fsize=4096:4096"];
        let server = Poor::start(&mut unprivileged(61_109, &limit, &[SERVER, name(backend), "1"]));
        assert!(server.get("/write").contains("FileTooLarge"), "{backend:?}");
        assert_eq!(server.get("/"), "0");
    }
}

#[test]
fn a_restart_right_after_a_kill_finds_its_address_free() {
    for backend in BACKENDS {
        let mut server = Poor::start(Command::new(SERVER).args([name(backend), "2"]));
        let address = server.address();
        for _ in 0..6 {
            let mut clients: Vec<_> = (0..20).map(|_| Client::connect(address)).collect();
            for client in &mut clients {
                assert_eq!(client.get("/").status, 200);
            }
            server.child.kill().unwrap();
            server.child.wait().unwrap();
            server = Poor::start(Command::new(SERVER).args([name(backend), "2", &address.to_string()]));
            assert_eq!(server.address(), address);
        }
    }
}

#[test]
fn a_core_whose_main_panics_stops_all_and_closes_every_socket() {
    for backend in BACKENDS {
        for bad in [0, 1] {
            let listeners =
                Listeners::bind(&"127.0.0.1:0".parse().unwrap(), 2, &ListenOptions::default()).unwrap();
            let address = listeners.address().as_tcp().unwrap();
            let sockets = Mutex::new(listeners.into_sockets().map(Some).collect::<Vec<_>>());
            let error = Cores::builder()
                .count(2)
                .backend(backend)
                .start(move |core| {
                    assert_ne!(core.index(), bad, "that core is bad");
                    let socket = sockets.lock().unwrap()[core.index()].take().unwrap();
                    async move {
                        let listener = Listener::new(&core, socket).unwrap();
                        while listener.accept().await.is_some() {}
                    }
                })
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("core {bad} ")) && error.contains("that core is bad"), "{error}");
            assert!(Client::try_connect(address).is_err(), "{backend:?}: somebody listens");
        }
    }
}
