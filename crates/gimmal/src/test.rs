//! Clients for a service's own tests: in memory, and over a socket.
//!
//! ```
//! use gimmal::{App, Path, test::TestClient};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = App::new().get("/greet/{name}", async |Path(name): Path<String>| format!("Hello, {name}!"));
//! let client = TestClient::new(app).unwrap();
//! let response = client.get("/greet/Ada").send().await;
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.text(), "Hello, Ada!");
//! # }
//! ```

mod client;
mod message;
mod server;

pub use client::TestClient;
pub use message::{TestRequest, TestResponse};
pub use server::TestServer;
