//! A place that has, or will have, a repository, as the library sees it.

use std::sync::Arc;

use landreeve_core::vault::{Address, CancellationToken, RepositorySpec, VaultResult};
use rustic_core::{Repository, RepositoryBackends, RepositoryOptions, RusticResult, WriteBackend};

use crate::folder::Folder;
use crate::gate::{Gate, Gated};

pub struct Place {
    pub gate: Arc<Gate>,
    storage: Arc<dyn WriteBackend>,
}

impl Place {
    pub fn new(spec: &RepositorySpec, stop: CancellationToken) -> Place {
        let Address::Folder(path) = &spec.address;
        let folder = Arc::new(Folder::new(path.clone()));
        let gate = Arc::new(Gate::new(Arc::clone(&folder), stop, spec.append_only));
        Place { storage: Arc::new(Gated { inner: folder, gate: Arc::clone(&gate) }), gate }
    }

    /// The library's value for it, neither opened nor made.
    pub fn raw(&self) -> RusticResult<Repository<()>> {
        let options = RepositoryOptions::default().no_cache(true);
        Repository::new(&options, &RepositoryBackends::new(Arc::clone(&self.storage), None))
    }

    pub fn told<T>(&self, done: RusticResult<T>) -> VaultResult<T> {
        done.map_err(|error| self.gate.told(&error))
    }
}
