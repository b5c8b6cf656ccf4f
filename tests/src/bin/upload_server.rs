//! A server that lets all files of a form come before it is done with the first: `upload_server BACKEND FOLDER`. It says
//! where it listens.

use gimmal::multipart::Multipart;
use gimmal::{App, BoxError, Error, Server};

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, folder] = &arguments[..] else { return Err("BACKEND FOLDER".into()) };
    let folder = folder.clone();
    let upload = async move |mut form: Multipart| -> Result<String, Error> {
        let mut saved = Vec::new();
        while let Some(mut field) = form.next_field().await? {
            saved.push(field.save_in(&folder, 50 << 20).await?);
        }
        Ok(saved.len().to_string())
    };
    let app = App::new().post("/", upload).body_limit(u64::MAX);
    let running = Server::new(app).cores(1).backend(backend.parse()?).bind("127.0.0.1:0").start()?;
    announce(&running.addresses()[0]);
    Ok(running.join()?)
}

#[expect(clippy::print_stdout, reason = "whoever started it reads this")]
fn announce(address: &gimmal::Address) {
    println!("{address}");
}
