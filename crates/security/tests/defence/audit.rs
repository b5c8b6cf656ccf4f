//! The audit log: tampering shows, and nobody can write a line that was not recorded.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gimmal_security::audit::{
    AuditEvent, AuditLog, AuditRecord, ChainError, ChainFault, ChainHead, ChainVerifier, verify,
};
use gimmal_security::{Finding, Mechanism, SecretSlice, Severity};
use proptest::prelude::*;
use serde_json::Value;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
}

fn failed(account: &str) -> AuditRecord<'_> {
    AuditRecord::new(AuditEvent::LoginFailed {
        mechanism: Mechanism::Password,
        account: Some(account),
        reason: "wrong password",
    })
}

fn log_of(count: usize, key: Option<&SecretSlice<u8>>) -> String {
    let memory = Memory::default();
    let log = AuditLog::new(memory.clone(), key);
    for number in 0..count {
        log.record(&failed(&format!("user{number}")), now()).unwrap();
    }
    memory.text()
}

fn fault(text: &str, key: Option<&SecretSlice<u8>>) -> (u64, ChainFault) {
    match verify(text.as_bytes(), key) {
        Err(ChainError::Line { line, fault }) => (line, fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_one_line_of_json() {
    let memory = Memory::default();
    let log = AuditLog::new(memory.clone(), None);
    let policies = ["closed at night".to_owned()];
    let record = AuditRecord::new(AuditEvent::Forbidden {
        method: "DELETE",
        path: "/articles/1",
        reason: "lacks permission \"articles:delete\"",
        policies: &policies,
    });
    let record = record.principal("alice").client("203.0.113.9".parse().unwrap()).request("r-1");
    log.record(&record, now()).unwrap();
    let text = memory.text();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "sequence": 1, "time": "2023-11-14T22:13:20.123Z", "event": "forbidden", "method": "DELETE",
            "path": "/articles/1", "reason": "lacks permission \"articles:delete\"", "policies": ["closed at night"],
            "principal": "alice", "client": "203.0.113.9", "request": "r-1", "previous": "0".repeat(64),
            "hash": value["hash"],
        })
    );
    // The hash is of all before it, so that any other program can verify it.
    let at = text.find(",\"hash\"").unwrap();
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(&text[..at]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(value["hash"], hash.as_str());
}

#[test]
fn a_whole_log_verifies_and_goes_on() {
    let key: SecretSlice<u8> = vec![7; 32].into();
    for key in [None, Some(&key)] {
        let memory = Memory::default();
        let log = AuditLog::new(memory.clone(), key);
        log.record(&failed("a"), now()).unwrap();
        let head = verify(memory.text().as_bytes(), key).unwrap();
        assert_eq!(head, log.head());
        let log = AuditLog::resume(memory.clone(), key, head);
        log.record(&failed("b"), now()).unwrap();
        assert_eq!(verify(memory.text().as_bytes(), key).unwrap().sequence, 2);
    }
    assert_eq!(verify(&b""[..], None).unwrap(), ChainHead::default());
}

#[test]
fn tampering_with_a_record_shows() {
    let text = log_of(5, None);
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();

    let changed = text.replacen("user2", "userX", 1);
    assert_eq!(fault(&changed, None), (3, ChainFault::Hash));
    let removed = join(&[lines[0], lines[1], lines[3], lines[4]]);
    assert_eq!(fault(&removed, None), (3, ChainFault::Link));
    let swapped = join(&[lines[0], lines[2], lines[1], lines[3]]);
    assert_eq!(fault(&swapped, None), (2, ChainFault::Link));
    let doubled = join(&[lines[0], lines[0]]);
    assert_eq!(fault(&doubled, None), (2, ChainFault::Link));
    let beheaded = join(&lines[1..]);
    assert_eq!(fault(&beheaded, None), (1, ChainFault::Link));
    let torn = &text[..text.len() - 10];
    assert_eq!(fault(torn, None), (5, ChainFault::Malformed));
    let unended = text.trim_end();
    assert_eq!(fault(unended, None), (5, ChainFault::Malformed));
    let put_in = join(&[lines[0], "{\"event\":\"login_succeeded\"}", lines[1]]);
    assert_eq!(fault(&put_in, None), (2, ChainFault::Malformed));
    // A record of another log that has the right number.
    let memory = Memory::default();
    let other = AuditLog::new(memory.clone(), None);
    for account in ["x", "y"] {
        other.record(&failed(account), now()).unwrap();
    }
    let spliced = join(&[lines[0], memory.text().lines().nth(1).unwrap()]);
    assert_eq!(fault(&spliced, None), (2, ChainFault::Link));
    // What was cut off at the end shows only against a head that was kept elsewhere.
    let head = verify(text.as_bytes(), None).unwrap();
    assert_ne!(verify(join(&lines[..4]).as_bytes(), None).unwrap(), head);
}

#[test]
fn forging_a_chain_needs_the_key() {
    let key: SecretSlice<u8> = vec![7; 32].into();
    // Who can write the file makes a chain that fits, without the key.
    assert_eq!(fault(&log_of(2, None), Some(&key)), (1, ChainFault::Hash));
    let other: SecretSlice<u8> = vec![8; 32].into();
    assert_eq!(fault(&log_of(2, Some(&other)), Some(&key)), (1, ChainFault::Hash));
    assert_eq!(fault(&log_of(2, Some(&key)), None), (1, ChainFault::Hash));
    assert_eq!(verify(log_of(2, Some(&key)).as_bytes(), Some(&key)).unwrap().sequence, 2);
}

#[test]
fn a_chain_goes_over_several_files() {
    let text = log_of(4, None);
    let (first, second) = text.split_at(text.match_indices('\n').nth(1).unwrap().0 + 1);
    let mut verifier = ChainVerifier::new(verify(first.as_bytes(), None).unwrap(), None);
    for line in second.lines() {
        verifier.line(line.as_bytes()).unwrap();
    }
    assert_eq!(verifier.head().sequence, 4);
}

#[test]
fn log_injection_is_escaped() {
    let attack =
        "bob\n{\"event\":\"login_succeeded\"}\r\u{1b}[2K\u{9b}31m\u{2028}\u{202e}\u{85}\u{7f}\",\"hash\":\"";
    let memory = Memory::default();
    let log = AuditLog::new(memory.clone(), None);
    log.record(&failed(attack).principal(attack).request(attack), now()).unwrap();
    let text = memory.text();
    assert_eq!(text.matches('\n').count(), 1);
    assert!(
        !text
            .trim_end()
            .chars()
            .any(|character| character.is_control() || "\u{2028}\u{202e}".contains(character))
    );
    // Nothing is lost.
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["account"], attack);
    assert_eq!(value["event"], "login_failed");
    assert_eq!(verify(text.as_bytes(), None).unwrap().sequence, 1);
}

