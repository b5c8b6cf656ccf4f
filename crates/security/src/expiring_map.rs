//! A bounded map whose entries expire.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Entries by key, each until a time. When the map is full, the entry that was inserted first makes room.
#[derive(Debug)]
pub(crate) struct ExpiringMap<K, V> {
    entries_max: usize,
    entries: HashMap<K, Entry<V>>,
    /// In the order of insertion; a key whose entry was replaced since stands here twice.
    order: VecDeque<(K, u64)>,
    inserted_count: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires_at: u64,
    number: u64,
}

impl<K: Hash + Eq + Clone, V> ExpiringMap<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, entries: HashMap::new(), order: VecDeque::new(), inserted_count: 0 }
    }

    /// The value that has not expired by `now`.
    pub(crate) fn get(&self, key: &K, now: u64) -> Option<&V> {
        self.entries.get(key).filter(|entry| now < entry.expires_at).map(|entry| &entry.value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, expires_at: u64) {
        if self.entries_max == 0 {
            return;
        }
        self.inserted_count += 1;
        let number = self.inserted_count;
        self.entries.insert(key.clone(), Entry { value, expires_at, number });
        self.order.push_back((key, number));
        while self.entries.len() > self.entries_max || self.order.len() > 2 * self.entries_max {
            let Some((key, number)) = self.order.pop_front() else { break };
            if self.entries.get(&key).is_some_and(|entry| entry.number == number) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire() {
        let mut map = ExpiringMap::new(2);
        map.insert("a", 1, 10);
        assert_eq!((map.get(&"a", 9), map.get(&"a", 10)), (Some(&1), None));
        map.insert("a", 2, 20);
        assert_eq!(map.get(&"a", 10), Some(&2));
    }

    #[test]
    fn it_stays_bounded_and_keeps_the_newest() {
        let mut map = ExpiringMap::new(3);
        for at in 0..100 {
            map.insert(at, at, 10);
            map.insert(1000, at, 10);
        }
        assert_eq!(map.get(&99, 0), Some(&99));
        assert_eq!(map.get(&1000, 0), Some(&99));
        assert_eq!(map.get(&1, 0), None);
        assert!(map.entries.len() <= 3 && map.order.len() <= 6);
        let mut none = ExpiringMap::new(0);
        none.insert(1, 1, 10);
        assert_eq!(none.get(&1, 0), None);
    }
}
