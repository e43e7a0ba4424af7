//! A keyed bijection between small integers and ids that reveal neither their order nor their kind.
//!
//! A Feistel network over [0, s²), where s² is the number of texts of twelve symbols, so that every integer of this domain
//! has exactly one image in it. The input is the number with a tag of its kind above it. Kinds with different tags have no image in common, so an id of one kind is never an id of
//! another, and 65,535 of 65,536 invented ids are rejected. The key is created once, with the store, and never
//! changes, because clients keep ids in their files.

use crate::ids::{ID_BOUND, IdKind, KindedId};

/// Number of symbols in ids in the form of the Cluvio dialect: groups of 4-4-4.
const GROUPED: usize = 27;
/// In ids in the form of the DX dialect: twelve in a row.
const PLAIN: usize = 36;

/// The sizes are constants, because dividing by a variable takes most of the time of an encoding.
struct Alphabet<const RADIX: usize>;

impl<const RADIX: usize> Alphabet<RADIX> {
    const SYMBOLS: &'static [u8] = match RADIX {
        GROUPED => b"0123456789degjklmnopqrvwxyz",
        PLAIN => b"0123456789abcdefghijklmnopqrstuvwxyz",
        _ => panic!("there is no such alphabet"),
    };
    /// The s of the network.
    const SIDE: u64 = (RADIX as u64).pow(LENGTH as u32 / 2);
    const DOMAIN: u64 = Self::SIDE * Self::SIDE;
}

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
        let digits = self.encode::<I, GROUPED>(id);
        let mut text = String::with_capacity(LENGTH + 2);
        for (at, digit) in digits.into_iter().enumerate() {
            if at == 4 || at == 8 {
                text.push('-');
            }
            text.push(char::from(digit));
        }
        text
    }

    pub fn decode_grouped<I: KindedId>(&self, text: &str) -> Option<I> {
        self.decode_grouped_as(I::KIND, text).map(I::from)
    }

    /// For a kind that is only known at run time.
    pub fn decode_grouped_as(&self, kind: IdKind, text: &str) -> Option<i64> {
        match text.as_bytes() {
            [first @ .., b'-', _, _, _, _, b'-', _, _, _, _] if first.len() == 4 => {
                let digits = text.bytes().enumerate().filter(|(at, _)| !matches!(at, 4 | 9));
                self.decode::<GROUPED>(kind, digits.map(|(_, digit)| digit))
            }
            _ => None,
        }
    }

    /// Twelve lowercase letters and digits.
    pub fn encode_plain<I: KindedId>(&self, id: I) -> String {
        self.encode::<I, PLAIN>(id).into_iter().map(char::from).collect()
    }

    pub fn decode_plain<I: KindedId>(&self, text: &str) -> Option<I> {
        self.decode_plain_as(I::KIND, text).map(I::from)
    }

    fn decode_plain_as(&self, kind: IdKind, text: &str) -> Option<i64> {
        if text.len() == LENGTH { self.decode::<PLAIN>(kind, text.bytes()) } else { None }
    }

    fn encode<I: KindedId, const RADIX: usize>(&self, id: I) -> [u8; LENGTH] {
        let tagged = u64::from(tag(I::KIND)) * NUMBERS + id.value().unsigned_abs() % NUMBERS;
        let mut value = self.permute::<RADIX>(tagged % Alphabet::<RADIX>::DOMAIN, true);
        let mut digits = [0_u8; LENGTH];
        for digit in digits.iter_mut().rev() {
            *digit = Alphabet::<RADIX>::SYMBOLS[(value % RADIX as u64) as usize];
            value /= RADIX as u64;
        }
        digits
    }

    /// `digits`: exactly so many as an id has.
    fn decode<const RADIX: usize>(&self, kind: IdKind, digits: impl Iterator<Item = u8>) -> Option<i64> {
        let mut value = 0_u64;
        for byte in digits {
            let digit = Alphabet::<RADIX>::SYMBOLS.iter().position(|symbol| *symbol == byte)?;
            value = value * RADIX as u64 + digit as u64;
        }
        let tagged = self.permute::<RADIX>(value, false);
        if tagged / NUMBERS != u64::from(tag(kind)) {
            return None;
        }
        i64::try_from(tagged % NUMBERS).ok()
    }

    fn permute<const RADIX: usize>(&self, value: u64, forward: bool) -> u64 {
        let side = Alphabet::<RADIX>::SIDE;
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
        for domain in [Alphabet::<GROUPED>::DOMAIN, Alphabet::<PLAIN>::DOMAIN] {
            assert!(largest < domain);
        }
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
                prop_assert_eq!(ids.decode_plain_as(*kind, &plain), expected);
            }
        }
    }
}
