//! Passwords: this crate's hashes, those of other systems, and the attacks on both.

use gimmal_security::SecretString;
use gimmal_security::password::{Argon2Params, PASSWORD_BYTES_MAX, PasswordError, Passwords, Verdict};
use proptest::prelude::*;

/// Passes and memory of the default parameters.
const WORK_KIB: u64 = 2 * 19 * 1024;
const UNICODE: &str = "p\u{e4}ssw\u{f6}rd \u{1f511}";

/// Made by the systems named, for the password given. Rounds were lowered where the form allows it.
const FOREIGN: &[(&str, &str, &str)] = &[
    (
        "Werkzeug 3.1, default",
        "scrypt:32768:8:1$rIxpZuUS20DGifH6$0a1ab22c3ac16e566cf4e939aa2cb3983e20cde26f49afb663339f6832a7df4f0572175e4099318454b93d68f2fd65553a60d307aac3f3305f4c1ebbf32669aa",
        "correct horse",
    ),
    (
        "Werkzeug 3.1, scrypt:16384:8:1",
        "scrypt:16384:8:1$pcNs7SCdy59TwJrq$912c277dfbc40d23f2f4cba4fa90401a6a37915fdb015e207954fa6b5b36899e3c65ddeba38297e4e0b63d3a4ce96fd39e995529597258382c2714d776571ce9",
        UNICODE,
    ),
    (
        "Werkzeug 3.1, pbkdf2:sha256:2600",
        "pbkdf2:sha256:2600$w9kxLgsoaWd0E9S5$ac6ee219544e046635d7997348bab249fec7f805902834f670273a9abfa7ea44",
        UNICODE,
    ),
    (
        "Werkzeug 3.1, pbkdf2:sha512:2100",
        "pbkdf2:sha512:2100$L3vigypqmDhAQLVD$28b481f4b41fcc60728aceb09cc51deef748b84c523402703ab8014206a6cd3abaa65277ce5a853aff652e7b85b30a8cf73eb5bce432e1d33abe0a1f535938bd",
        "correct horse",
    ),
    (
        "Werkzeug 3.1, pbkdf2:sha1:1000",
        "pbkdf2:sha1:1000$Z1q9ZmIz$4056b6efc6c24d1763bc7575def02667b6dfa36c",
        "correct horse",
    ),
    (
        "bcrypt 5.0 of Python, 2b",
        "$2b$05$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC",
        "correct horse",
    ),
    ("bcrypt 5.0 of Python, 2a", "$2a$04$QrsdJacLo/RGfhLFLh/jHe7cB0JZYWrKAGUTcGrVvOCKFus3K9GKq", UNICODE),
    (
        "the same with PHP's prefix",
        "$2y$04$PVrG9T5Jl5USPX66Wnozz.dScIkNr1nCMnsiXp1t86EivgfX3VmPa",
        "correct horse",
    ),
    (
        "passlib 1.7, pbkdf2_sha256",
        "$pbkdf2-sha256$2900$sjaGEKIUwlhLCYEQwhhDiA$SN/wJxW8QJoAkwHIC0i7PieAMNaDnlQw/VfY/nPgzjI",
        "correct horse",
    ),
    (
        "passlib 1.7, pbkdf2_sha512",
        "$pbkdf2-sha512$2500$cq7VOocQQui9t/Y.Z6x1jg$6IDvxesoUqJzIWx/qUsvoNxraKprtctWOEycZ1RDz.EcLz4ljYsMiEhQvZ7D375CBVKg8q8oU4iuuSwdmmEhOQ",
        UNICODE,
    ),
    (
        "passlib 1.7, pbkdf2_sha1",
        "$pbkdf2$1310$cm6tFQJg7L231tp7730vZQ$RYdgVaG.olP8qSQWEhrbKliu7Bo",
        "correct horse",
    ),
    (
        "passlib 1.7, scrypt",
        "$scrypt$ln=10,r=8,p=1$M2ZMiZESIiSkFGIMoTRGCA$d81oDE6I3lvBpMeyubcledO459jMGjjjYEKl0Fcx4uk",
        "correct horse",
    ),
    (
        "PHC, from hashlib",
        "$pbkdf2-sha256$i=2000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$8y3A97X12NdeitRNbjyAmR6WEps9vyrEVK5CEwsXWhI",
        UNICODE,
    ),
    (
        "PHC without length, from hashlib",
        "$pbkdf2-sha512$i=2000$MDEyMzQ1Njc4OWFiY2RlZg$JLIbHS/a1pwkuwB4YMVsxfgHL1RpHXfp7kAkuCcl9dhDgXytdhKp4KRA1tfCbROFYAyWs7Bgy1B82eY2dKJ0Uw",
        "correct horse",
    ),
    (
        "PHC, from hashlib",
        "$scrypt$ln=11,r=8,p=2$MDEyMzQ1Njc4OWFiY2RlZg$VDxuIyw/8eYlqAZMeAo98oxx7ulQ8r3wZdQGH3eBvDw",
        UNICODE,
    ),
    (
        "Django's form, from hashlib",
        "pbkdf2_sha256$2600$saltsaltsalt$OwVKH1jYZXH8BOZ0CsvobD+k/tw2U69Ub9g90wbYRb0=",
        "correct horse",
    ),
    (
        "argon2-cffi 25.1, cheap",
        "$argon2id$v=19$m=1024,t=1,p=2$VYl0FPPMcLgTl3SRerL45A$y1LU/7xu9zWJL0BFzvmhragrxnQXgWS85QjyWC9NQbA",
        UNICODE,
    ),
    (
        "argon2-cffi 25.1, default",
        "$argon2id$v=19$m=65536,t=3,p=4$TYZ9C7mb6rCMLih9L+106w$+jrUTiXw5R7h0uTQFI7RA+6/QH5VjRjDb1YIL1v1sUY",
        "correct horse",
    ),
    (
        "argon2-cffi 25.1, argon2i",
        "$argon2i$v=19$m=512,t=2,p=1$EUWKWL5B+6nbW+SSxtcsBQ$RYkppavl+CXb6g7509QLBg",
        "correct horse",
    ),
    (
        "argon2-cffi 25.1, argon2d",
        "$argon2d$v=19$m=512,t=2,p=1$nqnJjdhw8dof9Yc5VRMEXQ$5mGVxreniU03PXTWp9oLUZsLImFx8bbPZkUp/owY6uI",
        "correct horse",
    ),
];

