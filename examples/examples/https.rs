//! HTTPS, with plain HTTP beside it that leads there. Run it with `cargo run --release --example https`.
//!
//! Without a certificate of your own it makes one for development, which no client trusts.

use std::path::PathBuf;

use clap::Parser;
use gimmal::defence::Defences;
use gimmal::tls::TlsServerConfig;
use gimmal::{App, Error, Request};
use gimmal_examples::Args;

#[derive(Parser)]
struct HttpsArgs {
    #[command(flatten)]
    server: Args,
    /// PEM file with the certificate chain; it is read again when it changes.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// Address in plain HTTP on which clients are sent to HTTPS.
    #[arg(long)]
    redirect_addr: Option<String>,
}

async fn about(request: Request) -> String {
    match request.tls() {
        Some(tls) => format!(
            "{} with {} and {}{}\n",
            tls.version,
            tls.cipher_suite.unwrap_or("an unknown cipher suite"),
            tls.key_exchange_group.unwrap_or("an unknown group"),
            if tls.resumed { ", resumed" } else { "" },
        ),
        None => "plain text\n".to_owned(),
    }
}

fn main() -> Result<(), Error> {
    gimmal_examples::start_log();
    let args = HttpsArgs::parse();
    let own = args.certificate.zip(args.key);
    let tls = match &own {
        Some((certificate, key)) => TlsServerConfig::from_pem_files(certificate, key)?,
        None => TlsServerConfig::self_signed_for_development(&["localhost", "127.0.0.1", "::1"])?,
    };
    // With the defences comes Strict-Transport-Security: browsers that were here once come by HTTPS alone.
    let app = App::new().get("/", about).with(Defences::new());
    let mut server = args.server.server(app).bind_tls(&args.server.addr, &tls);
    if let Some(address) = &args.redirect_addr {
        let port = args.server.addr.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(443);
        server = server.redirect_to_https(address, port);
    }
    let running = server.start()?;
    let url = running.url();
    // A development certificate is made to be distrusted.
    let distrust = if own.is_some() { "" } else { " --insecure" };
    Ok(gimmal_examples::serve(running, format!("try: curl{distrust} {url}/"))?)
}
