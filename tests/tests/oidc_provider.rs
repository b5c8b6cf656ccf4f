//! A login with OpenID Connect through the framework at a real provider, `oidc-provider` from npm, with curl as the
//! browser. `npm ci --prefix tests/oidc-provider` has to come first.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use gimmal::audit::AuditLog;
use gimmal::auth::{
    Authenticator, MemorySessionStore, OidcLogin, Principal, Realm, Requirement, SessionOptions, Sessions,
};
use gimmal::security::client_authentication::ClientAuthentication;
use gimmal::security::cookies::CookieKeys;
use gimmal::security::oidc::RelyingParty;
use gimmal::security::{SecretSlice, SecretString};
use gimmal::test::TestServer;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Backend, get};
use gimmal_tests::{BACKENDS, Process, eventually, server, start};
use tempfile::{NamedTempFile, TempPath};

/// The key of another client of the provider, which is not used here (RFC 7517, appendix A.1).
const SIGNER: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}]}"#;

/// A shop that knows its customers by the provider alone.
struct Shop {
    url: String,
    issuer: String,
    audit_log: TempPath,
    _server: TestServer,
    _provider: Process,
}

impl Shop {
    fn start(backend: Backend) -> Self {
        let address = free_address();
        let url = format!("https://{address}");
        let plain = free_address();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc-provider");
        assert!(folder.join("node_modules").exists(), "run `npm ci --prefix tests/oidc-provider` first");
        let provider = Process::announcing(
            Command::new("node")
                .arg("server.js")
                .args([format!("{url}/oidc/callback"), format!("{url}/bye")])
                // The provider knows nothing of the shop's certificate.
                .args([format!("http://{plain}/oidc/backchannel-logout"), SIGNER.to_owned()])
                .current_dir(folder),
        );
        let issuer = provider.announced().to_owned();
        let audit_log = NamedTempFile::new().unwrap().into_temp_path();
        let app = shop(&issuer, &url).audit_log(AuditLog::open(&audit_log, None).unwrap());
        let tls = TlsServerConfig::self_signed_for_development(&["127.0.0.1"]).unwrap();
        let server = start(server(app, backend).bind_tls(address, &tls).bind(plain));
        Self { url, issuer, audit_log, _server: server, _provider: provider }
    }

    /// The events of the audit log that have this name.
    fn events(&self, name: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.audit_log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["event"] == name).collect()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn shop(issuer: &str, url: &str) -> App {
    let sessions = Sessions::new(MemorySessionStore::new(100), SessionOptions::default());
    let callback = format!("{url}/oidc/callback");
    let login = OidcLogin::new(issuer, move |provider| {
        let client = ClientAuthentication::basic("shop", SecretString::from("a secret & more"));
        let keys = CookieKeys::new(&SecretSlice::from(vec![7; 32]))?;
        Ok(RelyingParty::new(provider, client, &callback, keys)?.with_scopes(["email"]))
    });
    let login = login.post_logout_redirect_uri(&format!("{url}/bye"));
    let me = async |me: Principal| format!("{} {}", me.id(), me.has_role("editor"));
    App::new()
        .route("/me", get(me).require(Requirement::Authenticated))
        .get("/bye", async || "bye")
        .nest("/oidc", login.routes(&sessions))
        .with(sessions)
        .with(Authenticator::new(Realm::new("Shop").unwrap()).login_page("/oidc/login"))
}

/// A browser: cookies, redirects, and forms that are filled in.
struct Browser {
    jar: TempPath,
}

/// What a browser has before it.
#[derive(Debug)]
struct Page {
    status: u16,
    location: Option<String>,
    body: String,
}

impl Browser {
    fn new() -> Self {
        Self { jar: NamedTempFile::new().unwrap().into_temp_path() }
    }

    fn ask(&self, url: &str, arguments: &[&str]) -> Page {
        let jar = self.jar.to_str().unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--insecure",
                "--max-time",
                "30",
                "--cookie",
                jar,
                "--cookie-jar",
                jar,
            ])
            .args(["--header", "Accept: text/html", "--write-out", "\n%{http_code} %{redirect_url}"])
            .args(arguments)
            .arg(url)
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, end) = text.rsplit_once('\n').unwrap();
        let (status, location) = end.split_once(' ').unwrap();
        let location = (!location.is_empty()).then(|| location.to_owned());
        Page { status: status.parse().unwrap(), location, body: body.to_owned() }
    }

    /// Follows where `page` leads, filling in what is asked, until it is sent to what begins with `end`; that address.
    fn follow(&self, mut page: Page, end: &str, answers: &[(&str, &str)]) -> String {
        for _ in 0..20 {
            let (url, fields) = match page.location.take() {
                Some(location) if location.starts_with(end) => return location,
                Some(location) => (location, Vec::new()),
                None => filled_form(&page, answers),
            };
            let fields: Vec<&str> = fields.iter().flat_map(|field| ["--data-urlencode", field]).collect();
            page = self.ask(&url, &fields);
        }
        panic!("it leads nowhere: {page:?}");
    }

    /// Opens a page for which one has to log in, and does so, up to the callback, whose address is returned.
    fn callback(&self, shop: &Shop, user: &str) -> String {
        let answers = [("login", user), ("password", "any")];
        let page = self.ask(&format!("{}/me", shop.url), &[]);
        self.follow(page, &format!("{}/oidc/callback", shop.url), &answers)
    }

    /// The whole login.
    fn log_in(&self, shop: &Shop, user: &str) {
        let page = self.ask(&self.callback(shop, user), &[]);
        assert_eq!((page.status, page.location), (303, Some(format!("{}/me", shop.url))), "{}", page.body);
    }

    fn me(&self, shop: &Shop) -> Option<String> {
        let page = self.ask(&format!("{}/me", shop.url), &[]);
        (page.status == 200).then_some(page.body)
    }
}

