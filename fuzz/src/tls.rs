//! The first bytes of a connection that should be TLS.

use std::sync::LazyLock;

use gimmal_security::tls::{TlsServerConfig, TlsSession, TlsState};

use crate::Input;

static CONFIG: LazyLock<TlsServerConfig> =
    LazyLock::new(|| TlsServerConfig::self_signed_for_development(&["localhost"]).expect("a certificate"));

/// What became of the session: why it failed, or how far it got and whom it was asked for.
fn receive<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(TlsState, Option<String>), String> {
    let mut session = TlsSession::server(&CONFIG).expect("a session");
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    // Sockets give no empty pieces.
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        session
            .receive(&mut piece.to_vec(), &mut plaintext, &mut out)
            .map_err(|error| format!("{error:?}"))?;
        assert!(plaintext.is_empty(), "nobody has proved anything yet");
    }
    Ok((session.state(), session.server_name().map(str::to_owned)))
}

/// In pieces it gives what it gives whole.
pub fn run(data: &[u8]) {
    let Some(input) = Input::new(data) else { return };
    let whole = receive([input.message].into_iter());
    assert!(!matches!(whole, Ok((TlsState::Open, _))), "a handshake without its keys");
    let mut begin = 0;
    let pieces = input.prefixes().map(|prefix| &prefix[std::mem::replace(&mut begin, prefix.len())..]);
    let in_pieces = receive(pieces.into_iter());
    assert_eq!(whole.is_err(), in_pieces.is_err(), "whole {whole:?}, in pieces {in_pieces:?}");
    if whole.is_ok() {
        assert_eq!(whole, in_pieces);
    }
}
