//! A place that has, or will have, a repository, as the library sees it.

use std::sync::Arc;

use landreeve_core::vault::{
    Address, CancellationToken, RepositorySpec, VaultError, VaultErrorKind, VaultResult,
};
use rustic_core::{FileType, Repository, RepositoryBackends, RepositoryOptions, RusticResult, WriteBackend};

use crate::Repositories;
use crate::folder::Folder;
use crate::gate::{Gate, Gated};
use crate::rest::Rest;
use crate::s3::{Bucket, S3};
use crate::storage::Storage;

pub struct Place {
    pub gate: Arc<Gate>,
    gated: Arc<dyn WriteBackend>,
}

impl Place {
    pub fn new(spec: &RepositorySpec, stop: CancellationToken, with: &Repositories) -> VaultResult<Place> {
        let remote = || {
            with.remote.clone().ok_or_else(|| {
                let message = format!("{} is on another machine, which cannot be reached here", spec.address);
                VaultError::new(VaultErrorKind::Unavailable, message)
            })
        };
        let login = spec.login.as_ref();
        let storage: Arc<dyn Storage> = match &spec.address {
            Address::Folder(path) => Arc::new(Folder::new(path.clone())),
            Address::Rest(url) => Arc::new(Rest::new(url.clone(), login, remote()?, stop.clone())),
            Address::S3 { bucket, prefix, region, endpoint } => {
                let bucket = Bucket { name: bucket, prefix, region, endpoint: endpoint.as_deref() };
                Arc::new(S3::new(spec.address.to_string(), &bucket, login, remote()?, stop.clone())?)
            }
        };
        let gate = Arc::new(Gate::new(Arc::clone(&storage), stop, spec.append_only));
        Ok(Place { gated: Arc::new(Gated { inner: storage, gate: Arc::clone(&gate) }), gate })
    }

    /// The library's value for it, neither opened nor made.
    pub fn raw(&self) -> RusticResult<Repository<()>> {
        let options = RepositoryOptions::default().no_cache(true);
        Repository::new(&options, &RepositoryBackends::new(Arc::clone(&self.gated), None))
    }

    /// Removes the keys of a repository that was not made to its end. One with the same password would be tried first, and opens
    /// nothing.
    pub fn remove_keys(&self) -> VaultResult<()> {
        let storage = &self.gate.storage;
        for (id, _) in self.told(storage.list_with_size(FileType::Key))? {
            self.told(storage.remove(FileType::Key, &id, false))?;
        }
        Ok(())
    }

    pub fn told<T>(&self, done: RusticResult<T>) -> VaultResult<T> {
        done.map_err(|error| self.gate.told(&error))
    }
}
