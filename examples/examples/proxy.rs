//! A reverse proxy. Run it with
//! `cargo run --release --example proxy -- --upstream http://127.0.0.1:9000 --upstream http://127.0.0.1:9001`.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use gimmal::App;
use gimmal::proxy::{HealthCheck, Proxy};
use gimmal::tls::TlsClientConfig;
use gimmal_examples::Args;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// A server to forward to, `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`; may be given several times.
    #[arg(long, required = true)]
    upstream: Vec<String>,
    /// Ask the upstream with the fewest requests under way, in place of each in turn.
    #[arg(long)]
    least_loaded: bool,
    /// Send all requests of one client address to the same upstream.
    #[arg(long, conflicts_with = "least_loaded")]
    by_peer: bool,
    /// Ask each upstream for this path every few seconds, and leave those alone that do not answer it well.
    #[arg(long)]
    health: Option<String>,
    /// Take those `https` servers alone whose certificates an authority in this PEM file has issued.
    #[arg(long)]
    roots: Option<PathBuf>,
    /// The name of this proxy in Via, in place of a random one.
    #[arg(long)]
    via: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    gimmal_examples::start_log();
    let mut proxy = Proxy::new(&options.upstream)?;
    if options.least_loaded {
        proxy = proxy.least_loaded();
    }
    if options.by_peer {
        proxy = proxy.hash_by_peer();
    }
    if let Some(path) = options.health {
        proxy = proxy.health_check(HealthCheck { path, ..HealthCheck::default() });
    }
    if let Some(roots) = options.roots {
        proxy = proxy.tls(TlsClientConfig::builder().roots_file(roots).build()?);
    }
    if let Some(via) = options.via {
        proxy = proxy.via(&via)?;
    }
    // How much may be sent is for the upstreams to say.
    let app = App::new().fallback(proxy).body_limit(u64::MAX);
    let running = options.args.server(app).bind(&options.args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(running, format!("try: curl -i {url}/"))?;
    Ok(())
}
