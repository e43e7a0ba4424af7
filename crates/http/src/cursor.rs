//! Opaque positions in a list, as text that needs no escaping in a URL.
//!
//! A cursor grants nothing. It only says where to continue, and is checked for damage and for belonging to the list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landreeve_core::Fault;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
/// Longer than any cursor that we create.
const MAX_TEXT: usize = 2_048;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// This many items have been seen.
    Offset(u64),
    /// The last item seen has this id.
    AfterId(i64),
    /// The last item seen has this key.
    AfterKey(String),
}

impl Cursor {
    /// `list` identifies the list, including everything in the request that positions depend on (order, filter). It is
    /// not part of the text, but the cursor is refused for any other list.
    pub fn encode(&self, list: &str) -> String {
        let mut bytes = vec![VERSION];
        match self {
            Cursor::Offset(offset) => {
                bytes.push(b'o');
                bytes.extend(offset.to_be_bytes());
            }
            Cursor::AfterId(id) => {
                bytes.push(b'i');
                bytes.extend(id.to_be_bytes());
            }
            Cursor::AfterKey(key) => {
                bytes.push(b'k');
                bytes.extend(key.as_bytes());
            }
        }
        let check = check(list, &bytes);
        bytes.extend(check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `field` is the name of the parameter, for the error.
    pub fn decode(list: &str, field: &str, text: &str) -> Result<Cursor, Fault> {
        let cursor = (text.len() <= MAX_TEXT).then(|| decode(list, text)).flatten();
        cursor.ok_or_else(|| {
            Fault::new(field, "cursor", "is not a valid cursor for this list; start with the first page")
        })
    }
}

fn decode(list: &str, text: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (content, given) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
    if check(list, content) != given {
        return None;
    }
    let (VERSION, content) = split_first(content)? else { return None };
    match split_first(content)? {
        (b'o', bytes) => Some(Cursor::Offset(u64::from_be_bytes(bytes.try_into().ok()?))),
        (b'i', bytes) => Some(Cursor::AfterId(i64::from_be_bytes(bytes.try_into().ok()?))),
        (b'k', bytes) => Some(Cursor::AfterKey(String::from_utf8(bytes.to_vec()).ok()?)),
        _ => None,
    }
}

fn split_first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

/// FNV-1a, folded. Protects against accidents only.
fn check(list: &str, content: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    // 0xff cannot occur in the list's name, so it separates the two parts unambiguously.
    for byte in list.as_bytes().iter().chain(&[0xff]).chain(content) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    [a ^ e, b ^ f, c ^ g, d ^ h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rejects_cursors_of_other_lists() {
        let text = Cursor::Offset(100).encode("runs");
        assert_eq!(Cursor::decode("runs", "start", &text), Ok(Cursor::Offset(100)));
        let fault = Cursor::decode("users", "start", &text).unwrap_err();
        assert_eq!((fault.field.as_str(), fault.code), ("start", "cursor"));
    }

    #[test]
    fn rejects_cursors_with_one_changed_character() {
        let text = Cursor::AfterId(4_711).encode("runs");
        for index in 0..text.len() {
            let other = if &text[index..=index] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..index], &text[index + 1..]);
            assert!(Cursor::decode("runs", "c", &changed).is_err(), "{changed}");
        }
    }

    fn cursors() -> impl Strategy<Value = Cursor> {
        prop_oneof![
            any::<u64>().prop_map(Cursor::Offset),
            any::<i64>().prop_map(Cursor::AfterId),
            "\\PC{0,80}".prop_map(Cursor::AfterKey),
        ]
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(cursor in cursors(), list in "\\PC{0,20}") {
            let text = cursor.encode(&list);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            prop_assert!(text.chars().all(plain));
            prop_assert_eq!(Cursor::decode(&list, "c", &text), Ok(cursor));
        }

        #[test]
        fn never_panics(text in "\\PC{0,100}", base64 in "[A-Za-z0-9_-]{0,60}") {
            prop_assert!(Cursor::decode("list", "c", &text).is_err());
            prop_assert!(Cursor::decode("list", "c", &base64).is_err());
        }
    }
}
