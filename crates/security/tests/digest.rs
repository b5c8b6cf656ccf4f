//! Digest (RFC 7616), as a client sees it.

use gimmal_security::credentials::{Credentials, Realm, parse_challenges};
use gimmal_security::digest::{
    DigestAlgorithm, DigestCredentials, DigestError, DigestProof, DigestRequest, DigestScheme, DigestSecret,
    DigestUser,
};
use gimmal_security::{MacKey, SecretString};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const NOW: u64 = 1_700_000_000;

fn realm() -> Realm {
    Realm::new("http-auth@example.org").unwrap()
}

fn mufasa(algorithm: DigestAlgorithm) -> DigestSecret {
    algorithm.secret("Mufasa", &realm(), &SecretString::from("Circle of Life"))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client that knows SHA-256, for one challenge.
#[derive(Clone)]
struct Client {
    user: &'static str,
    password: &'static str,
    method: &'static str,
    uri: &'static str,
    qop: &'static str,
    body: &'static str,
    nonce: String,
    opaque: String,
    nc: u32,
}

impl Client {
    fn new(digest: &DigestScheme, now: u64) -> Self {
        let challenge = digest.challenges(now, false).last().unwrap().to_string();
        let challenge = parse_challenges(challenge.as_bytes()).unwrap().remove(0);
        let param = |name| String::from_utf8(challenge.param(name).unwrap().to_vec()).unwrap();
        Self {
            user: "Mufasa",
            password: "Circle of Life",
            method: "GET",
            uri: "/dir/index.html",
            qop: "auth",
            body: "",
            nonce: param("nonce"),
            opaque: param("opaque"),
            nc: 1,
        }
    }

    fn authorization(&self) -> String {
        let Self { user, password, method, uri, qop, body, nonce, opaque, nc } = self;
        let a1 = sha256(&format!("{user}:http-auth@example.org:{password}"));
        let a2 = match *qop {
            "auth-int" => sha256(&format!("{method}:{uri}:{}", sha256(body))),
            _ => sha256(&format!("{method}:{uri}")),
        };
        let response = sha256(&format!("{a1}:{nonce}:{nc:08x}:c:{qop}:{a2}"));
        format!(
            "Digest username=\"{user}\", realm=\"http-auth@example.org\", uri=\"{uri}\", algorithm=SHA-256, \
             nonce=\"{nonce}\", nc={nc:08x}, cnonce=\"c\", qop={qop}, response=\"{response}\", opaque=\"{opaque}\""
        )
    }

    fn request(&self) -> DigestRequest<'static> {
        DigestRequest { method: self.method, target: self.uri, body: self.body.as_bytes() }
    }

    fn send(&self, digest: &DigestScheme, now: u64) -> Result<DigestProof, DigestError> {
        let credentials = read(digest, &self.authorization())?;
        let secret = mufasa(DigestAlgorithm::Sha256);
        let known = matches!(credentials.user(), DigestUser::Name(name) if name == "Mufasa");
        digest.verify(&credentials, self.request(), known.then_some(&secret), now)
    }
}

fn read(digest: &DigestScheme, authorization: &str) -> Result<DigestCredentials, DigestError> {
    digest.read(&Credentials::parse(authorization.as_bytes()).unwrap())
}

