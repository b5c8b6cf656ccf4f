//! A guest book that withstands what guests may write: templates that escape, a Content-Security-Policy with nonces,
//! forms with CSRF tokens, SQL with parameters, rate limits, and HTTPS. Run it with
//! `cargo run --release --example secure_site`, and its attacks with `cargo test --example secure_site`.

use std::sync::{Arc, Mutex, PoisonError};

use askama::Template;
use clap::Parser;
use gimmal::defence::{
    AllowedHosts, CsrfProtection, CsrfToken, CsrfTokens, Defences, Nonce, Quota, RateLimit,
};
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error, Form, Html, Query, Redirect, State, StatusCode, post};
use gimmal_examples::Args;
use rusqlite::{Connection, named_params};
use serde::Deserialize;

struct Entry {
    author: String,
    text: String,
}

/// All that is put in between `{{` and `}}` is escaped, as the template is of HTML.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Guest book</title>
<style nonce="{{ nonce }}">body { font: 1rem sans-serif; margin: 2rem auto; max-width: 40rem }</style>
<h1>Guest book</h1>
<form><input name="search" value="{{ search }}" aria-label="search"> <button>Search</button></form>
<form method="post" action="/entries">
<input type="hidden" name="csrf_token" value="{{ token }}">
<p><label>Name <input name="author" required></label>
<p><label>Text <textarea name="text" required></textarea></label>
<p><button>Write</button> <output id="length"></output>
</form>
{% for entry in entries %}<article><h2>{{ entry.author }}</h2><p>{{ entry.text }}</p></article>
{% endfor %}
<script nonce="{{ nonce }}">
document.querySelector("textarea").addEventListener("input", (event) => {
    document.getElementById("length").textContent = event.target.value.length + " characters";
});
</script>
</html>
"#
)]
struct Page {
    nonce: Nonce,
    token: CsrfToken,
    search: String,
    entries: Vec<Entry>,
}

/// The database. It is asked on threads for blocking work, so that no query holds up a core.
#[derive(Clone)]
struct Database(Arc<Mutex<Connection>>);

impl Database {
    fn open() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY, author TEXT NOT NULL, text TEXT NOT NULL) STRICT;
             CREATE TABLE secrets (secret TEXT NOT NULL) STRICT;
             INSERT INTO secrets VALUES ('the key to the cellar');",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.0);
        let answer = gimmal::blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            question(&connection)
        });
        Ok(answer.await??)
    }

    /// Values go into a query as parameters, never as text: that is what keeps SQL injection out.
    async fn search(&self, text: String) -> Result<Vec<Entry>, Error> {
        self.ask(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT author, text FROM entries WHERE instr(text, :text) > 0 OR :text = ''
                 ORDER BY id DESC LIMIT 50",
            )?;
            let entries = query.query_map(named_params! { ":text": text }, |row| {
                Ok(Entry { author: row.get("author")?, text: row.get("text")? })
            })?;
            entries.collect()
        })
        .await
    }

    async fn write(&self, draft: Draft) -> Result<(), Error> {
        self.ask(move |connection| {
            let mut statement =
                connection.prepare_cached("INSERT INTO entries (author, text) VALUES (:author, :text)")?;
            statement.execute(named_params! { ":author": draft.author, ":text": draft.text })?;
            Ok(())
        })
        .await
    }
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    search: String,
}

#[derive(Deserialize)]
struct Draft {
    author: String,
    text: String,
}

/// Characters that a field may have.
const FIELD_MAX: usize = 1000;

async fn page(
    database: State<Database>,
    Query(Search { search }): Query<Search>,
    nonce: Nonce,
    token: CsrfToken,
) -> Result<Html<String>, Error> {
    let entries = database.search(search.clone()).await?;
    Ok(Html(Page { nonce, token, search, entries }.render()?))
}

async fn write(database: State<Database>, Form(draft): Form<Draft>) -> Result<Redirect, Error> {
    if [&draft.author, &draft.text].iter().any(|field| field.is_empty() || field.chars().count() > FIELD_MAX)
    {
        return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, "write 1 to 1000 characters in each field"));
    }
    database.write(draft).await?;
    Ok(Redirect::see_other("/"))
}

fn site() -> Result<App, Error> {
    let mut key = vec![0; 32];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    // Its own to each start: a site on many machines takes it from a secret store.
    let tokens = CsrfTokens::new(&key.into())?;
    let defences = Defences::new()
        .allowed_hosts(AllowedHosts::new(["localhost", "127.0.0.1", "[::1]"])?)
        .rate_limit(RateLimit::by_address(Quota::per_second("all", 100)?))
        .csrf(CsrfProtection::default().tokens(tokens).always_ask_for_token());
    let writes = RateLimit::by_address(Quota::per_minute("write", 20)?);
    Ok(App::new()
        .state(Database::open()?)
        .get("/", page)
        .route("/entries", post(write).with(writes).body_limit(16 * 1024))
        .with(defences))
}

