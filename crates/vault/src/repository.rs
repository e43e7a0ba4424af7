//! An open repository.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::vault::{
    CheckDepth, Finding, ForeignLock, NewFiles, Pruned, Repository, Saved, Snapshot, SnapshotHead,
    SnapshotId, StoredFile, VaultError, VaultErrorKind, VaultResult,
};
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    BackupOptions, CheckOptions, Credentials, IndexedFullStatus, OpenStatus, ParentOptions, PruneOptions,
    RusticResult, StringList,
};

use crate::place::Place;
use crate::reading::Stored;
use crate::source::{Progress, Source};

/// How long an unfinished file may belong to a process that still works.
const UNFINISHED_HOURS: i64 = 24;

type Indexed = rustic_core::Repository<IndexedFullStatus>;

pub struct Opened {
    inner: rustic_core::Repository<OpenStatus>,
    place: Place,
    id: String,
    /// With its index, which is read once for all files, and again after a change.
    indexed: Mutex<Option<Arc<Indexed>>>,
}

impl Opened {
    pub fn new(inner: rustic_core::Repository<OpenStatus>, place: Place) -> Opened {
        let id = inner.config().id.to_hex().as_str().to_owned();
        Opened { inner, place, id, indexed: Mutex::new(None) }
    }

    fn told<T>(&self, done: RusticResult<T>) -> VaultResult<T> {
        self.place.told(done)
    }

    /// The library's value becomes another one with its index, so each needs its own. The key is known: deriving it from
    /// the password takes half a second.
    fn again(&self) -> VaultResult<rustic_core::Repository<OpenStatus>> {
        let key = Credentials::Masterkey(self.inner.key());
        self.told(self.place.raw().and_then(|raw| raw.open(&key)))
    }

