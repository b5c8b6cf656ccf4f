//! The audit log in a file, and the command that verifies it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use gimmal_security::SecretSlice;
use gimmal_security::audit::{AuditEvent, AuditLog, AuditOpenError, AuditRecord};

fn record(log: &AuditLog, account: &str) {
    let event = AuditEvent::LockedOut { account: Some(account), seconds: 60 };
    log.record(&AuditRecord::new(event), SystemTime::now()).unwrap();
}

fn write(path: &Path, key: Option<&SecretSlice<u8>>, count: usize) -> AuditLog {
    let log = AuditLog::open(path, key).unwrap();
    (0..count).for_each(|number| record(&log, &format!("account {number}")));
    log
}

/// The exit code of the command, and all that it says.
fn command(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gimmal-audit")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let head = write(&path, None, 3).head();
    assert_eq!(head.sequence, 3);
    let log = write(&path, None, 2);
    assert_eq!(log.head().sequence, 5);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Two writers would make two chains.
    assert!(matches!(AuditLog::open(&path, None), Err(AuditOpenError::InUse)));
    drop(log);
    assert!(AuditLog::open(&path, None).is_ok());
}

#[test]
fn a_log_that_is_not_whole_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    write(&path, None, 3);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("account 1", "account 7")).unwrap();
    let error = AuditLog::open(&path, None).unwrap_err();
    assert!(matches!(error, AuditOpenError::Broken(_)));
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(matches!(AuditLog::open(folder.path(), None), Err(AuditOpenError::Open(_))));
}

/// As a loss of power leaves it.
#[test]
fn a_torn_last_record_keeps_no_service_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let [path, aside] = ["audit.jsonl", "audit.jsonl.torn"].map(|name| folder.path().join(name));
    write(&path, None, 3);
    let whole = fs::read_to_string(&path).unwrap();
    let torn = whole.lines().nth(2).unwrap();
    let kept = whole.len() - torn.len() - 1;
    let mut kept_aside = String::new();
    // Whatever of the record has reached the disk: a byte, a half, or all but its line end.
    for len in [1, torn.len() / 2, torn.len()] {
        fs::write(&path, &whole[..kept + len]).unwrap();
        assert_eq!(write(&path, None, 1).head().sequence, 4, "two whole ones, the repair, and a new one");
        let text = fs::read_to_string(&path).unwrap();
        let repair = text.lines().nth(2).unwrap();
        assert!(repair.contains("\"event\":\"audit_log_repaired\""), "{repair}");
        assert!(repair.contains(&format!("\"bytes\":{len},")), "{repair}");
        kept_aside += &format!("{}\n", &torn[..len]);
        assert_eq!(fs::read_to_string(&aside).unwrap(), kept_aside);
        assert_eq!(fs::metadata(&aside).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(command(&[path.to_str().unwrap()]).0, 0);
    }
    // A whole file of one torn record.
    fs::write(&path, torn).unwrap();
    assert_eq!(write(&path, None, 0).head().sequence, 1);
}

