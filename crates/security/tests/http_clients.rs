//! Real clients log in over Basic and Digest, and are refused: curl, and what Python has in its library. Both have
//! to be installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gimmal_security::basic::{BasicCredentials, basic_challenge};
use gimmal_security::credentials::{Credentials, Realm};
use gimmal_security::digest::{DigestError, DigestRequest, DigestScheme, DigestUser};
use gimmal_security::{ExposeSecret, SecretString};

const USER: &str = "J\u{e4}s\u{f8}n Doe";
const PASSWORD: &str = "S\u{fc}\u{df} \"quoted\" \\ not?";

fn realm() -> Realm {
    Realm::new("api@example.org").unwrap()
}

/// A site with one user, behind Digest, Basic or both, that answers one request a connection.
struct Site {
    digest: Option<DigestScheme>,
    basic: bool,
    user: &'static str,
    password: &'static str,
    /// Seconds since 1970, by a clock that a test can turn.
    now: AtomicU64,
    /// How far the clock goes on after the first answer.
    first_pause_secs: u64,
    /// Status, and the reason for it, of each answer.
    answers: Mutex<Vec<String>>,
}

impl Site {
    fn new(digest: impl Into<Option<DigestScheme>>) -> Self {
        Self {
            digest: digest.into(),
            basic: false,
            user: USER,
            password: PASSWORD,
            now: AtomicU64::new(1_700_000_000),
            first_pause_secs: 0,
            answers: Mutex::default(),
        }
    }