#[derive(Parser)]
struct SiteArgs {
    #[command(flatten)]
    server: Args,
}

fn main() -> Result<(), Error> {
    gimmal_examples::start_log();
    let args = SiteArgs::parse().server;
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
    let running = args.server(site()?).access_log(true).bind_tls(&args.addr, &tls).start()?;
    let url = running.url();
    let hint = format!(
        "open {url}/ in a browser, which will not know the certificate, and try to\n\
         - write <script>alert(1)</script> or <img src=x onerror=alert(1)>: it is text\n\
         - search for ' OR 1=1 -- or ' UNION SELECT secret, 1 FROM secrets --: it finds what was written, no more\n\
         - curl -ki {url}/                          the security headers\n\
         - curl -ki {url}/ -H 'Host: evil.example'  421\n\
         - curl -ki {url}/entries -d 'author=a&text=b'                                      403: no token\n\
         - curl -ki {url}/entries -d 'author=a&text=b' -H 'Origin: https://evil.example'    403: another site"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}

#[cfg(test)]
mod tests {
    use gimmal::test::{TestResponse, TestServer};

    use super::*;

    /// A browser that has opened the page.
    struct Guest {
        server: TestServer,
        cookie: String,
        token: String,
    }

    impl Guest {
        fn new() -> Self {
            let server = TestServer::start(site().unwrap()).unwrap();
            let page = server.get("/").send().unwrap();
            let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
            let (_, rest) = page.text().split_once("name=\"csrf_token\" value=\"").unwrap();
            let token = rest.split('"').next().unwrap().to_owned();
            Self { server, cookie, token }
        }

        fn write(&self, author: &str, text: &str, token: &str) -> u16 {
            let request = self.server.post("/entries").header("cookie", &self.cookie);
            let form = request.form(&[("author", author), ("text", text), ("csrf_token", token)]);
            form.send().unwrap().status().as_u16()
        }

        fn search(&self, text: &str) -> TestResponse {
            let query: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            self.server.get(&format!("/?search={query}")).header("cookie", &self.cookie).send().unwrap()
        }
    }

    #[test]
    fn sql_injection() {
        let guest = Guest::new();
        assert_eq!(guest.write("Ada", "a fine cellar", &guest.token), 303);
        assert_eq!(guest.write("Bob'); DROP TABLE entries; --", "it's mine", &guest.token), 303);
        assert!(guest.search("fine").text().contains("<h2>Ada</h2>"));
        for attack in [
            "' OR 1=1 --",
            "' OR ''='",
            "' UNION SELECT secret, secret FROM secrets --",
            "'; DROP TABLE entries; --",
            "\\' OR 1=1 --",
            "%' OR '%'='",
        ] {
            let found = guest.search(attack);
            assert_eq!(found.status(), 200, "{attack}");
            assert!(!found.text().contains("<article>") && !found.text().contains("the key"), "{attack}");
        }
        // All is there still, and the quote is a letter.
        assert!(guest.search("it's").text().contains("DROP TABLE entries"));
        assert!(guest.search("fine").text().contains("<h2>Ada</h2>"));
    }

    #[test]
    fn stored_and_reflected_xss() {
        let guest = Guest::new();
        let attacks = [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "\"><svg onload=alert(1)>",
            "</textarea><script>alert(1)</script>",
            "{{ token }}",
        ];
        for attack in attacks {
            assert_eq!(guest.write(attack, attack, &guest.token), 303);
            for page in [guest.search(""), guest.search(attack)] {
                let text = page.text();
                assert!(
                    !text.contains("<script>") && !text.contains("<img") && !text.contains("<svg"),
                    "{text}"
                );
                // Were it forgotten to escape, the policy would still let no script run but the page's own.
                let policy = page.header("content-security-policy").unwrap();
                let nonce = text.split("<script nonce=\"").nth(1).unwrap().split('"').next().unwrap();
                assert!(policy.contains(&format!("script-src 'self' 'nonce-{nonce}';")), "{policy}");
                assert!(!policy.contains("unsafe-inline"), "{policy}");
            }
        }
        assert!(guest.search("{{ token }}").text().contains("{{ token }}"));
    }

    #[test]
    fn csrf_without_the_token_of_the_page() {
        let guest = Guest::new();
        assert_eq!(guest.write("Mallory", "forged", ""), 403);
        assert_eq!(guest.write("Mallory", "forged", &Guest::new().token), 403);
        assert!(!guest.search("").text().contains("forged"));
    }

    #[test]
    fn flood_of_entries() {
        let guest = Guest::new();
        let statuses: Vec<u16> = (0..25).map(|_| guest.write("Eve", "spam", &guest.token)).collect();
        assert!(statuses.starts_with(&[303; 20]) && statuses.ends_with(&[429; 3]), "{statuses:?}");
    }
}