#[test]
fn a_long_text_is_cut() {
    let memory = Memory::default();
    let long = "é".repeat(1_000_000);
    AuditLog::new(memory.clone(), None).record(&failed(&long), now()).unwrap();
    assert!(memory.text().len() < 2000);
}

#[test]
fn every_event_has_its_name_in_its_record() {
    let finding = Finding { severity: Severity::Danger, code: "x.y", what: "w".into(), cure: "c".into() };
    let names = ["a".to_owned()];
    let mechanism = Mechanism::ApiKey;
    let events = [
        AuditEvent::LoginSucceeded { mechanism },
        AuditEvent::LoginFailed { mechanism, account: None, reason: "r" },
        AuditEvent::LoggedOut { everywhere: true },
        AuditEvent::LockedOut { account: Some("a"), seconds: 60 },
        AuditEvent::Unauthenticated { method: "GET", path: "/" },
        AuditEvent::Forbidden { method: "GET", path: "/", reason: "r", policies: &names },
        AuditEvent::CsrfRefused { method: "POST", path: "/", reason: "r" },
        AuditEvent::RateLimited { quota: "login", path: "/", refused: 1 },
        AuditEvent::AttackRefused { guard: "path_traversal", reason: "r" },
        AuditEvent::SessionRevoked { session: "h" },
        AuditEvent::CredentialChanged { account: "a", mechanism },
        AuditEvent::ApiKeyCreated { key: "k" },
        AuditEvent::ApiKeyRevoked { key: "k" },
        AuditEvent::KeyRotated { purpose: "csrf", key: "k" },
        AuditEvent::CertificateReloaded { names: &names, not_after: 1 },
        AuditEvent::CertificateReloadFailed { reason: "r" },
        AuditEvent::PoliciesReloaded { policies: 1 },
        AuditEvent::PoliciesReloadFailed { reason: "r" },
        AuditEvent::ConfigurationFinding { finding: &finding },
        AuditEvent::ServerStarted,
        AuditEvent::ServerStopped,
    ];
    let memory = Memory::default();
    let log = AuditLog::new(memory.clone(), None);
    for event in &events {
        log.record(&AuditRecord::new(event.clone()), now()).unwrap();
    }
    let text = memory.text();
    let seen: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect();
    let expected: Vec<Value> = events.iter().map(|event| event.name().into()).collect();
    assert_eq!(seen, expected);
    let finding = text.lines().find(|line| line.contains("configuration_finding")).unwrap();
    assert!(finding.contains("\"code\":\"x.y\"") && finding.contains("\"severity\":\"danger\""));
    verify(text.as_bytes(), None).unwrap();
}

/// A sink that writes half of a line, then nothing, then works.
struct Failing(Memory, usize);

impl io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1 == 2 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_the_chain_goes_on() {
    let memory = Memory::default();
    let log = AuditLog::new(Failing(memory.clone(), 0), None);
    log.record(&failed("a"), now()).unwrap();
    assert_eq!(log.record(&failed("b"), now()).unwrap_err().kind(), io::ErrorKind::StorageFull);
    log.record(&failed("c"), now()).unwrap();
    assert_eq!(verify(memory.text().as_bytes(), None).unwrap().sequence, 2);
}

#[test]
fn records_of_many_threads_are_one_chain() {
    let memory = Memory::default();
    let log = Arc::new(AuditLog::new(memory.clone(), None));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            std::thread::spawn(move || (0..50).for_each(|_| log.record(&failed("a"), now()).unwrap()))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(verify(memory.text().as_bytes(), None).unwrap().sequence, 200);
}

proptest! {
    #[test]
    fn log_injection_by_any_text_is_escaped_and_loses_nothing(account in ".{0,100}", control in "[\\x00-\\x1f\\x7f-\\x9f]{0,5}") {
        let account = account + &control;
        let memory = Memory::default();
        AuditLog::new(memory.clone(), None).record(&failed(&account), now()).unwrap();
        let text = memory.text();
        prop_assert!(!text[..text.len() - 1].chars().any(char::is_control));
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value["account"].as_str(), Some(account.as_str()));
        prop_assert!(verify(text.as_bytes(), None).is_ok());
    }

    #[test]
    fn any_changed_byte_shows(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = log_of(3, None).into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(verify(&bytes[..], None).is_err());
    }
}
