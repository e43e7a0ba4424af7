//! Randomness from the operating system, and from a seed for tests.

use std::cell::RefCell;
use std::sync::Mutex;

use landreeve_core::Random;
use sha2::{Digest as _, Sha256};

/// How many bytes a thread takes from the operating system at once: every request needs some for its id.
const STOCK: usize = 512;

thread_local! {
    static TAKEN: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK], left: 0 }) };
}

/// Bytes that have not been used yet; used ones are overwritten.
struct Stock {
    bytes: [u8; STOCK],
    left: usize,
}

impl Stock {
    fn take(&mut self, bytes: &mut [u8]) {
        if self.left < bytes.len() {
            from_system(&mut self.bytes);
            self.left = STOCK;
        }
        let rest = self.left - bytes.len();
        let taken = &mut self.bytes[rest..self.left];
        bytes.copy_from_slice(taken);
        taken.fill(0);
        self.left = rest;
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the port's only real implementation")]
fn from_system(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        // Without randomness no id or secret is safe, so the process cannot continue.
        tracing::error!(%error, "the operating system provides no randomness");
        std::process::abort();
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > STOCK {
            return from_system(bytes);
        }
        TAKEN.with_borrow_mut(|stock| stock.take(bytes));
    }
}

/// The same bytes for the same seed. For tests: its output is predictable.
pub struct SeededRandom(Mutex<(u64, u64)>);

impl SeededRandom {
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(Mutex::new((seed, 0)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::new()
                .chain_update(state.0.to_le_bytes())
                .chain_update(state.1.to_le_bytes())
                .finalize();
            state.1 += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Also where the stock runs out, and for more than it holds.
    #[test]
    fn no_byte_is_given_twice() {
        let mut seen = HashSet::new();
        for length in [8, 16, 24, 32, STOCK, STOCK + 1].into_iter().cycle().take(2_000) {
            let mut bytes = vec![0_u8; length];
            OsRandom.fill(&mut bytes);
            for part in bytes.chunks_exact(8) {
                assert!(seen.insert(part.to_vec()), "eight bytes were given twice, or none at all");
            }
        }
    }
}