/// A record that was changed may be evidence, whatever stands behind it; so may what is too long for a record.
#[test]
fn a_torn_last_record_hides_no_other_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    write(&path, None, 3);
    let whole = fs::read_to_string(&path).unwrap();
    let changed = format!("{}{{\"seq", whole.replace("account 1", "account 7"));
    let long = format!("{whole}{}", "x".repeat(70_000));
    for broken in [changed, long, "x".repeat(70_000), format!("{whole}torn\n")] {
        fs::write(&path, &broken).unwrap();
        assert!(matches!(AuditLog::open(&path, None), Err(AuditOpenError::Broken(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), broken, "it is left as it was");
    }
    assert!(!folder.path().join("audit.jsonl.torn").exists());
}

/// The disk is full, here by a limit to the size of files: what is written is whole, and a restart goes on with it.
#[test]
fn a_record_that_does_not_fit_leaves_nothing_behind() {
    const FULL: &str = "GIMMAL_TEST_LOG_ON_A_FULL_DISK";
    if let Some(path) = std::env::var_os(FULL) {
        let log = AuditLog::open(&path, None).unwrap();
        let event = AuditEvent::LockedOut { account: Some("somebody"), seconds: 60 };
        let written =
            (0..100).filter(|_| log.record(&AuditRecord::new(event.clone()), SystemTime::now()).is_ok());
        let written = written.count();
        assert!((1..100).contains(&written), "{written}");
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), written);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let limited =
        "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact a_record_that_does_not_fit_leaves_nothing_behind";
    let mut child = Command::new("bash");
    let child = child.args(["-c", limited]).arg(std::env::current_exe().unwrap()).env(FULL, &path);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n") && text.len() <= 8192, "{}", text.len());
    let written = text.lines().count() as u64;
    assert_eq!(write(&path, None, 1).head().sequence, written + 1);
    assert!(!folder.path().join("audit.jsonl.torn").exists());
    assert_eq!(command(&[path.to_str().unwrap()]).0, 0);
}

#[test]
fn the_command_names_the_line_that_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let name = path.to_str().unwrap();
    let head = write(&path, None, 4).head();
    let whole = format!("{name}: 4 records, all whole; the head is 4:{}\n", head.hash);
    assert_eq!(command(&[name]), (0, whole.clone()));
    assert_eq!(command(&[name, name]), (0, whole.repeat(2)));

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (tampered, line) in [
        (text.replace("account 2", "account 9"), "line 3"),
        ([lines[0], lines[2], lines[3], ""].join("\n"), "line 2"),
        ([lines[0], lines[1], lines[1], lines[2], lines[3], ""].join("\n"), "line 3"),
        (text.trim_end().to_owned(), "line 4"),
    ] {
        fs::write(&path, tampered).unwrap();
        let (code, said) = command(&[name]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(line), "{said}");
    }
    let (code, said) = command(&["/nowhere/audit.jsonl"]);
    assert_eq!(code, 1, "{said}");
    for wrong in [
        &[][..],
        &["--head", "x", name],
        &["--head"],
        &["--verbose", name],
        &["--key-file", "/nowhere", name],
    ] {
        let (code, said) = command(wrong);
        assert!(code == 2 && said.contains("gimmal-audit [--key-file FILE]"), "{wrong:?}: {said}");
    }
}

#[test]
fn the_command_misses_lines_that_were_cut_off_if_it_is_told_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let name = path.to_str().unwrap();
    let head = write(&path, None, 3).head();
    let known = format!("{}:{}", head.sequence, head.hash);
    write(&path, None, 2);
    assert_eq!(command(&["--head", &known, name]).0, 0, "it has grown");

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().take(2).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert_eq!(command(&[name]).0, 0, "no chain shows this by itself");
    let (code, said) = command(&["--head", &known, name]);
    assert!(code == 1 && said.contains("record 3 is gone"), "{said}");

    // Written anew, and longer than before.
    fs::remove_file(&path).unwrap();
    let log = write(&path, None, 0);
    (0..9).for_each(|_| record(&log, "another"));
    let (code, said) = command(&["--head", &known, name]);
    assert!(code == 1 && said.contains("record 3 is gone or another"), "{said}");
}

#[test]
fn the_command_needs_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let [path, key_file] = ["audit.jsonl", "key"].map(|name| folder.path().join(name));
    let key = SecretSlice::from(vec![7; 32]);
    fs::write(&key_file, [7; 32]).unwrap();
    write(&path, Some(&key), 2);
    let (name, key_file) = (path.to_str().unwrap(), key_file.to_str().unwrap());
    assert_eq!(command(&["--key-file", key_file, name]).0, 0);
    let (code, said) = command(&[name]);
    assert!(code == 1 && said.contains("another key"), "{said}");
}
