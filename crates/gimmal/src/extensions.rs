//! Values of any type that travel with a request or a response.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;

/// At most one value of each type. Values need not be `Send`: a request never leaves its core. Empty, it holds no
/// memory.
///
/// ```
/// let mut extensions = gimmal::Extensions::new();
/// extensions.insert(7_u32);
/// assert_eq!(extensions.get::<u32>(), Some(&7));
/// assert_eq!(extensions.get::<u64>(), None);
/// ```
#[derive(Default)]
pub struct Extensions(Option<HashMap<TypeId, Box<dyn Any>>>);

impl Extensions {
    /// No values.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Stores a value, and returns the one of this type that was there.
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        let before = self.0.get_or_insert_default().insert(TypeId::of::<T>(), Box::new(value));
        before.and_then(|before| before.downcast().ok()).map(|before| *before)
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The value of this type, to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(&TypeId::of::<T>())?.downcast_mut()
    }

    /// Takes the value of this type out.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        let value = self.0.as_mut()?.remove(&TypeId::of::<T>())?;
        value.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.as_ref().map_or(0, HashMap::len))
    }
}