/// Where a page's form goes, and its fields, as `name=value`.
fn filled_form(page: &Page, answers: &[(&str, &str)]) -> (String, Vec<String>) {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\""))?.1;
        Some(value.split('"').next().unwrap_or_default().to_owned())
    };
    let form = page.body.split_once("<form").unwrap_or_else(|| panic!("no form in {page:?}")).1;
    let tags = form.split('<').filter(|tag| tag.starts_with("input") && tag.contains("type=\"hidden\""));
    let hidden =
        tags.map(|tag| format!("{}={}", attribute(tag, "name").unwrap(), attribute(tag, "value").unwrap()));
    let asked = answers.iter().filter(|(name, _)| page.body.contains(&format!("name=\"{name}\"")));
    let given = asked.map(|(name, value)| format!("{name}={value}"));
    (attribute(form, "action").unwrap(), hidden.chain(given).collect())
}

#[test]
fn a_login_and_a_logout_at_a_real_provider() {
    for backend in BACKENDS {
        let shop = Shop::start(backend);
        let browser = Browser::new();
        assert_eq!(browser.me(&shop), None);
        browser.log_in(&shop, "alice");
        assert_eq!(browser.me(&shop).as_deref(), Some("alice true"));
        let logins = shop.events("login_succeeded");
        assert_eq!(
            (logins.len(), &logins[0]["principal"], &logins[0]["mechanism"]),
            (1, &"alice".into(), &"open_id_connect".into())
        );

        // Out here, and at the provider, which leads back.
        let page = browser.ask(&format!("{}/oidc/logout", shop.url), &["--request", "POST"]);
        assert!(
            page.location.as_ref().is_some_and(|location| location.starts_with(&shop.issuer)),
            "{page:?}"
        );
        browser.follow(page, &format!("{}/bye", shop.url), &[("logout", "yes")]);
        assert_eq!(browser.me(&shop), None);
        assert_eq!(shop.events("logged_out")[0]["principal"], "alice");
        // Whoever logs in next is asked who they are.
        browser.log_in(&shop, "bob");
        assert_eq!(browser.me(&shop).as_deref(), Some("bob true"));
    }
}

#[test]
fn back_channel_logout() {
    for backend in BACKENDS {
        let shop = Shop::start(backend);
        let [alice, carol] = [Browser::new(), Browser::new()];
        alice.log_in(&shop, "alice");
        carol.log_in(&shop, "carol");
        // Out at the provider alone, which tells the shop.
        let page = alice.ask(&format!("{}/session/end", shop.issuer), &[]);
        alice.follow(page, &format!("{}/session/end/success", shop.issuer), &[("logout", "yes")]);
        eventually("the provider ends the session", || alice.me(&shop).is_none());
        assert_eq!(carol.me(&shop).as_deref(), Some("carol true"), "she stays");
        eventually("it is recorded", || {
            shop.events("logged_out").iter().any(|event| event["principal"] == "alice")
        });
    }
}

/// An attacker's code logs no victim in, and a code is good for one login.
#[test]
fn login_csrf_and_code_replay() {
    for backend in BACKENDS {
        let shop = Shop::start(backend);
        let [mallory, victim] = [Browser::new(), Browser::new()];
        let callback = mallory.callback(&shop, "mallory");
        // The victim has a login of its own under way.
        victim.ask(&format!("{}/oidc/login", shop.url), &[]);
        assert_eq!(victim.ask(&callback, &[]).status, 400);
        assert_eq!(victim.me(&shop), None);
        let forged = callback.replace("state=", "state=x");
        assert_eq!(mallory.ask(&forged, &[]).status, 400);
        assert_eq!(mallory.ask(&callback, &[]).status, 303);
        assert_eq!(mallory.me(&shop).as_deref(), Some("mallory true"));
        assert_eq!(Browser::new().ask(&callback, &[]).status, 400, "replayed");
        assert_eq!(shop.events("login_failed").len(), 3);
    }
}