fn verify(passwords: &Passwords, password: &str, stored: &str) -> Result<Verdict, PasswordError> {
    passwords.verify(&SecretString::from(password), Some(stored))
}

#[test]
fn own_hashes_are_phc_strings_of_argon2id() {
    let passwords = Passwords::default();
    let password = SecretString::from("a lion sleeps at noon");
    let [one, other] = [(), ()].map(|()| passwords.hash(&password).unwrap());
    assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    assert_ne!(one, other, "each has a salt of its own");
    assert_eq!(passwords.verify(&password, Some(&one)), Ok(Verdict::Right));
    assert_eq!(verify(&passwords, "a lion sleeps at night", &one), Ok(Verdict::Wrong));
    assert_eq!(passwords.work_kib(), 4 * WORK_KIB);
}

#[test]
fn hashes_of_other_systems_are_verified_and_replaced() {
    let passwords = Passwords::default();
    for (system, hash, password) in FOREIGN {
        let verdict = verify(&passwords, password, hash).unwrap_or_else(|error| panic!("{system}: {error}"));
        let Verdict::RightRehash(new) = verdict else { panic!("{system}: {verdict:?}") };
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{system}");
        assert_eq!(verify(&passwords, &format!("{password}!"), hash), Ok(Verdict::Wrong), "{system}");
        assert_eq!(verify(&passwords, "", hash), Ok(Verdict::Wrong), "{system}");
    }
    let (_, hash, password) = FOREIGN[0];
    let Ok(Verdict::RightRehash(new)) = verify(&passwords, password, hash) else { panic!() };
    assert_eq!(verify(&passwords, password, &new), Ok(Verdict::Right));
}

#[test]
fn hashes_are_replaced_when_parameters_change() {
    let password = SecretString::from("a lion sleeps at noon");
    let old = Passwords::default().hash(&password).unwrap();
    let raised = Passwords::new(Argon2Params::new(20 * 1024, 3, 2).unwrap());
    let Ok(Verdict::RightRehash(new)) = raised.verify(&password, Some(&old)) else { panic!() };
    assert!(new.starts_with("$argon2id$v=19$m=20480,t=3,p=2$"), "{new}");
    assert_eq!(raised.verify(&password, Some(&new)), Ok(Verdict::Right));
}