/// RFC 7616 section 3.9.1, for both algorithms. The nonce is not ours, so all that can be said is that the digest is
/// right: `Stale`, where another password gives `Wrong`.
#[test]
fn examples_of_rfc_7616_section_3_9_1() {
    let digest = DigestScheme::new(realm()).allow_md5();
    for (algorithm, response) in [
        (DigestAlgorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (DigestAlgorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let authorization = format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
             algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        );
        let credentials = read(&digest, &authorization).unwrap();
        assert_eq!(credentials.user(), &DigestUser::Name("Mufasa".into()));
        let request = DigestRequest { method: "GET", target: "/dir/index.html", body: b"" };
        let verify =
            |secret: &DigestSecret| digest.verify(&credentials, request, Some(secret), NOW).unwrap_err();
        assert_eq!(verify(&mufasa(algorithm)), DigestError::Stale);
        let other = algorithm.secret("Mufasa", &realm(), &SecretString::from("circle of life"));
        assert_eq!(verify(&other), DigestError::Wrong);
    }
}

/// RFC 7616 section 3.9.2, with the values of its erratum 4897: those of the RFC are no SHA-512/256.
#[test]
fn example_of_rfc_7616_section_3_9_2() {
    let realm = Realm::new("api@example.org").unwrap();
    let (user, password) = ("J\u{e4}s\u{f8}n Doe", SecretString::from("Secret, or not?"));
    let algorithm = DigestAlgorithm::Sha512_256;
    let userhash = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b";
    assert_eq!(algorithm.userhash(user, &realm), userhash);

    let digest = DigestScheme::new(realm.clone()).with_sha512_256().with_userhash();
    let authorization = |name: &str| {
        format!(
            "Digest {name}, realm=\"api@example.org\", uri=\"/doe.json\", algorithm=SHA-512-256, \
             nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", nc=00000001, \
             cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v\", qop=auth, \
             response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\", \
             opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\""
        )
    };
    let credentials =
        read(&digest, &authorization(&format!("username=\"{userhash}\", userhash=true"))).unwrap();
    assert_eq!(credentials.user(), &DigestUser::Hash(userhash.into()));
    let request = DigestRequest { method: "GET", target: "/doe.json", body: b"" };
    let secret = algorithm.secret(user, &realm, &password);
    assert_eq!(digest.verify(&credentials, request, Some(&secret), NOW).unwrap_err(), DigestError::Stale);

    // The same user in the three other ways in which clients write the name.
    for name in [
        "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, userhash=false",
        "username=\"J\u{e4}s\u{f8}n Doe\"",
        "username=\"J\\\u{e4}s\u{f8}n \\Doe\"",
    ] {
        assert_eq!(
            read(&digest, &authorization(name)).unwrap().user(),
            &DigestUser::Name(user.into()),
            "{name}"
        );
    }
}

/// As recorded: quotes where RFC 7616 wants none, and a user name in ISO-8859-1 that was hashed in UTF-8. The nonce
/// is of a key that is gone, so `Stale` says that the digest is right.
#[test]
fn a_login_recorded_from_python_requests_2_34() {
    let realm = Realm::new("api@example.org").unwrap();
    let authorization = [
        b"Digest username=\"J\xe4s\xf8n Doe\", realm=\"api@example.org\", ".as_slice(),
        b"nonce=\"AAAAAGVT8QDVv6fmYLE9gXZwr5xBnQ2j3qm7hjaqnAg\", uri=\"/a?b=%20c\", ",
        b"response=\"97c5dea0b5faaa31b887a0f94b9620effbea54256ee6428f18fe6fc3f88abeb8\", ",
        b"opaque=\"ee0b39c2973a57e0afa2b6c2517ddc20\", algorithm=\"SHA-256\", qop=\"auth\", nc=00000001, ",
        b"cnonce=\"817294a979b3fc36\"",
    ]
    .concat();
    let digest = DigestScheme::new(realm.clone());
    let credentials = digest.read(&Credentials::parse(&authorization).unwrap()).unwrap();
    assert_eq!(credentials.user(), &DigestUser::Name("J\u{e4}s\u{f8}n Doe".into()));
    let request = DigestRequest { method: "GET", target: "/a?b=%20c", body: b"" };
    let password = SecretString::from("S\u{fc}\u{df}");
    let secret = DigestAlgorithm::Sha256.secret("J\u{e4}s\u{f8}n Doe", &realm, &password);
    assert_eq!(digest.verify(&credentials, request, Some(&secret), NOW).unwrap_err(), DigestError::Stale);
}

#[test]
fn latin_1_user_names_are_understood() {
    let digest = DigestScheme::new(realm());
    let authorization = Client::new(&digest, NOW).authorization();
    let (start, end) = authorization.split_once("Mufasa").unwrap();
    let bytes = [start.as_bytes(), b"J\xe4s\xf8n", end.as_bytes()].concat();
    let credentials = digest.read(&Credentials::parse(&bytes).unwrap()).unwrap();
    assert_eq!(credentials.user(), &DigestUser::Name("J\u{e4}s\u{f8}n".into()));
}

#[test]
fn a_challenge_offers_what_was_chosen() {
    let texts = |digest: &DigestScheme, stale| -> Vec<String> {
        digest.challenges(NOW, stale).iter().map(ToString::to_string).collect()
    };
    let plain = texts(&DigestScheme::new(realm()), false);
    assert_eq!(plain.len(), 1);
    assert!(
        plain[0]
            .starts_with("Digest realm=\"http-auth@example.org\", qop=\"auth\", algorithm=SHA-256, nonce=")
    );
    assert!(plain[0].ends_with(", charset=UTF-8"), "{}", plain[0]);
    let all = DigestScheme::new(realm()).allow_md5().with_sha512_256().with_userhash().with_auth_int();
    let offered = texts(&all, true);
    let algorithms: Vec<_> = all.algorithms().iter().map(|algorithm| algorithm.name()).collect();
    assert_eq!(algorithms, ["SHA-256", "SHA-512-256", "MD5"]);
    for (text, algorithm) in offered.iter().zip(algorithms) {
        let challenge = Credentials::parse(text.as_bytes()).unwrap();
        assert_eq!(challenge.param("algorithm"), Some(algorithm.as_bytes()));
        assert_eq!(challenge.param("qop"), Some(&b"auth, auth-int"[..]));
        assert_eq!(challenge.param("userhash"), Some(&b"true"[..]));
        assert_eq!(challenge.param("stale"), Some(&b"true"[..]));
    }
}

#[test]
fn right_credentials_are_right_for_their_request_only() {
    let digest = DigestScheme::new(realm());
    let client = Client::new(&digest, NOW);
    let credentials = read(&digest, &client.authorization()).unwrap();
    let secret = mufasa(DigestAlgorithm::Sha256);
    let with = |request| digest.verify(&credentials, request, Some(&secret), NOW).map(|_| ());
    let request = client.request();
    assert_eq!(with(DigestRequest { method: "POST", ..request }), Err(DigestError::Wrong));
    assert_eq!(with(DigestRequest { target: "/dir/", ..request }), Err(DigestError::UriMismatch));
    assert_eq!(with(request), Ok(()));
    for wrong in [Client { user: "Scar", ..client.clone() }, Client { password: "x", ..client }] {
        assert_eq!(wrong.send(&digest, NOW).unwrap_err(), DigestError::Wrong);
    }
}

#[test]
fn auth_int_binds_the_body() {
    let digest = DigestScheme::new(realm()).with_auth_int();
    let client = Client { method: "PUT", qop: "auth-int", body: "all of it", ..Client::new(&digest, NOW) };
    let credentials = read(&digest, &client.authorization()).unwrap();
    let secret = mufasa(DigestAlgorithm::Sha256);
    let changed = DigestRequest { body: b"all of it!", ..client.request() };
    assert_eq!(digest.verify(&credentials, changed, Some(&secret), NOW).unwrap_err(), DigestError::Wrong);
    assert!(client.send(&digest, NOW).is_ok());
    assert!(Client { nc: 2, qop: "auth", ..client.clone() }.send(&digest, NOW).is_ok());

    let only = DigestScheme::new(realm()).with_auth_int_only();
    assert_eq!(Client::new(&only, NOW).send(&only, NOW).unwrap_err(), DigestError::QopNotOffered);
    let none = DigestScheme::new(realm());
    assert_eq!(client.send(&none, NOW).unwrap_err(), DigestError::QopNotOffered);
}

/// RFC 7616 section 3.5.
#[test]
fn the_server_proves_that_it_knows_the_secret() {
    let digest = DigestScheme::new(realm()).with_auth_int();
    let client = Client { qop: "auth-int", ..Client::new(&digest, NOW) };
    let proof = client.send(&digest, NOW).unwrap();
    let a1 = sha256("Mufasa:http-auth@example.org:Circle of Life");
    let (nonce, uri) = (&client.nonce, client.uri);
    let rspauth = |qop: &str, a2: String| sha256(&format!("{a1}:{nonce}:00000001:c:{qop}:{}", sha256(&a2)));
    assert_eq!(
        proof.authentication_info(None),
        format!("rspauth=\"{}\", cnonce=\"c\", nc=00000001, qop=auth", rspauth("auth", format!(":{uri}")))
    );
    assert_eq!(
        proof.authentication_info(Some(b"hello")),
        format!(
            "rspauth=\"{}\", cnonce=\"c\", nc=00000001, qop=auth-int",
            rspauth("auth-int", format!(":{uri}:{}", sha256("hello")))
        )
    );
}

#[test]
fn a_nonce_ages_and_is_replaced_without_a_prompt() {
    let digest = DigestScheme::new(realm()).with_nonce_lifetime_secs(100);
    let client = Client::new(&digest, NOW);
    let at = |nc, now| Client { nc, ..client.clone() }.send(&digest, now);
    assert!(!at(1, NOW + 50).unwrap().authentication_info(None).contains("nextnonce"));
    let info = at(2, NOW + 51).unwrap().authentication_info(None);
    let nonce = info.split_once("nextnonce=\"").unwrap().1.trim_end_matches('"').to_owned();
    assert!(at(3, NOW + 100).is_ok());
    assert_eq!(at(4, NOW + 101).unwrap_err(), DigestError::Stale);
    let wrong = Client { password: "x", nc: 5, ..client.clone() };
    assert_eq!(
        wrong.send(&digest, NOW + 101).unwrap_err(),
        DigestError::Wrong,
        "stale tells of a right password"
    );
    assert!(Client { nonce, ..client.clone() }.send(&digest, NOW + 101).is_ok());
    // A clock that was set back a little makes no nonce invalid; one that was far ahead does.
    assert!(at(6, NOW - 10).is_ok());
    assert_eq!(at(7, NOW - 101).unwrap_err(), DigestError::Stale);
}

#[test]
fn digest_replay() {
    let digest = DigestScheme::new(realm());
    let client = Client::new(&digest, NOW);
    let at = |nc| Client { nc, ..client.clone() }.send(&digest, NOW).map(|_| ());
    assert_eq!(at(1), Ok(()));
    assert_eq!(at(1), Err(DigestError::Stale));
    // Parallel connections may overtake one another.
    assert_eq!(at(4), Ok(()));
    assert_eq!(at(3), Ok(()));
    assert_eq!(at(3), Err(DigestError::Stale));
    assert_eq!(at(2), Ok(()));
    assert_eq!(at(1000), Ok(()));
    assert_eq!(at(5), Err(DigestError::Stale));
    // A captured request under another count has no right digest.
    let captured = client.authorization().replace("nc=00000001", "nc=00000bad");
    let credentials = read(&digest, &captured).unwrap();
    let secret = mufasa(DigestAlgorithm::Sha256);
    let error = digest.verify(&credentials, client.request(), Some(&secret), NOW).unwrap_err();
    assert_eq!(error, DigestError::Wrong);
}

#[test]
fn digest_replay_from_many_cores_at_once() {
    let digest = DigestScheme::new(realm());
    let client = Client::new(&digest, NOW);
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..50).filter(|_| client.send(&digest, NOW).is_ok()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 1);
}

