//! The JSON of values that are cached and do not change: rendered once for as long as the value is cached.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use landreeve_core::{Error, Result};
use serde::Serialize;
use serde_json::value::RawValue;

/// Maximum number of texts kept.
const MAX_TEXTS: usize = 1_024;

/// The texts of values of type `V`. A key says which value it is, and for whom the text is.
pub struct Rendered<K, V> {
    texts: Mutex<HashMap<K, Text<V>>>,
}

struct Text<V> {
    /// Keeps the address, not the value.
    value: Weak<V>,
    json: Arc<RawValue>,
}

impl<K, V> Default for Rendered<K, V> {
    fn default() -> Rendered<K, V> {
        Rendered { texts: Mutex::default() }
    }
}

impl<K: Eq + Hash, V> Rendered<K, V> {
    /// The text of this value, rendered now unless the text is of the same value, and not only of an equal one.
    pub fn get<T: Serialize>(
        &self,
        key: K,
        value: &Arc<V>,
        render: impl FnOnce(&V) -> T,
    ) -> Result<Arc<RawValue>> {
        let texts = || self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = texts().get(&key).filter(|text| text.value.as_ptr() == Arc::as_ptr(value)) {
            return Ok(Arc::clone(&text.json));
        }
        let json = serde_json::value::to_raw_value(&render(value)).map_err(Error::internal)?;
        let json = Arc::<RawValue>::from(json);
        let mut texts = texts();
        // Values that are gone can contain secrets, and so can their texts.
        texts.retain(|_, text| text.value.strong_count() > 0);
        if texts.len() < MAX_TEXTS {
            texts.insert(key, Text { value: Arc::downgrade(value), json: Arc::clone(&json) });
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_rendered_once_for_each_value_and_key() {
        let rendered = Rendered::default();
        let count = std::cell::Cell::new(0);
        let get = |key: &'static str, value: &Arc<u8>| {
            let render = |value: &u8| {
                count.set(count.get() + 1);
                *value
            };
            rendered.get(key, value, render).unwrap().get().to_owned()
        };
        let (one, same) = (Arc::new(1), Arc::new(1));
        assert_eq!((get("a", &one), get("a", &one), count.get()), ("1".into(), "1".into(), 1));
        assert_eq!((get("b", &one), count.get()), ("1".into(), 2), "another reader");
        assert_eq!((get("a", &same), count.get()), ("1".into(), 3), "an equal value");
        drop((one, same));
        let many: Vec<Arc<usize>> = (0..=MAX_TEXTS).map(Arc::new).collect();
        let all = Rendered::default();
        for value in &many {
            all.get(**value, value, |value| *value).unwrap();
        }
        assert_eq!(all.texts.lock().unwrap().len(), MAX_TEXTS);
        drop(many);
        all.get(0, &Arc::new(7), |value| *value).unwrap();
        assert_eq!(all.texts.lock().unwrap().len(), 1, "texts of values that are gone are dropped");
    }
}
