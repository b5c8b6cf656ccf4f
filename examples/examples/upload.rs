//! A form that uploads files, with a progress bar. Run it with `cargo run --release --example upload -- --folder /tmp`.

use std::error::Error as StdError;
use std::path::PathBuf;

use clap::Parser;
use gimmal::multipart::Multipart;
use gimmal::{App, Error, Html, Json, post};
use gimmal_examples::Args;

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Upload</title>
<h1>Upload</h1>
<form id="form" action="/upload" method="post" enctype="multipart/form-data">
  <input type="file" name="file" multiple required> <button>Send</button>
</form>
<p><progress id="progress" max="1" value="0"></progress> <span id="percent"></span></p>
<ul id="list"></ul>
<script>
  const form = document.getElementById('form'), list = document.getElementById('list');
  const progress = document.getElementById('progress'), percent = document.getElementById('percent');
  form.addEventListener('submit', event => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    request.upload.onprogress = event => {
      progress.value = event.loaded / event.total;
      percent.textContent = Math.floor(100 * progress.value) + ' %';
    };
    request.onload = () => {
      list.replaceChildren();
      const lines = request.status === 200
        ? JSON.parse(request.responseText).map(file => file.name + ': ' + file.bytes + ' bytes')
        : [request.status + ' ' + request.responseText];
      for (const line of lines) {
        const item = document.createElement('li');
        item.textContent = line;
        list.append(item);
      }
    };
    request.onerror = () => percent.textContent = 'the connection broke';
    request.open('POST', form.action);
    request.send(new FormData(form));
  });
</script>
"#;

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
        let Some(name) = field.file_name().map(str::to_owned) else { continue };
        let saved = field.save_in(&folder, bytes_max).await?;
        // Without this the file would go with the handler.
        saved.file.keep()?;
        uploaded.push(Uploaded { name, bytes: saved.length });
    }
    Ok(Json(uploaded))
}

fn main() -> Result<(), Box<dyn StdError>> {
    let Options { args, folder, file_bytes_max } = Options::parse();
    gimmal_examples::start_log();
    let upload = async move |form: Multipart| upload(form, folder.clone(), file_bytes_max).await;
    let app = App::new().get("/", async || Html(PAGE)).route("/upload", post(upload).body_limit(u64::MAX));
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(
        running,
        format!("open {url}/ in a browser, or try: curl -F file=@README.md {url}/upload"),
    )?;
    Ok(())
}
