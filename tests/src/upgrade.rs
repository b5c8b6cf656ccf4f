//! A handler that hands its connection over.

use gimmal::{HeaderValue, Response};

/// Upgrades to "echo": says "early" at once, then whatever it hears.
pub async fn echo_after_upgrade() -> Response {
    Response::switching_protocols(HeaderValue::from_static("echo"), async |stream| {
        let _ = stream.send("early").await;
        while let Ok(bytes) = stream.recv().await
            && !bytes.is_empty()
        {
            let _ = stream.send(bytes).await;
        }
    })
}
