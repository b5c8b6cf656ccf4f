//! The audit log as `tracing` events. In a process of its own: whether an event is wanted is known once per process.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use gimmal_security::Mechanism;
use gimmal_security::audit::{AuditEvent, AuditLog, AuditRecord};

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

#[test]
fn records_are_tracing_events_with_their_fields() {
    let memory = Memory::default();
    let writer = memory.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let log = AuditLog::new(io::sink(), None);
        let event = AuditEvent::LoginFailed {
            mechanism: Mechanism::Password,
            account: Some("eve\u{1b}[2K\nroot"),
            reason: "wrong password",
        };
        let record = AuditRecord::new(event).principal("eve\nroot").client("203.0.113.9".parse().unwrap());
        log.record(&record, SystemTime::now()).unwrap();
    });
    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'));
    for part in [
        "WARN",
        "gimmal::audit",
        "event=\"login_failed\"",
        "client=203.0.113.9",
        "principal=eve\\u{a}root",
        "sequence=1",
        "hash=\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
