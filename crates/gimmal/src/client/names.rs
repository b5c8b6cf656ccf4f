//! The addresses of names, looked up on threads of their own.
//!
//! The system's resolver blocks for as long as a name server is silent. Its threads do nothing else, so that a slow name
//! server holds up neither password hashes nor files.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Names that are looked up at once, process-wide.
const THREADS_MAX: usize = 8;
/// Names that wait for a thread; what comes beyond is refused.
const WAITING_MAX: usize = 256;
/// Names whose addresses are kept.
const KEPT_MAX: usize = 1024;
/// How long addresses are kept.
const KEPT: Duration = Duration::from_secs(5);
/// How long it is kept that a name has none.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

static NAMES: LazyLock<Arc<Names>> = LazyLock::new(|| Names::new(look_up));

/// Finds the addresses of a name.
///
/// # Cancel safety
/// A look-up that nobody waits for any more goes on, and its result is kept.
pub(super) async fn resolve(name: &str) -> io::Result<Arc<[IpAddr]>> {
    NAMES.resolve(name).await
}

fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    // The port plays no part in it.
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

type LookUp = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// What became of a look-up. The error can be told to many.
#[derive(Clone)]
struct Outcome {
    addresses: Result<Arc<[IpAddr]>, (io::ErrorKind, Arc<str>)>,
    until: Instant,
}

/// `None` until the look-up has ended.
type Answer = Option<Outcome>;

struct Names {
    look_up: Box<LookUp>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All names that are being looked up, and those whose outcome is kept.
    known: HashMap<Box<str>, watch::Receiver<Answer>>,
    waiting: VecDeque<(Box<str>, watch::Sender<Answer>)>,
    threads: usize,
}

impl State {
    /// The look-up of a name that runs, or whose outcome still holds.
    fn find(&self, name: &str) -> Option<watch::Receiver<Answer>> {
        let known = self.known.get(name)?;
        is_current(known).then(|| known.clone())
    }

    /// Forgets what holds no longer; if that is not enough, what would be forgotten first.
    fn make_room(&mut self) {
        if self.known.len() < KEPT_MAX {
            return;
        }
        self.known.retain(|_, known| is_current(known));
        if self.known.len() >= KEPT_MAX {
            let ended =
                self.known.iter().filter_map(|(name, known)| Some((known.borrow().as_ref()?.until, name)));
            if let Some(first) = ended.min().map(|(_, name)| name.clone()) {
                self.known.remove(&first);
            }
        }
    }
}

fn is_current(known: &watch::Receiver<Answer>) -> bool {
    known.borrow().as_ref().is_none_or(|outcome| outcome.until > Instant::now())
}

