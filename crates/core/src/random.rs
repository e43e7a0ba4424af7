//! The only source of randomness, so that a seed can fix ids and secrets in tests.

pub trait Random: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// A version 4 UUID from this source.
pub fn uuid(random: &dyn Random) -> uuid::Uuid {
    let mut bytes = [0_u8; 16];
    random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
