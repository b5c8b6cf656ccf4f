//! Rate limits that many machines share, against a real Redis: needs `redis-server` on the PATH.

use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gimmal_security::SecretString;
use gimmal_security::rate_limit::{Quota, RedisStore, Store, StoreError};
use redis::aio::MultiplexedConnection;

/// A server on a Unix socket in a folder of its own, gone with the test.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is on the PATH");
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready to accept connections") && !line.contains("Ready to accept connections") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "redis-server ended");
        }
        // It goes on to write, and must not meet a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { process, folder }
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("socket").display())
    }

    fn store(&self) -> RedisStore {
        RedisStore::new(&SecretString::from(self.url()), "test").unwrap()
    }

    async fn connect(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

#[test]
fn a_burst_passes_and_then_one_in_each_interval() {
    let server = Server::start();
    block_on(async {
        let store = server.store();
        let quota = Quota::per_second("q", 1).unwrap().with_burst(3).unwrap();
        for remaining in [2, 1, 0] {
            let decision = store.check(&quota, "k", weight(1)).await.unwrap();
            assert!(decision.is_allowed());
            assert_eq!(decision.remaining, remaining);
        }
        let refused = store.check(&quota, "k", weight(1)).await.unwrap();
        let wait = refused.retry_after.expect("refused");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        tokio::time::sleep(wait).await;
        assert!(store.check(&quota, "k", weight(1)).await.unwrap().is_allowed());

        // Other keys and other quotas are apart.
        assert!(store.check(&quota, "other", weight(1)).await.unwrap().is_allowed());
        let other = Quota::per_second("other", 1).unwrap();
        assert!(store.check(&other, "k", weight(1)).await.unwrap().is_allowed());
    });
}

#[test]
fn many_machines_together_pass_no_more_than_the_quota() {
    let server = Server::start();
    block_on(async {
        let started = Instant::now();
        let quota = Quota::per_hour("q", 3600).unwrap().with_burst(50).unwrap();
        let mut machines = Vec::new();
        for _ in 0..4 {
            let store = server.store();
            let quota = quota.clone();
            machines.push(tokio::spawn(async move {
                let mut passed = 0;
                for _ in 0..40 {
                    passed += u64::from(store.check(&quota, "k", weight(1)).await.unwrap().is_allowed());
                }
                passed
            }));
        }
        let mut passed = 0;
        for machine in machines {
            passed += machine.await.unwrap();
        }
        // One more for each second that the test took.
        assert!((50..=51 + started.elapsed().as_secs()).contains(&passed), "{passed}");
    });
}

#[test]
fn a_counter_vanishes_when_it_is_paid_off() {
    let server = Server::start();
    block_on(async {
        let mut connection = server.connect().await;
        let store = server.store();
        let quota = Quota::per_second("q", 1).unwrap();
        assert!(store.check(&quota, "k", weight(1)).await.unwrap().is_allowed());
        let left = || {
            let mut connection = connection.clone();
            async move {
                let command = redis::cmd("PTTL").arg("test:rate_limit:q:k").to_owned();
                command.query_async::<i64>(&mut connection).await.unwrap()
            }
        };
        assert!((1..=1001).contains(&left().await));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        // -2: there is no such key.
        assert_eq!(left().await, -2);
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
        assert_eq!(keys, 0);
    });
}

#[test]
fn what_can_never_pass_and_a_lost_server_are_errors() {
    let server = Server::start();
    block_on(async {
        let store = server.store();
        let quota = Quota::per_second("q", 2).unwrap();
        assert!(matches!(store.check(&quota, "k", weight(3)).await, Err(StoreError::TooHeavy(_))));
        drop(server);
        assert!(matches!(store.check(&quota, "k", weight(1)).await, Err(StoreError::Unavailable(_))));
    });
}
