//! Names and texts that a request brings: hosts, origins, paths, targets of redirects, and JSON before it is parsed.

use std::path::Path;
use std::sync::LazyLock;

use gimmal_security::Origin;
use gimmal_security::allowed_hosts::AllowedHosts;
use gimmal_security::json_guard::{JsonGuard, JsonLimits, check};
use gimmal_security::path::SafePath;
use gimmal_security::redirect::RedirectTargets;

use crate::Input;

static HOSTS: LazyLock<AllowedHosts> =
    LazyLock::new(|| AllowedHosts::new(["example.org", "*.example.net", "[::1]"]).expect("hosts"));

/// What is taken is safe for what comes after it.
pub fn run(data: &[u8]) {
    if let Ok(host) = HOSTS.check(data) {
        let host = host.to_ascii_lowercase();
        assert!(
            host.starts_with("example.org") || host.contains(".example.net") || host.starts_with("[::1]")
        );
    }
    if let Ok(origin) = Origin::parse(data) {
        assert_eq!(Origin::parse(origin.as_str().as_bytes()).as_ref(), Ok(&origin));
        assert!(origin.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(path) = SafePath::parse(text) {
            let root = Path::new("/srv/files");
            let joined = path.join(root);
            assert!(joined.starts_with(root));
            assert!(joined.components().all(|part| !matches!(part, std::path::Component::ParentDir)));
            assert!(path.segments().all(|segment| !segment.contains(['/', '\0']) && segment != ".."));
        }
        if let Ok(location) = RedirectTargets::new().location(text) {
            let location = location.to_str().expect("text");
            assert!(location.starts_with('/') && !location.starts_with("//") && !location.starts_with("/\\"));
        }
    }
    let Some(input) = Input::new(data) else { return };
    let limits = JsonLimits { bytes: 64, depth: 4, values: 16 };
    let whole = check(input.message, limits);
    let mut guard = JsonGuard::new(limits);
    let mut begin = 0;
    let pieces = input.prefixes().map(|prefix| &prefix[std::mem::replace(&mut begin, prefix.len())..]);
    let in_pieces = pieces.into_iter().fold(Ok(()), |so_far, piece| so_far.and(guard.push(piece)));
    assert_eq!(whole.is_ok(), in_pieces.is_ok());
}
