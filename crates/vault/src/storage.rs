//! What a place must offer besides what the library asks of it.

use jiff::Timestamp;
use landreeve_core::vault::{ForeignLock, VaultResult};
use rustic_core::WriteBackend;

/// A storage. What `write_bytes` acknowledged is there after a crash of either machine.
pub trait Storage: WriteBackend {
    /// A new repository neither joins one nor shares its place with other files. What is left of one that was not made to its
    /// end does not count: keys that open nothing.
    fn check_empty(&self) -> VaultResult<()>;

    /// The newest lock of another program.
    fn lock(&self) -> VaultResult<Option<ForeignLock>>;

    /// Removes files that were not finished by a time, if such a storage has any.
    fn remove_unfinished(&self, before: Timestamp) -> VaultResult<()>;
}
