//! Whether a string is a single JSON value (RFC 8259), at any depth and without recursion, so that how a column is
//! written does not depend on how deep its documents are. Pure.

/// The open containers around the cursor: 64 levels per word, 1 for an object and 0 for an array.
struct Nesting {
    bits: Vec<u64>,
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits = (*bits & !(1 << bit)) | (u64::from(object) << bit);
        }
        self.depth += 1;
    }

    fn in_object(&self) -> bool {
        let level = self.depth.wrapping_sub(1);
        self.bits.get(level / 64).is_some_and(|bits| bits >> (level % 64) & 1 == 1)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub(super) fn is_json(text: &str) -> bool {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let whole = cursor.document().is_some();
    cursor.blank();
    whole && cursor.at == cursor.bytes.len()
}

impl Cursor<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.bytes.get(self.at) == Some(&expected)).then(|| self.at += 1)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Option<()> {
        let mut open = Nesting { bits: Vec::new(), depth: 0 };
        loop {
            // A value starts here.
            self.blank();
            let entered = match self.peek() {
                b'{' => self.enter(b'}', true, &mut open)?,
                b'[' => self.enter(b']', false, &mut open)?,
                b'"' => self.string().map(|()| false)?,
                b't' => self.word(b"true").map(|()| false)?,
                b'f' => self.word(b"false").map(|()| false)?,
                b'n' => self.word(b"null").map(|()| false)?,
                _ => self.number().map(|()| false)?,
            };
            if entered {
                continue;
            }
            // A value ended here: either another follows, or its container ends too.
            loop {
                if open.depth == 0 {
                    return Some(());
                }
                self.blank();
                let close = if open.in_object() { b'}' } else { b']' };
                if self.take(close).is_some() {
                    open.depth -= 1;
                    continue;
                }
                self.take(b',')?;
                if open.in_object() {
                    self.key()?;
                }
                break;
            }
        }
    }

    /// `true` if a value must follow; `false` for an empty array or object.
    fn enter(&mut self, close: u8, object: bool, open: &mut Nesting) -> Option<bool> {
        self.at += 1;
        self.blank();
        if self.take(close).is_some() {
            return Some(false);
        }
        open.push(object);
        if object {
            self.key()?;
        }
        Some(true)
    }

    fn key(&mut self) -> Option<()> {
        self.blank();
        self.string()?;
        self.blank();
        self.take(b':')
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escape = *self.bytes.get(self.at)?;
                    self.at += 1;
                    if escape == b'u' {
                        let digits = self.bytes.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    } else if !matches!(escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                        return None;
                    }
                }
                0..0x20 => return None,
                _ => (),
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn any_depth() {
        let deep = 100_000;
        assert!(is_json(&format!("{}1{}", "[".repeat(deep), "]".repeat(deep))));
        assert!(!is_json(&format!("{}1{}", "[".repeat(deep), "]".repeat(deep - 1))));
        assert!(is_json(&format!("{}1{}", "{\"a\":[".repeat(100), "]}".repeat(100))));
        assert!(is_json(" {\"a\": 1e400, \"b\": [-0.5, {}], \"c\": \"\\u00e9\\n\"} "));
    }

    proptest! {
        #[test]
        fn agrees_with_serde(parts in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "1", "0", "-", ".5", "e3", "true", "null", " ", "x",
                "\\n", "\\u12", "é", "\u{1}",
            ]),
            0..12,
        )) {
            let text = parts.concat();
            prop_assert_eq!(is_json(&text), serde_json::from_str::<&RawValue>(&text).is_ok(), "{}", text);
        }
    }
}
