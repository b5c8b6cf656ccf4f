//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds since 1970; 0 on a host whose clock stands before that.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
