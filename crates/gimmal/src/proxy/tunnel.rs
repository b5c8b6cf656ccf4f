//! Two connections that have become one.

use std::io;
use std::time::Duration;

use crate::stream::Stream;

/// Carries bytes both ways until both sides have ended, one of them breaks, or nothing comes for `idle`.
pub(super) async fn tunnel(client: Stream, upstream: Stream, idle: Duration) {
    let touch = || {
        client.set_deadline(Some(idle));
        upstream.set_deadline(Some(idle));
    };
    touch();
    let both = async { tokio::try_join!(carry(&client, &upstream, touch), carry(&upstream, &client, touch)) };
    if let Err(error) = both.await {
        tracing::debug!(%error, "an upgraded connection was cut off");
        client.abort();
        upstream.abort();
    }
}

async fn carry(from: &Stream, to: &Stream, touch: impl Fn()) -> io::Result<()> {
    loop {
        let bytes = from.recv().await?;
        touch();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        // One that takes nothing must not hold on to the buffers of the others.
        to.send(bytes.unpin_if_scarce()).await?;
    }
}
