//! Serves a folder, with ranges, conditions, compressed siblings and listings. Run it with
//! `cargo run --release --example static_site -- --folder docs`.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use gimmal::App;
use gimmal::files::Files;
use gimmal_examples::Args;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// The folder.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { args, folder } = Options::parse();
    gimmal_examples::start_log();
    let site = Files::open(folder)?.precompressed().list_folders().cache_control("*", "no-cache");
    let running = args.server(App::new().files("/", site)).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(
        running,
        format!("open {url}/ in a browser, or try: curl --range 0-99 {url}/README.md"),
    )?;
    Ok(())
}
