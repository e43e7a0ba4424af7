//! A keyed bijection between small integers and ids that reveal neither their order nor their kind.
//!
//! A Feistel network over [0, s²) with s² ≥ the domain, walked until it lands inside the domain
//! (cycle walking), so that every integer of the domain has exactly one image in it. The input is the number with a
//! tag of its kind above it. Kinds with different tags have no image in common, so an id of one kind is never an id of
//! another, and 65,535 of 65,536 invented ids are rejected. The key is created once, with the store, and never
//! changes, because clients keep ids in their files.

use crate::ids::{ID_BOUND, IdKind, KindedId};

/// 27 symbols, for ids in the form of the Cluvio dialect: groups of 4-4-4.
const ALPHABET_27: &[u8; 27] = b"0123456789degjklmnopqrvwxyz";
/// 36 symbols, for ids in the form of the DX dialect: twelve in a row.
const ALPHABET_36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

const ROUNDS: u64 = 6;
const LENGTH: usize = 12;
/// How many numbers a kind has. With the tag above them they fill 57 bits, which is less than 27^12.
const NUMBERS: u64 = ID_BOUND as u64;

/// Distinguishes the ids of one kind from those of another: FNV-1a of its name, folded to 16 bits. It depends only on
/// the name, because ids outlive the program that issued them. Two kinds with the same tag would share ids, so the
/// registry of planes rejects them.
pub const fn tag(kind: IdKind) -> u16 {
    let bytes = kind.0.as_bytes();
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 16) ^ (hash & 0xffff)) as u16
}

#[derive(Clone)]
pub struct HashIds {
    key: [u64; 2],
}

impl HashIds {
    pub fn new(key: [u8; 16]) -> HashIds {
        let (low, high) = key.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
        HashIds { key: [word(low), word(high)] }
    }

    /// `8qxn-y9ex-65vd`
    pub fn encode_grouped<I: KindedId>(&self, id: I) -> String {
        let digits = self.encode(id, ALPHABET_27);
        format!("{}-{}-{}", &digits[..4], &digits[4..8], &digits[8..])
    }

    pub fn decode_grouped<I: KindedId>(&self, text: &str) -> Option<I> {
        self.decode_grouped_as(I::KIND, text).map(I::from)
    }

    /// For a kind that is only known at run time.
    pub fn decode_grouped_as(&self, kind: IdKind, text: &str) -> Option<i64> {
        let (mut digits, mut groups) = (String::with_capacity(LENGTH), 0);
        for group in text.split('-') {
            if group.len() != 4 {
                return None;
            }
            groups += 1;
            digits.push_str(group);
        }
        if groups == 3 { self.decode(kind, &digits, ALPHABET_27) } else { None }
    }

    /// Twelve lowercase letters and digits.
    pub fn encode_plain<I: KindedId>(&self, id: I) -> String {
        self.encode(id, ALPHABET_36)
    }

    pub fn decode_plain<I: KindedId>(&self, text: &str) -> Option<I> {
        self.decode(I::KIND, text, ALPHABET_36).map(I::from)
    }

    fn encode<I: KindedId>(&self, id: I, alphabet: &[u8]) -> String {
        let tagged = u64::from(tag(I::KIND)) * NUMBERS + id.value().unsigned_abs() % NUMBERS;
        let mut value = self.walk(tagged, domain(alphabet), true);
        let radix = alphabet.len() as u64;
        let mut digits = [0_u8; LENGTH];
        for digit in digits.iter_mut().rev() {
            *digit = alphabet[(value % radix) as usize];
            value /= radix;
        }
        digits.iter().map(|byte| char::from(*byte)).collect()
    }

    fn decode(&self, kind: IdKind, text: &str, alphabet: &[u8]) -> Option<i64> {
        if text.len() != LENGTH {
            return None;
        }
        let mut value = 0_u64;
        for byte in text.bytes() {
            let digit = alphabet.iter().position(|symbol| *symbol == byte)?;
            value = value * alphabet.len() as u64 + digit as u64;
        }
        let tagged = self.walk(value, domain(alphabet), false);
        if tagged / NUMBERS != u64::from(tag(kind)) {
            return None;
        }
        i64::try_from(tagged % NUMBERS).ok()
    }

