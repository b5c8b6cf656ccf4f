//! A process that may open few files. It is alone in this program, since the limit is the process's.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gimmal::files::{self, Files};
use gimmal::{App, Request};
use gimmal_tests::{BACKENDS, Client, eventually, server, start};

const LIMIT: usize = 512;

fn limit_descriptors() {
    let process = std::process::id().to_string();
    let limit =
        Command::new("prlimit").args(["--pid", &process, &format!("--nofile={LIMIT}:{LIMIT}")]).status();
    assert!(limit.expect("prlimit is installed (util-linux)").success());
}

/// Descriptors of files in a folder.
fn held_open(folder: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

/// Takes all descriptors that are left.
fn fill(fillers: &mut Vec<File>) {
    while let Ok(filler) = File::open("/dev/null") {
        fillers.push(filler);
    }
}

#[test]
fn open_files_that_are_kept_give_way_where_descriptors_are_few() {
    limit_descriptors();
    for backend in BACKENDS {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..100 {
            fs::write(folder.path().join(number.to_string()), number.to_string()).unwrap();
        }
        let kept = Files::open(&folder).unwrap().stale_after(Duration::from_secs(3600));
        let single = folder.path().join("99");
        let app = App::new()
            .files("/", kept)
            .get("/single", async move |request: Request| files::file(&request, &single).await);
        let server = start(server(app, backend));
        let mut client = Client::connect(server.address());
        for number in 0..60 {
            assert_eq!(client.get(&format!("/{number}")).text(), number.to_string(), "{backend:?}");
        }
        let kept = held_open(folder.path());
        assert!(kept > 0 && kept <= LIMIT / 16, "{backend:?}: {kept} files are kept open");

        let mut fillers = Vec::new();
        fill(&mut fillers);
        for number in 60..99 {
            assert_eq!(client.get(&format!("/{number}")).text(), number.to_string(), "{backend:?}");
        }
        fill(&mut fillers);
        assert_eq!(client.get("/single").text(), "99", "{backend:?}");
        // Nothing is left that could give way.
        eventually("all that was kept is closed", || held_open(folder.path()) == 0);
        fill(&mut fillers);
        assert_eq!(client.get("/1").status, 503, "{backend:?}");
        fillers.clear();
        assert_eq!(client.get("/1").text(), "1", "{backend:?}");
    }
}
