//! `Authorization` and `WWW-Authenticate` values, read and written.

use gimmal_security::credentials::{
    Challenge, ChallengeError, Credentials, CredentialsError, PARAMS_MAX, Realm, RealmError, parse_challenges,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A set of credentials in a form that is easy to compare.
fn read(value: &[u8]) -> Result<String, CredentialsError> {
    Credentials::parse(value).map(|credentials| describe(&credentials))
}

fn describe(credentials: &Credentials<'_>) -> String {
    let params: Vec<_> =
        credentials.params().map(|(name, value)| format!("{name}<{}>", value.escape_ascii())).collect();
    format!("{} {}{}", credentials.scheme(), credentials.token68().unwrap_or_default(), params.join(" "))
}

#[test]
fn credentials_of_every_form() {
    for (value, expected) in [
        ("Negotiate", "Negotiate "),
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("Bearer  a-._~+/9", "Bearer a-._~+/9"),
        (" \tBearer x \t", "Bearer x"),
        ("X a=", "X a="),
        ("X a=b", "X a<b>"),
        ("X a = \"b\"", "X a<b>"),
        ("X a=\"b, c=d\", e=f", "X a<b, c=d> e<f>"),
        ("X a=\"\\\"\\\\\\b\"", "X a<\\\"\\\\b>"),
        ("X ,,a=b , ,\tc=d,,", "X a<b> c<d>"),
        ("X a=\"\"", "X a<>"),
        ("X a=\"\u{e9}\"", "X a<\\xc3\\xa9>"),
    ] {
        assert_eq!(read(value.as_bytes()).as_deref(), Ok(expected), "{value}");
    }
}

#[test]
fn malformed_credentials_are_refused() {
    use CredentialsError::{ParamRepeated, Params, QuotedString, Scheme, TooManyParams};
    for (value, expected) in [
        ("", Scheme),
        ("  ", Scheme),
        ("=", Scheme),
        ("\"Basic\" x", Scheme),
        ("Basic\tx", Scheme),
        ("Basic,", Scheme),
        ("Basic ,", Params),
        ("Basic a b", Params),
        ("Basic a==b", Params),
        ("Basic \u{e9}", Params),
        ("Digest a=,b=c", Params),
        ("Digest a=b c=d", Params),
        ("Digest a=\"b\"c", Params),
        ("Digest a=b;c=d", Params),
        ("Digest a=\"b", QuotedString),
        ("Digest a=\"b\\", QuotedString),
        ("Digest a=\"b\\\"", QuotedString),
        ("Digest a=\"b\rc\"", QuotedString),
        ("Digest a=\"b\\\nc\"", QuotedString),
        ("Digest a=\"b\0\"", QuotedString),
        ("Digest a=\"b\u{7f}\"", QuotedString),
        ("Digest a=b, A=c", ParamRepeated),
    ] {
        assert_eq!(read(value.as_bytes()), Err(expected), "{value:?}");
    }
    let many: Vec<_> = (0..=PARAMS_MAX).map(|n| format!("p{n}=1")).collect();
    assert_eq!(read(format!("X {}", many.join(",")).as_bytes()), Err(TooManyParams));
    assert!(read(format!("X {}", many[1..].join(",")).as_bytes()).is_ok());
}

#[test]
fn several_challenges_in_one_field() {
    let list = |value: &str| {
        parse_challenges(value.as_bytes()).map(|all| all.iter().map(describe).collect::<Vec<_>>().join(" | "))
    };
    // RFC 9110 section 11.6.1.
    assert_eq!(
        list(r#"Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\"""#).as_deref(),
        Ok(r#"Basic realm<simple> | Newauth realm<apps> type<1> title<Login to \"apps\">"#)
    );
    assert_eq!(list("Negotiate, Basic realm=a").as_deref(), Ok("Negotiate  | Basic realm<a>"));
    assert_eq!(list("Negotiate YWI= , Basic realm=a").as_deref(), Ok("Negotiate YWI= | Basic realm<a>"));
    assert_eq!(list("A b , C d").as_deref(), Ok("A b | C d"));
    assert_eq!(list(", A b=c,, d = e , F").as_deref(), Ok("A b<c> d<e> | F "));
    assert_eq!(list("A, b=c"), Err(CredentialsError::Scheme));
    assert_eq!(list("A b, c=d"), Err(CredentialsError::Scheme));
    assert_eq!(list("a=b"), Err(CredentialsError::Scheme));
    assert_eq!(list("A b c"), Err(CredentialsError::Params));
    assert_eq!(list("A b=c, b=d"), Err(CredentialsError::ParamRepeated));
    assert_eq!(list(""), Err(CredentialsError::Scheme));
}

#[test]
fn header_injection_in_realm() {
    for realm in ["a\r\nSet-Cookie: b=c", "a\nb", "a\0", "a\"", "a\\", "a\u{e9}", "a\u{7f}", "a\tb"] {
        assert_eq!(Realm::new(realm), Err(RealmError::Character), "{realm:?}");
    }
    assert_eq!(Realm::new(""), Err(RealmError::Length));
    assert_eq!(Realm::new("x".repeat(129)), Err(RealmError::Length));
}

#[test]
fn header_injection_in_challenge() {
    let challenge = || Challenge::new("Bearer").unwrap();
    assert_eq!(challenge().with_quoted("error", "a\r\nb"), Err(ChallengeError::Value));
    assert_eq!(challenge().with_token("error", "a, b"), Err(ChallengeError::Token));
    assert_eq!(challenge().with_token("a b", "c"), Err(ChallengeError::Token));
    assert_eq!(Challenge::new("Bearer\r\n"), Err(ChallengeError::Token));
    assert_eq!(Challenge::new(""), Err(ChallengeError::Token));
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(value in vec(any::<u8>(), 0..200)) {
        let _ = Credentials::parse(&value);
        let _ = parse_challenges(&value);
    }

    #[test]
    fn arbitrary_values_of_the_right_letters_never_panic(value in "[Aa=\", \t\\\\/+:]{0,40}") {
        let _ = Credentials::parse(value.as_bytes());
        let _ = parse_challenges(value.as_bytes());
    }

    #[test]
    fn what_is_written_is_read(
        challenges in vec(("[A-Z][a-z0-9-]{0,9}", vec("[ -~]{0,20}", 0..6)), 1..5),
    ) {
        let texts: Vec<_> = challenges.iter().map(|(scheme, values)| {
            let mut challenge = Challenge::new(scheme).unwrap();
            for (n, value) in values.iter().enumerate() {
                let name = format!("name{n}");
                challenge = match challenge.clone().with_token(&name, value) {
                    Ok(challenge) => challenge,
                    Err(_) => challenge.with_quoted(&name, value).unwrap(),
                };
            }
            challenge.to_string()
        }).collect();
        let joined = texts.join(", ");
        let read = parse_challenges(joined.as_bytes()).unwrap();
        prop_assert_eq!(read.len(), challenges.len());
        for ((read, (scheme, values)), text) in read.iter().zip(&challenges).zip(&texts) {
            prop_assert_eq!(read.scheme(), scheme);
            let got: Vec<_> = read.params().map(|(_, value)| value.to_vec()).collect();
            let expected: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(Ok(describe(read)), self::read(text.as_bytes()));
        }
    }
}