#[test]
fn digest_replay_after_a_flood_of_nonces() {
    let digest = DigestScheme::new(realm()).with_nonce_capacity(16);
    let victim = Client::new(&digest, NOW);
    assert!(victim.send(&digest, NOW).is_ok());
    for n in 0..200 {
        // A user of the server pushes everything out of the table.
        let _ = Client::new(&digest, NOW + n / 10).send(&digest, NOW + n / 10);
    }
    assert_eq!(victim.send(&digest, NOW + 20).unwrap_err(), DigestError::Stale);
}

#[test]
fn digest_nonce_forged() {
    let digest = DigestScheme::new(realm());
    let genuine = Client::new(&digest, NOW);
    let elsewhere = Client::new(&DigestScheme::new(realm()), NOW);
    let old_opaque = Client { opaque: elsewhere.opaque.clone(), ..genuine.clone() };
    let invented = Client { nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".into(), ..genuine.clone() };
    for forged in [elsewhere, old_opaque, invented] {
        assert_eq!(forged.send(&digest, NOW).unwrap_err(), DigestError::Stale);
        assert_eq!(Client { password: "x", ..forged }.send(&digest, NOW).unwrap_err(), DigestError::Wrong);
    }
    assert!(genuine.send(&digest, NOW).is_ok());
}

#[test]
fn machines_with_one_key_know_each_others_nonces() {
    let key = MacKey::random();
    let [one, other] = [key.clone(), key].map(|key| DigestScheme::new(realm()).with_key(key));
    assert!(Client::new(&one, NOW).send(&other, NOW).is_ok());
}

#[test]
fn algorithm_downgrade() {
    let digest = DigestScheme::new(realm());
    let authorization = Client::new(&digest, NOW).authorization();
    for algorithm in ["MD5", "MD5-sess", "SHA-256-sess", "SHA-512-256", "none"] {
        let downgraded = authorization.replace("SHA-256", algorithm);
        let error = read(&digest, &downgraded).unwrap_err();
        // A response that is too long for MD5 is malformed before all else.
        assert!(
            matches!(error, DigestError::AlgorithmNotOffered | DigestError::Param("response")),
            "{error}"
        );
    }
    let md5 = authorization.replace("algorithm=SHA-256, ", "");
    let cut = md5.find("response=\"").unwrap() + 10;
    let md5 = format!("{}{}{}", &md5[..cut], "0".repeat(32), &md5[cut + 64..]);
    assert_eq!(read(&digest, &md5).unwrap_err(), DigestError::AlgorithmNotOffered);
    assert!(read(&digest.allow_md5(), &md5).is_ok());
}

#[test]
fn a_secret_of_another_algorithm_is_no_secret() {
    let digest = DigestScheme::new(realm());
    let client = Client::new(&digest, NOW);
    let credentials = read(&digest, &client.authorization()).unwrap();
    let secret = mufasa(DigestAlgorithm::Sha512_256);
    let error = digest.verify(&credentials, client.request(), Some(&secret), NOW).unwrap_err();
    assert_eq!(error, DigestError::Wrong);
}

/// RFC 7616 section 3.4: each is improper, and the answer is 400.
#[test]
fn malformed_credentials_are_refused() {
    let digest = DigestScheme::new(realm()).with_userhash();
    let good = Client::new(&digest, NOW).authorization();
    assert!(read(&digest, &good).is_ok());
    for name in ["username", "realm", "uri", "nonce", "nc", "cnonce", "qop", "response", "opaque"] {
        let without: Vec<_> = good["Digest ".len()..]
            .split(", ")
            .filter(|param| param.split_once('=').unwrap().0 != name)
            .collect();
        let error = read(&digest, &format!("Digest {}", without.join(", "))).unwrap_err();
        assert_eq!((error, error.status()), (DigestError::Param(name), 400));
    }
    for (from, to, expected) in [
        ("Digest", "Basic", DigestError::NotDigest),
        ("nc=00000001", "nc=1", DigestError::Param("nc")),
        ("nc=00000001", "nc=+0000001", DigestError::Param("nc")),
        ("nc=00000001", "nc=00000000", DigestError::Param("nc")),
        ("nc=00000001", "nc=000000001", DigestError::Param("nc")),
        ("qop=auth", "qop=auth-conf", DigestError::Param("qop")),
        ("qop=auth", "qop=\"auth,auth-int\"", DigestError::Param("qop")),
        ("cnonce=\"c\"", "cnonce=\"\"", DigestError::Param("cnonce")),
        ("cnonce=\"c\"", "cnonce=\"\u{e9}\"", DigestError::Param("cnonce")),
        ("cnonce=\"c\"", "cnonce=\"\t\"", DigestError::Param("cnonce")),
        ("response=\"", "response=\"0", DigestError::Param("response")),
        ("\"Mufasa\"", "\"Mufasa\", username*=UTF-8''Mufasa", DigestError::Param("username")),
        ("\"Mufasa\"", "\"Mufasa\", userhash=true", DigestError::Param("username")),
        ("\"Mufasa\"", "\"Mufasa\", userhash=yes", DigestError::Param("userhash")),
        ("username=\"Mufasa\"", "username*=\"UTF-8''Mufasa%0a\"", DigestError::Param("username")),
        ("username=\"Mufasa\"", "username*=Mufasa", DigestError::Param("username*")),
        ("realm=\"http-auth@", "realm=\"", DigestError::Realm),
    ] {
        assert_ne!(good.replace(from, to), good);
        assert_eq!(read(&digest, &good.replace(from, to)).unwrap_err(), expected, "{to}");
    }
    assert_eq!(DigestError::Realm.status(), 401);
    assert_eq!(DigestError::Stale.status(), 401);
}

#[test]
fn debug_shows_no_secret() {
    let digest = DigestScheme::new(realm());
    let client = Client::new(&digest, NOW);
    let proof = client.send(&digest, NOW).unwrap();
    let shown = format!("{digest:?} {proof:?} {:?}", read(&digest, &client.authorization()).unwrap());
    let response = client.authorization().split("response=\"").nth(1).unwrap()[..64].to_owned();
    for secret in [mufasa(DigestAlgorithm::Sha256).expose_hex(), &response] {
        assert!(!shown.contains(secret));
    }
}

proptest! {
    #[test]
    fn arbitrary_parameters_never_panic(
        params in proptest::collection::vec(("(username\\*?|realm|uri|algorithm|nonce|nc|cnonce|qop|response|opaque|userhash)", "[ -~é]{0,12}"), 0..12),
    ) {
        let params: Vec<_> =
            params.iter().map(|(name, value)| format!("{name}=\"{}\"", value.replace(['"', '\\'], ""))).collect();
        let text = format!("Digest {}", params.join(", "));
        if let Ok(credentials) = Credentials::parse(text.as_bytes()) {
            prop_assert!(DigestScheme::new(realm()).read(&credentials).is_err());
        }
    }
}
