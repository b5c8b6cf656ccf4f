//! Panics of the server's, which the test would not hear of: one ends a task, and nothing else.

use std::sync::{Mutex, Once, PoisonError};
use std::{panic, thread};

/// What a handler's panic says that is part of the test.
pub(crate) const ON_PURPOSE: &str = "on purpose";

static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Notes panics on cores from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            if text.or_else(|| payload.downcast_ref::<&str>().copied()) == Some(ON_PURPOSE) {
                return;
            }
            let is_core = thread::current().name().is_some_and(|name| name.starts_with("gimmal-"));
            if is_core {
                FIRST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| info.to_string());
            }
            usual(info);
        }));
    });
}

/// Whether no core has seen a panic since the last call.
pub(crate) fn none_of_a_core() -> Result<(), String> {
    let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
    first.map_or(Ok(()), |panic| Err(format!("a task of a core, of this back end or the other: {panic}")))
}
