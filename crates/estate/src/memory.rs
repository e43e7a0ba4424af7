//! Caches of values that are valid for one epoch only. A change is acknowledged after its epoch is visible, so that
//! later requests never get older values.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct PerEpoch<K, V> {
    most: usize,
    known: Mutex<Known<K, V>>,
}

struct Known<K, V> {
    epoch: i64,
    values: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> PerEpoch<K, V> {
    /// Caches at most this many values.
    pub fn new(most: usize) -> PerEpoch<K, V> {
        PerEpoch { most, known: Mutex::new(Known { epoch: 0, values: HashMap::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known<K, V>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cached value may be of a later epoch than the request's, which is just as good.
    pub fn get(&self, epoch: i64, key: &K) -> Option<V> {
        let mut known = self.known();
        if known.epoch < epoch {
            *known = Known { epoch, values: HashMap::new() };
        }
        known.values.get(key).cloned()
    }

    /// Caches a value that was read while `epoch` was current; drops values read before a change.
    pub fn put(&self, epoch: i64, key: K, value: V) {
        let mut known = self.known();
        if known.epoch == epoch && known.values.len() < self.most {
            known.values.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PerEpoch;

    #[test]
    fn nothing_outlives_its_epoch() {
        let memory = PerEpoch::new(2);
        assert_eq!(memory.get(5, &"a"), None);
        memory.put(5, "a", 1);
        assert_eq!(memory.get(5, &"a"), Some(1));
        assert_eq!(memory.get(4, &"a"), Some(1), "a request that began earlier may see a newer value");
        memory.put(4, "b", 2);
        assert_eq!(memory.get(5, &"b"), None, "a value read before the change is not cached");
        assert_eq!(memory.get(6, &"a"), None);
        for key in ["x", "y", "z"] {
            memory.put(6, key, 0);
        }
        assert_eq!(["x", "y", "z"].map(|key| memory.get(6, &key)), [Some(0), Some(0), None]);
    }
}
