//! Cookies, and what they carry: ids of sessions, signed and sealed values, tokens against forged requests.

use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use gimmal_security::cookies::{Cookie, CookieKeys, Cookies, set_cookie};
use gimmal_security::csrf::{CsrfBinding, CsrfTokens};
use gimmal_security::session::{CookieAfter, MemorySessionStore, SessionOptions, Sessions};

const NOW: u64 = 1_800_000_000;

static KEYS: LazyLock<CookieKeys> = LazyLock::new(CookieKeys::random);
static TOKENS: LazyLock<CsrfTokens> = LazyLock::new(CsrfTokens::random);
static SESSIONS: LazyLock<Sessions<MemorySessionStore>> =
    LazyLock::new(|| Sessions::new(MemorySessionStore::new(10), SessionOptions::default()));

/// The output of a future that waits for nothing.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing is waited for"),
    }
}

/// Each line is a field.
pub fn run(data: &[u8]) {
    let cookies = Cookies::parse(data.split(|&byte| byte == b'\n'));
    for (name, value) in cookies.iter() {
        assert!(!name.is_empty() && !name.contains(['=', ';']) && !value.contains(';'));
        let several = cookies.iter().filter(|(other, _)| *other == name).count() > 1;
        assert_eq!(cookies.get_unique(name).is_none(), several);
        // Nothing that a peer makes up is taken for what this process signed, sealed or issued.
        assert_eq!(KEYS.verify(name, value, NOW), None);
        assert_eq!(KEYS.open(name, value, NOW), None);
        assert!(TOKENS.verify(value, CsrfBinding { session: name, cookie: value }, NOW).is_err());
        // What is set adds no line and no attribute.
        if let Ok(field) = set_cookie(&Cookie::new(name, value)) {
            assert_eq!(field.as_bytes(), format!("{name}={value}").as_bytes());
        }
    }
    let mut session = at_once(SESSIONS.load(&cookies, NOW)).expect("the store is in memory");
    assert!(session.principal().is_none() && session.key().is_none());
    let is_sent = cookies.get("__Host-session").is_some();
    let expected = if is_sent { CookieAfter::Removed } else { CookieAfter::AsSent };
    assert_eq!(SESSIONS.cookie_after(&mut session), expected);
}
