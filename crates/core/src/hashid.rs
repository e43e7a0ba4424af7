//! A keyed bijection between small integers and ids that say nothing of their order.
//!
//! A Feistel network over [0, s²) with s² ≥ the domain, walked until it lands inside the domain
//! (cycle walking), so that every integer of the domain has exactly one image in it. The key is made once
//! when the store is created and never changes: ids live in clients' files.

/// 27 symbols, as the ids of the Cluvio dialect look: groups of 4-4-4.
const ALPHABET_27: &[u8; 27] = b"0123456789degjklmnopqrvwxyz";
/// 36 symbols, as the ids of the DX dialect look: twelve in a row.
const ALPHABET_36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

const ROUNDS: u64 = 6;
const LENGTH: usize = 12;

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
    pub fn encode_grouped(&self, id: i64) -> String {
        let digits = self.encode(id, ALPHABET_27);
        format!("{}-{}-{}", &digits[..4], &digits[4..8], &digits[8..])
    }

    pub fn decode_grouped(&self, text: &str) -> Option<i64> {
        let (mut digits, mut groups) = (String::with_capacity(LENGTH), 0);
        for group in text.split('-') {
            if group.len() != 4 {
                return None;
            }
            groups += 1;
            digits.push_str(group);
        }
        if groups == 3 { self.decode(&digits, ALPHABET_27) } else { None }
    }

    /// Twelve lower-case letters and digits.
    pub fn encode_plain(&self, id: i64) -> String {
        self.encode(id, ALPHABET_36)
    }

    pub fn decode_plain(&self, text: &str) -> Option<i64> {
        self.decode(text, ALPHABET_36)
    }

    fn encode(&self, id: i64, alphabet: &[u8]) -> String {
        let mut value = self.walk(id.unsigned_abs(), domain(alphabet), true);
        let radix = alphabet.len() as u64;
        let mut digits = [0_u8; LENGTH];
        for digit in digits.iter_mut().rev() {
            *digit = alphabet[(value % radix) as usize];
            value /= radix;
        }
        digits.iter().map(|byte| char::from(*byte)).collect()
    }

    fn decode(&self, text: &str, alphabet: &[u8]) -> Option<i64> {
        if text.len() != LENGTH {
            return None;
        }
        let mut value = 0_u64;
        for byte in text.bytes() {
            let digit = alphabet.iter().position(|symbol| *symbol == byte)?;
            value = value * alphabet.len() as u64 + digit as u64;
        }
        i64::try_from(self.walk(value, domain(alphabet), false)).ok()
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

    /// The finaliser of SplitMix64, keyed: enough to hide order, which is all that is asked of it.
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
    use super::*;

    #[test]
    fn ids_come_back_and_look_as_documented() {
        let ids = HashIds::new(*b"0123456789abcdef");
        for id in [0, 1, 2, 40, 117_228, crate::ids::ID_BOUND - 1] {
            let grouped = ids.encode_grouped(id);
            assert_eq!(grouped.len(), 14);
            assert_eq!(ids.decode_grouped(&grouped), Some(id), "{grouped}");
            assert_eq!(ids.decode_plain(&ids.encode_plain(id)), Some(id));
        }
        assert_ne!(ids.encode_grouped(1), HashIds::new(*b"fedcba9876543210").encode_grouped(1));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let ids = HashIds::new([7; 16]);
        for text in ["", "8qxn", "8qxn-y9ex-65v", "8qxn-y9ex-65va", "8qxny9ex65vd", "8QXN-Y9EX-65VD", "é-é-é"]
        {
            assert_eq!(ids.decode_grouped(text), None, "{text}");
        }
    }
}
