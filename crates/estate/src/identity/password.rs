//! Passwords: argon2id, at most one verification per core at a time, a bounded wait, and the rules for new passwords.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use landreeve_core::{Error, Fault, Random, Result, Secret};
use tokio::sync::Semaphore;

const WAIT: Duration = Duration::from_secs(5);
pub const MIN_LENGTH: usize = 8;
pub const MAX_LENGTH: usize = 256;

/// Limits concurrency: hashing is slow on purpose, and unauthenticated requests can trigger it.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new(cores: usize) -> Gate {
        Gate(Arc::new(Semaphore::new(cores.max(1))))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || Error::rate_limited("too many sign-ins are in progress; try again in a moment", WAIT);
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.0).acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }

    pub async fn verify(&self, password: Secret, hash: String) -> Result<bool> {
        self.run(move || {
            PasswordHash::new(&hash).is_ok_and(|hash| {
                Argon2::default().verify_password(password.reveal().as_bytes(), &hash).is_ok()
            })
        })
        .await
    }

    pub async fn hash(&self, password: Secret, random: &dyn Random) -> Result<String> {
        let mut salt = [0_u8; 16];
        random.fill(&mut salt);
        self.run(move || {
            let salt = SaltString::encode_b64(&salt).map_err(Error::internal)?;
            let hash = Argon2::default().hash_password(password.reveal().as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(Error::internal)
        })
        .await?
    }
}

/// A hash that matches no password, to spend the same time on unknown names as on known ones.
pub const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm90aGluZ25vdGhpbmc$nW1hVdJ0S1mQ8bPqyJ0zE0G0d5Xn3k1pT5b0H1m8b2c";

pub fn check(password: &Secret) -> Result<(), Fault> {
    let length = password.reveal().chars().count();
    if (MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        Ok(())
    } else {
        Err(Fault::new("password", "length", format!("must have {MIN_LENGTH} to {MAX_LENGTH} characters")))
    }
}
