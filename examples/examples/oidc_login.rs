//! A site whose users log in at an OpenID provider. Start the provider, then the site, and open what it prints:
//!
//! ```sh
//! npm ci --prefix tests/oidc-provider && npm start --prefix tests/oidc-provider
//! cargo run --release --example oidc_login
//! ```
//!
//! Any other provider does as well: register this site there with the addresses that it prints, and name the provider with
//! `--issuer`, `--client-id` and the environment variable `CLIENT_SECRET`.

use askama::Template;
use clap::Parser;
use gimmal::auth::{
    Authenticator, MemorySessionStore, OidcLogin, Principal, Realm, Requirement, SessionOptions, Sessions,
};
use gimmal::defence::{Csp, Defences, Directive, Source};
use gimmal::files::Embedded;
use gimmal::security::SecretString;
use gimmal::security::client_authentication::ClientAuthentication;
use gimmal::security::cookies::CookieKeys;
use gimmal::security::oidc::RelyingParty;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error, Html, Route, get};
use gimmal_examples::Args;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// The provider.
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    issuer: String,
    /// What the provider calls this site.
    #[arg(long, default_value = "shop")]
    client_id: String,
    /// Where browsers find this site.
    #[arg(long, default_value = "https://127.0.0.1:8080")]
    site: String,
}

#[derive(Template)]
#[template(path = "oidc_login.html")]
struct Page {
    principal: Option<Principal>,
    issuer: String,
}

fn app(issuer: &str, client_id: &str, site: &str) -> Result<App, Error> {
    let client_secret = std::env::var("CLIENT_SECRET").unwrap_or_else(|_| "a secret & more".to_owned());
    let (client_id, client_secret) = (client_id.to_owned(), SecretString::from(client_secret));
    let callback = format!("{site}/oidc/callback");
    let login = OidcLogin::new(issuer, move |provider| {
        let client = ClientAuthentication::basic(&client_id, client_secret.clone());
        let keys = CookieKeys::random();
        Ok(RelyingParty::new(provider, client, &callback, keys)?.with_scopes(["email"]))
    });
    let login = login.post_logout_redirect_uri(&format!("{site}/"));
    let sessions = Sessions::new(MemorySessionStore::new(100_000), SessionOptions::default());
    // The form that logs out leads on to the provider.
    let policy = Csp::strict().allow(Directive::FormAction, Source::host(issuer)?).build()?;
    let page = {
        let issuer = issuer.to_owned();
        async move |principal: Option<Principal>| -> Result<Html<String>, Error> {
            Ok(Html(Page { principal, issuer: issuer.clone() }.render()?))
        }
    };
    let style = Embedded::new().file("style.css", include_bytes!("../pages/style.css"));
    Ok(App::new()
        .deny_by_default()
        .route("/", get(page.clone()).require(Requirement::Public))
        .route("/account", get(page).require(Requirement::Authenticated))
        .nest("/oidc", login.routes(&sessions))
        .files("/", Route::from(style).require(Requirement::Public))
        .with(Defences::new().csp(policy))
        .with(sessions)
        .with(Authenticator::new(Realm::new("Shop")?).login_page("/oidc/login")))
}

fn main() -> Result<(), Error> {
    let Options { args, issuer, client_id, site } = Options::parse();
    gimmal_examples::start_log();
    let tls = TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?;
    let running = args.server(app(&issuer, &client_id, &site)?).bind_tls(&args.addr, &tls).start()?;
    let hint = format!(
        "open {site}/ in a browser, which will not know the certificate\n\
         at {issuer} it is registered with\n  \
         {site}/oidc/callback            to come back after a login\n  \
         {site}/                         to come back after a logout\n  \
         {site}/oidc/backchannel-logout  to be told of a logout there"
    );
    Ok(gimmal_examples::serve(running, hint)?)
}
