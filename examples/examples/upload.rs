//! A form that uploads files, with a progress bar. Run it with `cargo run --release --example upload -- --folder /tmp`.

use std::error::Error as StdError;
use std::path::PathBuf;

use clap::Parser;
use gimmal::defence::Defences;
use gimmal::files::Embedded;
use gimmal::multipart::Multipart;
use gimmal::{App, Error, Json, StatusCode, post};
use gimmal_examples::Args;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// Where files are kept, under names that the server makes up.
    #[arg(long, default_value = "/tmp")]
    folder: PathBuf,
    /// Bytes that one file may have.
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes_max: u64,
}

#[derive(serde::Serialize)]
struct Uploaded {
    /// As the client calls it.
    name: String,
    bytes: u64,
}

async fn upload(mut form: Multipart, folder: PathBuf, bytes_max: u64) -> Result<Json<Vec<Uploaded>>, Error> {
    let mut uploaded = Vec::new();
    while let Some(mut field) = form.next_field().await? {
        let Some(name) = field.file_name().map(str::to_owned) else {
            return Err(Error::new(StatusCode::BAD_REQUEST, "a field of the form is no file"));
        };
        let saved = field.save_in(&folder, bytes_max).await?;
        // Without this the file would go with the handler. To give it a name may take a disk a while.
        gimmal::blocking(move || saved.file.keep()).await??;
        uploaded.push(Uploaded { name, bytes: saved.length });
    }
    Ok(Json(uploaded))
}

fn main() -> Result<(), Box<dyn StdError>> {
    let Options { args, folder, file_bytes_max } = Options::parse();
    gimmal_examples::start_log();
    let upload = async move |form: Multipart| upload(form, folder.clone(), file_bytes_max).await;
    let pages = Embedded::new()
        .file("index.html", include_bytes!("../pages/upload.html"))
        .file("upload.js", include_bytes!("../pages/upload.js"))
        .file("style.css", include_bytes!("../pages/style.css"));
    let app = App::new()
        .route("/upload", post(upload).body_limit(u64::MAX))
        .files("/", pages)
        .with(Defences::new());
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(
        running,
        format!("open {url}/ in a browser, or try: curl -F file=@README.md {url}/upload"),
    )?;
    Ok(())
}