    fn walk(&self, start: u64, domain: u64, forward: bool) -> u64 {
        let side = side(domain);
        let mut value = start % domain;
        loop {
            value = self.permute(value, side, forward);
            if value < domain {
                return value;
            }
        }
    }

    fn permute(&self, value: u64, side: u64, forward: bool) -> u64 {
        let (mut left, mut right) = (value / side, value % side);
        for step in 0..ROUNDS {
            if forward {
                let mixed = (left + self.round(step, right) % side) % side;
                (left, right) = (right, mixed);
            } else {
                let mixed = (right + side - self.round(ROUNDS - 1 - step, left) % side) % side;
                (left, right) = (mixed, left);
            }
        }
        left * side + right
    }

    /// The finaliser of SplitMix64, keyed. It only has to hide the order, and it does.
    fn round(&self, round: u64, value: u64) -> u64 {
        let mut x =
            value ^ self.key[(round & 1) as usize].wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn domain(alphabet: &[u8]) -> u64 {
    (alphabet.len() as u64).pow(LENGTH as u32)
}

/// The smallest side whose square covers the domain.
fn side(domain: u64) -> u64 {
    let mut side = (domain as f64).sqrt() as u64;
    while side * side < domain {
        side += 1;
    }
    side
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::{AgentId, DatasourceId, KINDS, RunId};

    #[test]
    fn ids_round_trip_in_the_documented_form() {
        let ids = HashIds::new(*b"0123456789abcdef");
        for id in [0, 1, 2, 40, 117_228, ID_BOUND - 1].map(DatasourceId) {
            let grouped = ids.encode_grouped(id);
            assert_eq!(grouped.len(), 14);
            assert_eq!(ids.decode_grouped(&grouped), Some(id), "{grouped}");
            assert_eq!(ids.decode_plain(&ids.encode_plain(id)), Some(id));
        }
        let other = HashIds::new(*b"fedcba9876543210");
        assert_ne!(ids.encode_grouped(RunId(1)), other.encode_grouped(RunId(1)));
    }

    /// Clients' files and backups contain ids, so they never change for a given key.
    #[test]
    fn ids_never_change_for_a_key() {
        let ids = HashIds::new(*b"0123456789abcdef");
        assert_eq!(ids.encode_grouped(DatasourceId(2)), "g198-7jpv-enr8");
        assert_eq!(ids.encode_plain(RunId(2)), "x06h581f4fm0");
    }

    #[test]
    fn rejects_malformed_ids() {
        let ids = HashIds::new([7; 16]);
        for text in ["", "8qxn", "8qxn-y9ex-65v", "8qxn-y9ex-65va", "8qxny9ex65vd", "8QXN-Y9EX-65VD", "é-é-é"]
        {
            assert_eq!(ids.decode_grouped::<DatasourceId>(text), None, "{text}");
        }
    }

    #[test]
    fn no_two_kinds_share_a_tag() {
        let mut tags = HashMap::new();
        for kind in KINDS {
            assert_eq!(tags.insert(tag(*kind), kind.0), None, "{} needs another name", kind.0);
        }
    }

    #[test]
    fn tagged_numbers_fit_into_the_domain() {
        let largest = u64::from(u16::MAX) * NUMBERS + (NUMBERS - 1);
        assert!(largest < domain(ALPHABET_27) && largest < domain(ALPHABET_36));
    }

    proptest! {
        /// Decoding as any other kind gives `None` for every key and number, never another number that might exist.
        #[test]
        fn an_id_of_one_kind_is_never_an_id_of_another(key: [u8; 16], number in 0..ID_BOUND) {
            let ids = HashIds::new(key);
            let (grouped, plain) = (ids.encode_grouped(AgentId(number)), ids.encode_plain(AgentId(number)));
            for kind in KINDS {
                let expected = (*kind == AgentId::KIND).then_some(number);
                prop_assert_eq!(ids.decode_grouped_as(*kind, &grouped), expected);
                prop_assert_eq!(ids.decode(*kind, &plain, ALPHABET_36), expected);
            }
        }
    }
}
