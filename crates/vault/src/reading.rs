//! A file of a snapshot, read from any position.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use landreeve_core::vault::{StoredFile, VaultError, VaultErrorKind, VaultResult};
use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{IndexedFullStatus, Repository};

use crate::gate::Gate;

pub struct Stored {
    repository: Arc<Repository<IndexedFullStatus>>,
    gate: Arc<Gate>,
    file: rustic_core::vfs::OpenFile,
    size: u64,
}

impl Stored {
    pub fn open(
        repository: Arc<Repository<IndexedFullStatus>>,
        gate: Arc<Gate>,
        snapshot: &SnapshotFile,
        path: &str,
    ) -> VaultResult<Stored> {
        let missing = || {
            let message = format!("the snapshot has no file {path}");
            VaultError::new(VaultErrorKind::NotFound, message)
        };
        let mut tree = Some(snapshot.tree);
        let mut found = None;
        for name in path.split('/') {
            let nodes =
                repository.get_tree(&tree.ok_or_else(missing)?).map_err(|error| gate.told(&error))?.nodes;
            let node = nodes.into_iter().find(|node| node.name() == OsStr::new(name));
            tree = node.as_ref().and_then(|node| node.subtree);
            found = node;
        }
        let node = found.filter(Node::is_file).ok_or_else(missing)?;
        let file = repository.open_file(&node).map_err(|error| gate.told(&error))?;
        Ok(Stored { repository, gate, file, size: node.meta.size })
    }
}

impl StoredFile for Stored {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, position: u64, length: usize) -> VaultResult<Bytes> {
        if self.gate.is_cancelled() {
            return Err(VaultError::cancelled());
        }
        let Some(left) = self.size.checked_sub(position).filter(|left| *left > 0) else {
            return Ok(Bytes::new());
        };
        let length = usize::try_from(left).map_or(length, |left| left.min(length));
        let position = usize::try_from(position)
            .map_err(|_| VaultError::new(VaultErrorKind::Internal, "the position is too large"))?;
        let read = self.repository.read_file_at(&self.file, position, length);
        let bytes = read.map_err(|error| self.gate.told(&error))?;
        if bytes.len() != length {
            let message = format!("a file ends {} bytes early", length - bytes.len());
            return Err(VaultError::new(VaultErrorKind::Damaged, message));
        }
        Ok(bytes)
    }
}
