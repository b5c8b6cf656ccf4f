//! What sessions promise, whatever the store; each test of an attack bears its name.

use std::time::{SystemTime, UNIX_EPOCH};

use gimmal_security::cookies::Cookies;
use gimmal_security::session::{Session, SessionError, SessionOptions, SessionStore, Sessions};
use gimmal_security::{Mechanism, Principal};
use http::HeaderValue;

/// The real time: Redis has a clock of its own.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sessions<S: SessionStore>(store: S) -> Sessions<S> {
    Sessions::new(store, SessionOptions::default())
}

fn principal(id: &str, now: u64) -> Principal {
    Principal::new(id, Mechanism::Password, now).with_role("reader")
}

/// `name=value` of a `Set-Cookie` field.
fn pair(set_cookie: &HeaderValue) -> String {
    set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn load<S: SessionStore>(sessions: &Sessions<S>, cookie: &str, now: u64) -> Session {
    sessions.load(&Cookies::parse([cookie.as_bytes()]), now).await.unwrap()
}

/// Logs in, and gives the cookie.
async fn log_in<S: SessionStore>(sessions: &Sessions<S>, cookie: &str, id: &str, now: u64) -> String {
    let mut session = load(sessions, cookie, now).await;
    session.log_in(principal(id, now));
    pair(&sessions.commit(session, now).await.unwrap().unwrap())
}

async fn who<S: SessionStore>(sessions: &Sessions<S>, cookie: &str, now: u64) -> Option<String> {
    load(sessions, cookie, now).await.principal().map(|principal| principal.id().to_owned())
}

fn is_removal(set_cookie: &Option<HeaderValue>) -> bool {
    set_cookie.as_ref().is_some_and(|value| value.to_str().unwrap().contains("Max-Age=0"))
}

pub async fn a_login_lasts(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let mut session = load(&sessions, "", now).await;
    session.insert("cart", &vec![1, 2, 3]).unwrap();
    session.insert("empty", &Vec::<u8>::new()).unwrap();
    session.log_in(principal("alice", now));
    let set_cookie = sessions.commit(session, now).await.unwrap().unwrap();
    let attributes = set_cookie.to_str().unwrap().split_once(';').unwrap().1;
    assert_eq!(attributes, " HttpOnly; SameSite=Lax; Secure; Path=/");
    let cookie = pair(&set_cookie);
    assert_eq!(cookie.len(), "__Host-session=".len() + 43);

    let session = load(&sessions, &cookie, now + 1).await;
    assert_eq!(session.principal(), Some(&principal("alice", now)));
    assert_eq!(session.get("cart"), Some(vec![1, 2, 3]));
    assert_eq!(session.get("empty"), Some(Vec::<u8>::new()));
    assert_eq!(session.get::<String>("cart"), None);
    assert_eq!(sessions.commit(session, now + 1).await.unwrap(), None);
}

/// Visitors who keep nothing cost nothing.
pub async fn no_session_without_need(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let session = load(&sessions, "theme=dark", now).await;
    assert_eq!(session.key(), None);
    assert_eq!(sessions.commit(session, now).await.unwrap(), None);
}

/// An attacker plants an id in the victim's browser and waits for the login.
pub async fn session_fixation(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    // An id that the attacker made up is not taken over.
    let invented = format!("__Host-session={}", "A".repeat(43));
    let mut session = load(&sessions, &invented, now).await;
    session.insert("cart", &1).unwrap();
    let cookie = pair(&sessions.commit(session, now).await.unwrap().unwrap());
    assert_ne!(cookie, invented);
    // An id that the attacker got from the server is worth nothing after the login.
    let after_login = log_in(&sessions, &cookie, "alice", now).await;
    assert_ne!(after_login, cookie);
    assert_eq!(who(&sessions, &cookie, now).await, None);
    assert_eq!(who(&sessions, &after_login, now).await.as_deref(), Some("alice"));
    assert_eq!(load(&sessions, &after_login, now).await.get("cart"), Some(1));
    assert_eq!(load(&sessions, &cookie, now).await.get::<u8>("cart"), None);
}

/// The same at a change of rights.
pub async fn session_fixation_at_a_privilege_change(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let before = log_in(&sessions, "", "alice", now).await;
    let mut session = load(&sessions, &before, now + 10).await;
    session.change_principal(principal("alice", now).with_role("admin"));
    let after = pair(&sessions.commit(session, now + 10).await.unwrap().unwrap());
    assert_eq!(who(&sessions, &before, now + 10).await, None);
    let session = load(&sessions, &after, now + 10).await;
    assert!(session.principal().unwrap().has_role("admin"));
    // The session did not begin anew.
    assert_eq!(sessions.list("alice", now + 10).await.unwrap()[0].created_at, now);
}

pub async fn replay_after_logout(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let mut session = load(&sessions, &cookie, now + 1).await;
    session.insert("secret", &1).unwrap();
    session.log_out();
    assert!(is_removal(&sessions.commit(session, now + 1).await.unwrap()));
    let session = load(&sessions, &cookie, now + 2).await;
    assert_eq!((session.principal(), session.get::<u8>("secret")), (None, None));
    // The browser is told to drop the dead cookie.
    assert!(is_removal(&sessions.commit(session, now + 2).await.unwrap()));
}

/// A slow request that ends after the logout must not bring the session back.
pub async fn resurrection_by_a_slow_request(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let mut slow = load(&sessions, &cookie, now).await;
    let mut slow_elevation = load(&sessions, &cookie, now).await;
    let mut quick = load(&sessions, &cookie, now).await;
    quick.log_out();
    sessions.commit(quick, now).await.unwrap();
    slow.insert("step", &2).unwrap();
    assert!(is_removal(&sessions.commit(slow, now + 5).await.unwrap()));
    slow_elevation.change_principal(principal("alice", now).with_role("admin"));
    assert!(is_removal(&sessions.commit(slow_elevation, now + 5).await.unwrap()));
    assert_eq!(who(&sessions, &cookie, now + 5).await, None);
    assert_eq!(sessions.list("alice", now + 5).await.unwrap(), []);
}

pub async fn stolen_cookie_after_idle_expiry(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let idle_seconds = 30 * 60;
    // Use keeps it alive.
    let mut used_at = now;
    for _ in 0..3 {
        used_at += idle_seconds - 1;
        let session = load(&sessions, &cookie, used_at).await;
        assert!(session.principal().is_some());
        assert_eq!(sessions.commit(session, used_at).await.unwrap(), None);
    }
    assert_eq!(who(&sessions, &cookie, used_at + idle_seconds).await, None);
    assert_eq!(sessions.list("alice", used_at + idle_seconds).await.unwrap(), []);
}

pub async fn stolen_cookie_after_absolute_expiry(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let absolute_seconds = 12 * 60 * 60;
    let mut used_at = now;
    while used_at + 900 < now + absolute_seconds {
        used_at += 900;
        let session = load(&sessions, &cookie, used_at).await;
        assert!(session.principal().is_some());
        sessions.commit(session, used_at).await.unwrap();
    }
    assert!(who(&sessions, &cookie, now + absolute_seconds - 1).await.is_some());
    assert_eq!(who(&sessions, &cookie, now + absolute_seconds).await, None);
}

pub async fn guessed_and_malformed_ids(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let id = cookie.split_once('=').unwrap().1;
    let key = load(&sessions, &cookie, now).await.key().unwrap().to_string();
    for guess in [
        "",
        "=",
        "' OR 1=1 --",
        "*",
        &id[..42],
        &format!("{id}="),
        &id.to_lowercase(),
        // What stands in the store.
        &key,
    ] {
        let cookie = format!("__Host-session={guess}");
        assert_eq!(who(&sessions, &cookie, now).await, None, "{guess}");
    }
    // Two ids: one of them was put there by somebody else.
    assert_eq!(who(&sessions, &format!("{cookie}; __Host-session=x"), now).await, None);
}

pub async fn log_out_everywhere(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let alice = [
        log_in(&sessions, "", "alice", now).await,
        log_in(&sessions, "", "alice", now + 1).await,
        log_in(&sessions, "", "alice", now + 2).await,
    ];
    let bob = log_in(&sessions, "", "bob", now).await;
    let list = sessions.list("alice", now + 3).await.unwrap();
    assert_eq!(list.iter().map(|summary| summary.seen_at - now).collect::<Vec<_>>(), [2, 1, 0]);

    // One by one: only the owner can.
    assert!(!sessions.revoke("bob", &list[2].key).await.unwrap());
    assert!(sessions.revoke("alice", &list[2].key).await.unwrap());
    assert!(!sessions.revoke("alice", &list[2].key).await.unwrap());
    assert_eq!(who(&sessions, &alice[0], now + 3).await, None);

    // All but this one.
    let this = *load(&sessions, &alice[2], now + 3).await.key().unwrap();
    assert_eq!(sessions.log_out_everywhere("alice", Some(&this)).await.unwrap(), 1);
    assert_eq!(who(&sessions, &alice[1], now + 3).await, None);
    assert!(who(&sessions, &alice[2], now + 3).await.is_some());
    assert_eq!(sessions.log_out_everywhere("alice", None).await.unwrap(), 1);
    assert_eq!(who(&sessions, &alice[2], now + 3).await, None);
    assert_eq!(sessions.list("alice", now + 3).await.unwrap(), []);
    assert!(who(&sessions, &bob, now + 3).await.is_some());
}

pub async fn log_out_by_the_provider(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let mut cookies = Vec::new();
    for provider_session_id in ["s1", "s2"] {
        let mut session = load(&sessions, "", now).await;
        session.log_in(principal("alice", now));
        session.set_provider_session("https://login.example", provider_session_id);
        cookies.push(pair(&sessions.commit(session, now).await.unwrap().unwrap()));
    }
    let log_out = |issuer| sessions.log_out_provider_session(issuer, "s1");
    assert_eq!(log_out("https://other.example").await.unwrap(), 0);
    assert_eq!(log_out("https://login.example").await.unwrap(), 1);
    assert_eq!(who(&sessions, &cookies[0], now).await, None);
    assert!(who(&sessions, &cookies[1], now).await.is_some());
    assert_eq!(sessions.list("alice", now).await.unwrap().len(), 1);
}

/// Nothing of one user's session may reach the next who logs in with the same browser.
pub async fn data_leak_between_users(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let alice = log_in(&sessions, "", "alice", now).await;
    let mut session = load(&sessions, &alice, now).await;
    session.insert("diary", &"dear diary").unwrap();
    sessions.commit(session, now).await.unwrap();
    let bob = log_in(&sessions, &alice, "bob", now + 1).await;
    assert_eq!(load(&sessions, &bob, now + 1).await.get::<String>("diary"), None);
    assert_eq!(who(&sessions, &alice, now + 1).await, None);
    assert_eq!(sessions.list("alice", now + 1).await.unwrap(), []);
}

/// Two requests of one session that change different values both succeed.
pub async fn concurrent_changes_merge(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let mut session = load(&sessions, &cookie, now).await;
    session.insert("gone", &1).unwrap();
    session.insert("kept", &1).unwrap();
    sessions.commit(session, now).await.unwrap();

    let (mut one, mut other) = (load(&sessions, &cookie, now).await, load(&sessions, &cookie, now).await);
    let reader = load(&sessions, &cookie, now).await;
    one.insert("a\"; b", &"\u{e9}\u{0}").unwrap();
    one.remove("gone");
    one.remove("never there");
    other.insert("b", &serde_json::json!({ "n": [1.5, null] })).unwrap();
    sessions.commit(one, now + 1).await.unwrap();
    sessions.commit(other, now + 1).await.unwrap();
    // One that only looks writes the time of its use, and no old values.
    sessions.commit(reader, now + 100).await.unwrap();

    let session = load(&sessions, &cookie, now + 100).await;
    assert_eq!(session.get::<String>("a\"; b").as_deref(), Some("\u{e9}\u{0}"));
    assert_eq!(session.get("b"), Some(serde_json::json!({ "n": [1.5, null] })));
    assert_eq!((session.get("kept"), session.get::<u8>("gone")), (Some(1), None));
    assert_eq!(sessions.list("alice", now + 100).await.unwrap()[0].seen_at, now + 100);
}

pub async fn data_flood(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    for cookie in ["", &cookie] {
        let mut session = load(&sessions, cookie, now).await;
        session.insert("flood", &"x".repeat(64 * 1024)).unwrap();
        assert_eq!(sessions.commit(session, now).await, Err(SessionError::TooLarge));
    }
    assert!(who(&sessions, &cookie, now).await.is_some());
}

/// What a handler says after the logout is for the next session.
pub async fn a_message_after_logout(store: impl SessionStore) {
    let (sessions, now) = (sessions(store), now());
    let cookie = log_in(&sessions, "", "alice", now).await;
    let mut session = load(&sessions, &cookie, now).await;
    session.log_out();
    session.insert("message", &"See you!").unwrap();
    let next = pair(&sessions.commit(session, now).await.unwrap().unwrap());
    let session = load(&sessions, &next, now).await;
    assert_eq!((session.principal(), session.get("message")), (None, Some("See you!".to_owned())));
    assert_eq!(who(&sessions, &cookie, now).await, None);
}

/// Shorter time-outs count for the sessions that are there already.
pub async fn time_outs_of_today(store: impl SessionStore) {
    let now = now();
    let long = Sessions::new(&store, SessionOptions::default().with_idle_seconds(3600));
    let cookie = log_in(&long, "", "alice", now).await;
    let short = Sessions::new(&store, SessionOptions::default().with_idle_seconds(60));
    assert!(who(&long, &cookie, now + 60).await.is_some());
    assert_eq!(who(&short, &cookie, now + 60).await, None);
}

/// The id of a session that is in the store, for a test that looks for it there.
pub async fn id_of_a_stored_session(store: impl SessionStore) -> String {
    let cookie = log_in(&sessions(store), "", "alice", now()).await;
    cookie.split_once('=').unwrap().1.to_owned()
}

/// A test of each promise; `$store` makes an empty store in `$scope`, which lives as long as the test.
macro_rules! session_tests {
    ($scope:expr, $store:expr, [$($name:ident),* $(,)?]) => {
        $(
            #[tokio::test]
            async fn $name() {
                let scope = $scope;
                session::$name(($store)(&scope)).await;
            }
        )*
    };
    ($scope:expr, $store:expr) => {
        session_tests!($scope, $store, [
            a_login_lasts,
            no_session_without_need,
            session_fixation,
            session_fixation_at_a_privilege_change,
            replay_after_logout,
            resurrection_by_a_slow_request,
            stolen_cookie_after_idle_expiry,
            stolen_cookie_after_absolute_expiry,
            guessed_and_malformed_ids,
            log_out_everywhere,
            log_out_by_the_provider,
            data_leak_between_users,
            concurrent_changes_merge,
            data_flood,
            a_message_after_logout,
            time_outs_of_today,
        ]);
    };
}