    /// Serves while `client` runs with the site's base URL, and gives its output and the site's answers.
    fn serve(self, client: impl FnOnce(&str) -> Command) -> (String, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    self.answer(stream.unwrap());
                }
            });
            let output = client(&format!("http://{address}")).output();
            stop.store(true, Ordering::SeqCst);
            drop(TcpStream::connect(address));
            output.expect("curl and python3 have to be installed for this test")
        });
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (text.into_owned(), self.answers.into_inner().unwrap())
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        let request_line = String::from_utf8(line).unwrap();
        let mut words = request_line.split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (mut authorization, mut length) = (None, 0);
        loop {
            let mut field = Vec::new();
            reader.read_until(b'\n', &mut field).unwrap();
            let field = field.trim_ascii_end();
            let Some(colon) = field.iter().position(|&byte| byte == b':') else { break };
            match field[..colon].to_ascii_lowercase().as_slice() {
                b"authorization" => authorization = Some(field[colon + 1..].to_vec()),
                b"content-length" => {
                    length = std::str::from_utf8(&field[colon + 1..]).unwrap().trim().parse().unwrap();
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();

        let now = self.now.load(Ordering::SeqCst);
        let request = DigestRequest { method, target, body: &body };
        let result =
            authorization.ok_or_else(|| "none".to_owned()).and_then(|v| self.authenticate(&v, request));
        let mut fields = String::new();
        let (status, answer) = match result {
            Ok(info) => {
                fields.extend(info.map(|info| format!("Authentication-Info: {info}\r\n")));
                ("200 OK", "200".to_owned())
            }
            Err(reason) => {
                let stale = reason == DigestError::Stale.to_string();
                for challenge in self.digest.iter().flat_map(|digest| digest.challenges(now, stale)) {
                    fields.push_str(&format!("WWW-Authenticate: {challenge}\r\n"));
                }
                if self.basic {
                    fields.push_str(&format!("WWW-Authenticate: {}\r\n", basic_challenge(&realm())));
                }
                ("401 Unauthorized", format!("401 {reason}"))
            }
        };
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() {
            self.now.fetch_add(self.first_pause_secs, Ordering::SeqCst);
        }
        answers.push(answer);
        let body = if status.starts_with("200") { "welcome" } else { "no entry" };
        let length = body.len() + 1;
        let head =
            format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        // A client that gives up at the status line does not wait for the rest.
        let _ = stream.write_all(format!("{head}{body}\n").as_bytes());
    }

    /// The value of Authentication-Info, if there is one, or why the client is refused.
    fn authenticate(&self, value: &[u8], request: DigestRequest<'_>) -> Result<Option<String>, String> {
        let credentials = Credentials::parse(value).map_err(|error| error.to_string())?;
        if let Some(digest) = self.digest.as_ref().filter(|_| credentials.is("Digest")) {
            return self
                .authenticate_digest(digest, &credentials, request)
                .map_err(|error| error.to_string());
        }
        let basic = BasicCredentials::new(&credentials).map_err(|error| error.to_string())?;
        let right = basic.user_id() == self.user && basic.password().expose_secret() == self.password;
        right.then_some(None).filter(|_| self.basic).ok_or_else(|| "wrong".to_owned())
    }

    fn authenticate_digest(
        &self,
        digest: &DigestScheme,
        credentials: &Credentials<'_>,
        request: DigestRequest<'_>,
    ) -> Result<Option<String>, DigestError> {
        let credentials = digest.read(credentials)?;
        let algorithm = credentials.algorithm();
        let known = match credentials.user() {
            DigestUser::Name(name) => name == self.user,
            DigestUser::Hash(hash) => *hash == algorithm.userhash(self.user, digest.realm()),
        };
        let secret = algorithm.secret(self.user, digest.realm(), &SecretString::from(self.password));
        let now = self.now.load(Ordering::SeqCst);
        let proof = digest.verify(&credentials, request, known.then_some(&secret), now)?;
        Ok(Some(proof.authentication_info(Some(b"welcome\n"))))
    }
}

fn curl(login: &str, arguments: &[&str], urls: &[String]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--user", login]);
    command.args(arguments).args(urls);
    command
}

const WRONG: &str = "401 the user name or the password is wrong";

#[test]
fn curl_logs_in_with_digest() {
    for arguments in [&["--digest"][..], &["--digest", "--data", "a=b"], &["--anyauth"]] {
        let site = Site::new(DigestScheme::new(realm()));
        let (output, answers) = site.serve(|base| {
            curl(&format!("{USER}:{PASSWORD}"), arguments, &[format!("{base}/a?b=%20c"), format!("{base}/d")])
        });
        assert_eq!(output, "welcome\nwelcome\n", "{arguments:?} {answers:?}");
        assert_eq!(answers.iter().filter(|answer| *answer == "200").count(), 2, "{answers:?}");
        assert!(!answers.iter().any(|answer| answer == WRONG), "{answers:?}");
    }
}

#[test]
fn curl_is_refused_with_digest() {
    for login in [format!("{USER}:wrong"), format!("nobody:{PASSWORD}")] {
        let site = Site::new(DigestScheme::new(realm()));
        let (output, answers) = site.serve(|base| curl(&login, &["--digest"], &[format!("{base}/")]));
        assert_eq!(output, "no entry\n");
        assert_eq!(answers, ["401 none", WRONG]);
    }
}

#[test]
fn curl_takes_a_new_nonce_when_its_own_is_stale() {
    let site = Site { first_pause_secs: 1000, ..Site::new(DigestScheme::new(realm())) };
    let (output, answers) =
        site.serve(|base| curl(&format!("{USER}:{PASSWORD}"), &["--digest"], &[format!("{base}/")]));
    assert_eq!(output, "welcome\n");
    assert_eq!(answers, ["401 none", "401 the nonce is not valid any more", "200"]);
}

#[test]
fn curl_finds_its_algorithm_among_several_and_hides_the_user_name() {
    for digest in [
        DigestScheme::new(realm()).with_userhash(),
        DigestScheme::new(realm()).with_auth_int(),
        DigestScheme::new(realm()).with_auth_int_only(),
        DigestScheme::new(realm()).with_sha512_256(),
        DigestScheme::new(realm()).with_sha512_256().allow_md5().with_userhash().with_auth_int(),
    ] {
        let shown = format!("{digest:?}");
        let (output, answers) = Site::new(digest)
            .serve(|base| curl(&format!("{USER}:{PASSWORD}"), &["--digest"], &[format!("{base}/")]));
        assert_eq!(output, "welcome\n", "{answers:?} {shown}");
    }
}

#[test]
fn curl_chooses_between_digest_and_basic() {
    for (scheme, answers) in [("--anyauth", vec!["401 none", "200"]), ("--basic", vec!["200"])] {
        let site = Site { basic: true, ..Site::new(DigestScheme::new(realm())) };
        let (output, got) =
            site.serve(|base| curl(&format!("{USER}:{PASSWORD}"), &[scheme], &[format!("{base}/")]));
        assert_eq!((output.as_str(), got), ("welcome\n", answers.iter().map(ToString::to_string).collect()));
    }
    let site = Site { basic: true, ..Site::new(None) };
    let (output, _) = site.serve(|base| curl(&format!("{USER}:wrong"), &["--basic"], &[format!("{base}/")]));
    assert_eq!(output, "no entry\n");
}

/// Python's `urllib` knows Basic, and Digest with MD5 only.
const URLLIB: &str = r#"
import sys
import urllib.error
from urllib.request import *

handler, base, user, password = sys.argv[1:]
passwords = HTTPPasswordMgrWithDefaultRealm()
passwords.add_password(None, base, user, password)
opener = build_opener(ProxyHandler({}), globals()[handler](passwords))
for target, data in [("/a?b=%20c", None), ("/d", b"e=f"), ("/g", None)]:
    try:
        print(opener.open(base + target, data, 20).read().decode().strip())
    except (urllib.error.HTTPError, ValueError) as error:
        print("refused", getattr(error, "code", error))
"#;

fn urllib(handler: &str, base: &str, user: &str, password: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", URLLIB, handler, base, user, password]);
    command
}

#[test]
fn python_logs_in_with_digest_and_is_refused() {
    let visit = |digest: DigestScheme, password: &str| {
        let site = Site { user: "Mufasa", password: "Circle of Life", ..Site::new(digest) };
        site.serve(|base| urllib("HTTPDigestAuthHandler", base, "Mufasa", password))
    };
    let md5 = || DigestScheme::new(realm()).with_auth_int().with_md5_only();
    let (output, answers) = visit(md5(), "Circle of Life");
    assert_eq!(output, "welcome\nwelcome\nwelcome\n");
    assert_eq!(answers, ["401 none", "200", "401 none", "200", "401 none", "200"]);
    let (output, answers) = visit(md5(), "wrong");
    assert!(output.starts_with("refused 401"), "{output}");
    assert!(answers.iter().any(|answer| answer == WRONG), "{answers:?}");
    // It looks at the first challenge only, whose algorithm it does not know.
    let (output, answers) = visit(DigestScheme::new(realm()).allow_md5(), "Circle of Life");
    assert!(output.starts_with("refused Unsupported"), "{output}");
    assert!(answers.iter().all(|answer| answer == "401 none"), "{answers:?}");
}

#[test]
fn python_logs_in_with_basic_and_is_refused() {
    let site = || Site { basic: true, ..Site::new(None) };
    let (output, _) = site().serve(|base| urllib("HTTPBasicAuthHandler", base, USER, PASSWORD));
    assert_eq!(output, "welcome\nwelcome\nwelcome\n");
    let (output, answers) = site().serve(|base| urllib("HTTPBasicAuthHandler", base, USER, "wrong"));
    assert!(output.starts_with("refused 401"), "{output} {answers:?}");
}