/// bcrypt looks at 72 bytes. What comes after them must not get into the new hash: it may be anything.
#[test]
fn bcrypt_truncation() {
    let hash = "$2b$04$wR/GsTGq1cZR/C7SvQsFkOIXMfhd6vYYno0tRehQQ8mYCa.SQkchW";
    let password = format!("{}yz", "x".repeat(71));
    let passwords = Passwords::default();
    assert_eq!(verify(&passwords, &password, hash), Ok(Verdict::Right));
    assert_eq!(verify(&passwords, &format!("{}anything", &password[..72]), hash), Ok(Verdict::Right));
    assert_eq!(verify(&passwords, &password[..71], hash), Ok(Verdict::Wrong));
    assert!(matches!(verify(&passwords, &password[..72], hash), Ok(Verdict::RightRehash(_))));
}

/// The same password from a keyboard that composes characters, and from one that does not.
#[test]
fn passwords_are_normalised() {
    let passwords = Passwords::default();
    let hash = passwords.hash(&SecretString::from("Am\u{e9}lie \u{fb01}ndet")).unwrap();
    assert_eq!(verify(&passwords, "Ame\u{301}lie findet", &hash), Ok(Verdict::Right));
    // Another system hashed what it was given.
    let given =
        "$argon2id$v=19$m=1024,t=1,p=1$rsv1ioesHOqaPbHR1+zoBw$XxVTypuQOHdXtp99SekbyGv8tBKNwin1f++iIly+14E";
    assert!(matches!(verify(&passwords, "Ame\u{301}lie", given), Ok(Verdict::RightRehash(_))));
    assert_eq!(verify(&passwords, "Am\u{e9}lie", given), Ok(Verdict::Wrong));
}

/// Counted, not timed: what Argon2 does for a user that does not exist is what it does for a wrong password.
#[test]
fn user_enumeration_by_timing() {
    let passwords = Passwords::default();
    let stored = passwords.hash(&SecretString::from("a lion sleeps at noon")).unwrap();
    let work = |password: &str, stored: Option<&str>| {
        let before = passwords.work_kib();
        let verdict = passwords.verify(&SecretString::from(password), stored);
        (verdict, passwords.work_kib() - before)
    };
    let too_long = "x".repeat(PASSWORD_BYTES_MAX + 1);
    for (password, expected) in
        [("wrong", WORK_KIB), ("", WORK_KIB), ("e\u{301}", 2 * WORK_KIB), (&too_long, WORK_KIB)]
    {
        assert_eq!(work(password, Some(&stored)), (Ok(Verdict::Wrong), expected));
        assert_eq!(work(password, None), (Ok(Verdict::Wrong), expected));
    }
    // Nor does a hash that is of no use give itself away by a quick answer.
    assert_eq!(work("wrong", Some("")), (Err(PasswordError::HashUnknown), WORK_KIB));
}

#[test]
fn password_bomb() {
    let passwords = Passwords::default();
    let password = SecretString::from("x".repeat(PASSWORD_BYTES_MAX + 1));
    assert_eq!(passwords.hash(&password), Err(PasswordError::TooLong));
    // One character becomes eighteen when it is normalised.
    let grown = "\u{fdfa}".repeat(PASSWORD_BYTES_MAX / 3);
    assert!(passwords.hash(&SecretString::from(grown)).is_ok());
}

#[test]
fn hash_parameter_bomb() {
    let passwords = Passwords::default();
    let tail = "MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg";
    let hex = "0".repeat(64);
    for bomb in [
        format!("$argon2id$v=19$m=10485760,t=1,p=1${tail}"),
        format!("$argon2id$v=19$m=65536,t=1000000,p=1${tail}"),
        format!("$argon2id$v=19$m=65536,t=1,p=1000000${tail}"),
        format!("$argon2id$v=19$m=99999999999,t=1,p=1${tail}"),
        format!("$scrypt$ln=30,r=8,p=1${tail}"),
        format!("$scrypt$ln=300,r=8,p=1${tail}"),
        format!("$scrypt$ln=64,r=1,p=1${tail}"),
        format!("$scrypt$ln=15,r=8,p=4294967295${tail}"),
        format!("scrypt:1073741824:8:1$salt${hex}"),
        format!("scrypt:32768:4294967295:4294967295$salt${hex}"),
        format!("pbkdf2:sha256:4294967295$salt${hex}"),
        format!("pbkdf2:sha256:99999999999$salt${hex}"),
        format!("$pbkdf2-sha256$i=4000000000${tail}"),
        "$2b$31$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC".to_owned(),
        "$2b$17$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC".to_owned(),
    ] {
        assert_eq!(verify(&passwords, "x", &bomb), Err(PasswordError::HashTooCostly), "{bomb}");
    }
}

