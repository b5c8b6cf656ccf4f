//! The shortest server. Run it with `cargo run --release --example hello`.

use gimmal::{App, Path, ServerError};
use gimmal_examples::Args;

async fn greet(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}

fn main() -> Result<(), ServerError> {
    let args = Args::read();
    let app = App::new().get("/", async || "Hello, World!\n").get("/greet/{name}", greet);
    let running = args.server(app).bind(&args.addr).start()?;
    let url = running.url();
    gimmal_examples::serve(running, format!("try: curl {url}/greet/Ada"))
}
