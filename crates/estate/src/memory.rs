//! What may be remembered until something changes: values of one epoch, and no others. A change is acknowledged after its
//! epoch is there, so that nobody who asks afterwards gets what was before.

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
    /// Remembers so many values at most.
    pub fn new(most: usize) -> PerEpoch<K, V> {
        PerEpoch { most, known: Mutex::new(Known { epoch: 0, values: HashMap::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known<K, V>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered may be of a later epoch than a request began with, which is as good.
    pub fn get(&self, epoch: i64, key: &K) -> Option<V> {
        let mut known = self.known();
        if known.epoch < epoch {
            *known = Known { epoch, values: HashMap::new() };
        }
        known.values.get(key).cloned()
    }

    /// What was read while `epoch` was current; what was read before a change is not kept.
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
        assert_eq!(memory.get(4, &"a"), Some(1), "a request that began earlier may see what is newer");
        memory.put(4, "b", 2);
        assert_eq!(memory.get(5, &"b"), None, "what was read before the change is not kept");
        assert_eq!(memory.get(6, &"a"), None);
        for key in ["x", "y", "z"] {
            memory.put(6, key, 0);
        }
        assert_eq!(["x", "y", "z"].map(|key| memory.get(6, &key)), [Some(0), Some(0), None]);
    }
}