#[test]
fn damaged_and_unknown_hashes_are_refused() {
    let passwords = Passwords::default();
    let (salt, hash) = ("MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZg");
    let hex = "0".repeat(64);
    for malformed in [
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}$"),
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}$MDEyMzQ"), // five bytes
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${}", "MDEy".repeat(22)),
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}"),
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${hash}$"),
        format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${hash}!"),
        format!("$argon2id$v=19$m=65536,t=3,p=4$x${hash}"),
        format!("$argon2id$v=19$m=65536,t=3${salt}${hash}"),
        format!("$argon2id$v=19$m=65536,t=3,p=4,keyid=x${salt}${hash}"),
        format!("$argon2id$v=19$t=3,m=65536,p=4${salt}${hash}"),
        format!("$argon2id$v=19$m=+65536,t=3,p=4${salt}${hash}"),
        format!("$argon2id$v=19$m=,t=3,p=4${salt}${hash}"),
        format!("$argon2id$v=19$m=1,t=3,p=1${salt}${hash}"),
        format!("$argon2id$v=19$m=65536,t=0,p=1${salt}${hash}"),
        format!("$scrypt$ln=0,r=8,p=1${salt}${hash}"),
        format!("$scrypt$ln=10,r=0,p=1${salt}${hash}"),
        format!("$scrypt$ln=10,r=8,p=0${salt}${hash}"),
        format!("scrypt:32767:8:1$salt${hex}"),
        format!("scrypt:0:8:1$salt${hex}"),
        format!("scrypt:32768:8:1$salt${}", &hex[1..]),
        format!("scrypt:32768:8:1$salt$x{}", &hex[1..]),
        format!("pbkdf2:sha256:0$salt${hex}"),
        format!("pbkdf2:sha256:1000$salt${}", &hex[..30]),
        format!("pbkdf2:sha256:1000$s\u{e4}lt${hex}"),
        "$2b$05$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/X".to_owned(),
        "$2b$05$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/X!".to_owned(),
        "$2b$x5$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC".to_owned(),
        "$2b$03$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC".to_owned(),
        "x".repeat(600),
    ] {
        assert_eq!(verify(&passwords, "x", &malformed), Err(PasswordError::HashMalformed), "{malformed}");
    }
    for unknown in [
        "",
        "hunter2",
        "$1$salt$hash",
        "$2x$05$YkiV.FSxb8p3MX.88God9e6NTk0a/vlf4KnpDHNmZJ8/cVVEPD/XC",
        "$6$rounds=5000$salt$hash",
        &format!("md5$salt${hex}"),
        &format!("pbkdf2:md5:1000$salt${hex}"),
        &format!("plain$salt${hex}"),
        &format!("$argon2id$v=20$m=65536,t=3,p=4${salt}${hash}"),
    ] {
        assert_eq!(verify(&passwords, "x", unknown), Err(PasswordError::HashUnknown), "{unknown}");
    }
}

#[test]
fn debug_shows_no_hash() {
    let passwords = Passwords::default();
    let (_, hash, password) = FOREIGN[0];
    assert_eq!(format!("{:?}", verify(&passwords, password, hash).unwrap()), "RightRehash(..)");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Bytes of a stored hash that were changed make it another hash or none, and never a panic.
    #[test]
    fn changed_hashes_never_panic(which in 5..9_usize, at in any::<prop::sample::Index>(), new in "[ -~]") {
        let (_, hash, password) = FOREIGN[which];
        let mut changed = hash.to_owned();
        let at = at.index(hash.len());
        changed.replace_range(at..=at, &new);
        // bcrypt's kinds are one and the same, and with another cost it may take long.
        prop_assume!(changed[..7] == hash[..7]);
        let right = verify(&Passwords::default(), password, &changed).is_ok_and(|verdict| verdict.is_right());
        prop_assert!(!right || changed == hash);
    }
}