impl Names {
    fn new(look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { look_up: Box::new(look_up), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn resolve(self: &Arc<Self>, name: &str) -> io::Result<Arc<[IpAddr]>> {
        let mut answer = self.ask(name)?;
        let answer = answer.wait_for(Option::is_some).await;
        let outcome = answer.ok().and_then(|answer| answer.clone());
        // Its thread could not be started.
        let outcome = outcome.ok_or_else(|| io::Error::other("no thread could look the name up"))?;
        outcome.addresses.map_err(|(kind, reason)| io::Error::new(kind, &*reason))
    }

    /// Joins the look-up of a name, or starts one.
    fn ask(self: &Arc<Self>, name: &str) -> io::Result<watch::Receiver<Answer>> {
        let mut state = self.state();
        if let Some(known) = state.find(name) {
            return Ok(known);
        }
        if state.waiting.len() >= WAITING_MAX {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "too many names wait to be looked up; is the name server there?",
            ));
        }
        state.make_room();
        let (sender, answer) = watch::channel(None);
        state.known.insert(name.into(), answer.clone());
        state.waiting.push_back((name.into(), sender));
        if state.threads < THREADS_MAX {
            let names = Arc::clone(self);
            match thread::Builder::new().name("gimmal-names".into()).spawn(move || names.work()) {
                Ok(_) => state.threads += 1,
                // Those that run see to it.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    state.waiting.pop_back();
                    state.known.remove(name);
                    return Err(error);
                }
            }
        }
        Ok(answer)
    }

    /// Looks names up until none waits.
    fn work(&self) {
        loop {
            let (name, sender) = {
                let mut state = self.state();
                match state.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        state.threads -= 1;
                        return;
                    }
                }
            };
            let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&name)))
                .unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")));
            let kept = if found.is_ok() { KEPT } else { FAILURE_KEPT };
            let addresses =
                found.map(Arc::from).map_err(|error| (error.kind(), Arc::from(error.to_string().as_str())));
            sender.send_replace(Some(Outcome { addresses, until: Instant::now() + kept }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, mpsc};

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A name server that is silent until it is told to speak.
    #[derive(Default)]
    struct Silence {
        speaks: Mutex<bool>,
        changed: Condvar,
        asked: AtomicUsize,
    }

    impl Silence {
        fn names(self: &Arc<Self>) -> Arc<Names> {
            let silence = Arc::clone(self);
            Names::new(move |name| {
                silence.asked.fetch_add(1, Ordering::SeqCst);
                let speaks = silence.speaks.lock().unwrap();
                drop(silence.changed.wait_while(speaks, |speaks| !*speaks).unwrap());
                if name == "nowhere" { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![ADDRESS]) }
            })
        }

        fn end(&self) {
            *self.speaks.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    #[tokio::test]
    async fn slow_names_take_no_thread_from_blocking_work() {
        let silence = Arc::new(Silence::default());
        let names = silence.names();
        let asked: Vec<_> = (0..200).map(|n| names.ask(&n.to_string()).unwrap()).collect();
        let work = (0..gimmal_runtime::BLOCKING_RUNNING_MAX).map(|_| gimmal_runtime::blocking(|| ()));
        for work in work {
            work.await.unwrap();
        }
        assert!(silence.asked.load(Ordering::SeqCst) <= THREADS_MAX);
        silence.end();
        for mut answer in asked {
            answer.wait_for(Option::is_some).await.unwrap();
        }
        assert_eq!(silence.asked.load(Ordering::SeqCst), 200);
    }

    #[tokio::test]
    async fn many_that_ask_for_a_name_are_answered_by_one_look_up() {
        let silence = Arc::new(Silence::default());
        let names = silence.names();
        // One of them gives up.
        let given_up = names.ask("a").unwrap();
        let others: Vec<_> = (0..50).map(|_| names.ask("a").unwrap()).collect();
        drop(given_up);
        silence.end();
        for mut other in others {
            let answer = other.wait_for(Option::is_some).await.unwrap().clone();
            assert_eq!(*answer.unwrap().addresses.unwrap(), [ADDRESS]);
        }
        assert_eq!(*names.resolve("a").await.unwrap(), [ADDRESS]);
        assert_eq!(silence.asked.load(Ordering::SeqCst), 1);
        assert_eq!(names.resolve("nowhere").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn names_that_wait_or_are_kept_are_bounded() {
        let silence = Arc::new(Silence::default());
        let names = silence.names();
        let refused = (0..10_000).filter(|n: &i32| names.ask(&n.to_string()).is_err()).count();
        assert!(refused >= 10_000 - WAITING_MAX - THREADS_MAX, "{refused}");
        silence.end();
        let (done, wait) = mpsc::channel();
        let asks = Arc::clone(&names);
        thread::spawn(move || {
            for n in 0..3 * KEPT_MAX {
                while asks.ask(&format!("name {n}")).is_err() {
                    thread::yield_now();
                }
                assert!(asks.state().known.len() <= KEPT_MAX + 1);
            }
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[tokio::test]
    async fn a_look_up_that_panics_is_an_error() {
        let names = Names::new(|_| panic!("boom"));
        assert!(names.resolve("a").await.is_err());
        assert!(names.resolve("b").await.is_err(), "and the next name is looked up all the same");
    }
}