    fn indexed(&self) -> VaultResult<Arc<Indexed>> {
        if let Some(indexed) = &*self.known() {
            return Ok(Arc::clone(indexed));
        }
        // Another thread may be faster.
        let indexed = Arc::new(self.told(self.again()?.to_indexed())?);
        *self.known() = Some(Arc::clone(&indexed));
        Ok(indexed)
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Indexed>>> {
        self.indexed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids that the repository has, of those that are asked for.
    fn existing(&self, ids: &[SnapshotId]) -> VaultResult<Vec<rustic_core::repofile::SnapshotId>> {
        let mut existing = Vec::new();
        for id in self.told(self.inner.list::<rustic_core::repofile::SnapshotId>())? {
            if ids.iter().any(|asked| asked.as_str() == id.to_hex().as_str()) {
                existing.push(id);
            }
        }
        Ok(existing)
    }
}

fn snapshot_file(head: &SnapshotHead) -> VaultResult<SnapshotFile> {
    let internal = |message: String| VaultError::new(VaultErrorKind::Internal, message);
    let mut tags = StringList::default();
    for tag in &head.tags {
        if tag.contains(',') {
            return Err(internal(format!("the tag {tag:?} contains a comma")));
        }
        tags.add(tag.clone());
    }
    Ok(SnapshotFile {
        time: head.time.to_zoned(TimeZone::UTC),
        program_version: format!("landreeve {}", env!("CARGO_PKG_VERSION")),
        hostname: head.host.clone(),
        label: head.label.clone(),
        tags,
        ..SnapshotFile::default()
    })
}

fn snapshot_of(file: &SnapshotFile) -> Option<Snapshot> {
    let id = SnapshotId::parse(file.id.to_hex().as_str())?;
    let head = SnapshotHead {
        time: file.time.timestamp(),
        host: file.hostname.clone(),
        label: file.label.clone(),
        tags: file.tags.iter().cloned().collect(),
    };
    Some(Snapshot { id, head })
}

impl Repository for Opened {
    fn id(&self) -> &str {
        &self.id
    }

    fn lock(&self) -> VaultResult<Option<ForeignLock>> {
        self.place.gate.storage.lock()
    }

    fn snapshots(&self) -> VaultResult<Vec<Snapshot>> {
        self.place.gate.clear();
        let files = self.told(self.inner.get_all_snapshots())?;
        let mut found: Vec<Snapshot> = files.iter().filter_map(snapshot_of).collect();
        found.sort_by(|a, b| (a.head.time, &a.id).cmp(&(b.head.time, &b.id)));
        Ok(found)
    }

    fn save(&self, head: &SnapshotHead, files: NewFiles) -> VaultResult<Saved> {
        let progress = Arc::new(Progress::default());
        self.place.gate.begin(Arc::clone(&progress));
        let source = Source::new(files, head.time, Arc::clone(&self.place.gate), Arc::clone(&progress));
        // The index is read again: it must know what others have deleted since.
        let indexed = self.told(self.again()?.to_indexed_ids())?;
        // With a parent, a file whose attributes are equal would keep the parent's content.
        let options =
            BackupOptions::default().no_scan(true).parent_opts(ParentOptions::default().force(true));
        let saved = indexed.archive(&options, &source, snapshot_file(head)?, &[PathBuf::from("/")]);
        *self.known() = None;
        let saved = self.told(saved)?;
        let Some(snapshot) = snapshot_of(&saved) else {
            return Err(VaultError::new(VaultErrorKind::Internal, "the snapshot has no id"));
        };
        // The gate has seen every file read. If the library left one out all the same, the snapshot must not stay.
        if saved.summary.is_none_or(|summary| summary.total_files_processed != progress.files()) {
            self.told(self.inner.delete_snapshots(&[saved.id]))?;
            return Err(VaultError::new(VaultErrorKind::Internal, "a file was left out of the snapshot"));
        }
        Ok(Saved {
            id: snapshot.id,
            files: progress.files(),
            bytes_read: progress.bytes(),
            bytes_added: self.place.gate.written(),
        })
    }

    fn file(&self, snapshot: &SnapshotId, path: &str) -> VaultResult<Box<dyn StoredFile>> {
        self.place.gate.clear();
        let indexed = self.indexed()?;
        let Some(id) = self.existing(std::slice::from_ref(snapshot))?.pop() else {
            let message = format!("the repository has no snapshot {snapshot}");
            return Err(VaultError::new(VaultErrorKind::NotFound, message));
        };
        let file = self.told(indexed.get_file::<SnapshotFile>(&id))?;
        Stored::open(indexed, Arc::clone(&self.place.gate), &file, path).map(|file| Box::new(file) as _)
    }

    fn check(&self, depth: CheckDepth) -> VaultResult<Vec<Finding>> {
        self.place.gate.clear();
        let options = CheckOptions::default().read_data(depth == CheckDepth::Data);
        let results = self.told(self.inner.check(options))?;
        // What it could not read because of that is no damage.
        if self.place.gate.is_cancelled() {
            return Err(VaultError::cancelled());
        }
        let findings = results.0.into_iter().map(|(level, error)| Finding {
            // The library does not export its levels.
            is_error: format!("{level:?}") == "Error",
            message: error.to_string(),
        });
        Ok(findings.collect())
    }

    fn forget(&self, snapshots: &[SnapshotId]) -> VaultResult<()> {
        self.place.gate.clear();
        self.place.gate.check_delete()?;
        let existing = self.existing(snapshots)?;
        self.told(self.inner.delete_snapshots(&existing))
    }

    fn prune(&self, now: Timestamp) -> VaultResult<Pruned> {
        self.place.gate.clear();
        self.place.gate.check_delete()?;
        let options = PruneOptions::default();
        let plan = self.told(self.inner.prune_plan(&options))?;
        let (packs, sizes) = (plan.stats.size_to_delete, plan.stats.size_sum());
        let pruned = Pruned {
            bytes_deleted: packs.remove + plan.stats.size_unref,
            bytes_marked: sizes.remove + sizes.repack,
            bytes_repacked: sizes.repack.saturating_sub(sizes.repackrm),
        };
        let done = self.inner.prune(&options, plan);
        *self.known() = None;
        self.told(done)?;
        let before = now.checked_sub(jiff::SignedDuration::from_hours(UNFINISHED_HOURS)).unwrap_or(now);
        self.place.gate.storage.remove_unfinished(before)?;
        Ok(pruned)
    }
}
