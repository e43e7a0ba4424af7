//! A repository in a folder. What was written is on the disk before it is acknowledged: file and folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use landreeve_core::vault::{ForeignLock, VaultError, VaultErrorKind, VaultResult};
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use crate::storage::Storage;

/// The folders of a repository, besides those for packs.
const FOLDERS: [&str; 6] = ["data", "index", "keys", "locks", "snapshots", UNFINISHED];
/// Files are written here and renamed. What a crash left is removed by pruning.
const UNFINISHED: &str = "tmp";

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    next: AtomicU64,
}

impl Folder {
    pub fn new(root: PathBuf) -> Folder {
        Folder { root, next: AtomicU64::new(0) }
    }

    /// Besides what is left of a repository that was not made to its end: folders, and keys that open nothing.
    fn has_other_files(&self) -> io::Result<bool> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let is_ours =
                FOLDERS.iter().any(|name| entry.file_name() == *name) && entry.file_type()?.is_dir();
            if !is_ours {
                return Ok(true);
            }
            if ["data", "index", "snapshots"].iter().any(|name| entry.file_name() == *name)
                && fs::read_dir(entry.path())?.next().is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn path(&self, kind: FileType, id: &Id) -> PathBuf {
        let name = id.to_hex();
        match kind {
            FileType::Config => self.root.join("config"),
            FileType::Pack => self.root.join("data").join(&name[..2]).join(&name[..]),
            _ => self.root.join(kind.dirname()).join(&name[..]),
        }
    }

    fn list(&self, folder: &Path, found: &mut Vec<(Id, u32)>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // Other files are not the repository's.
            let Some(id) = name.to_str().filter(|name| name.len() == 64).and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let about = match entry.metadata() {
                Ok(about) if about.is_file() => about,
                // A file may be deleted meanwhile.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            found.push((id, u32::try_from(about.len()).map_err(io::Error::other)?));
        }
        Ok(())
    }

    fn list_all(&self, kind: FileType) -> io::Result<Vec<(Id, u32)>> {
        let mut found = Vec::new();
        match kind {
            FileType::Config => match fs::metadata(self.root.join("config")) {
                Ok(about) => {
                    found.push((Id::default(), u32::try_from(about.len()).map_err(io::Error::other)?))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            FileType::Pack => {
                for first in 0..=u8::MAX {
                    self.list(&self.root.join("data").join(format!("{first:02x}")), &mut found)?;
                }
            }
            _ => self.list(&self.root.join(kind.dirname()), &mut found)?,
        }
        Ok(found)
    }

    /// `once`: a file that exists is not replaced.
    fn write(&self, path: &Path, content: &BytesList, once: bool) -> io::Result<()> {
        let above = path.parent().unwrap_or(&self.root);
        make_folder(above)?;
        let unfinished = self.root.join(UNFINISHED);
        make_folder(&unfinished)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = unfinished.join(format!("{}-{number}", std::process::id()));
        let written = write_new(&temporary, content).and_then(|()| match once {
            true => fs::hard_link(&temporary, path),
            false => fs::rename(&temporary, path),
        });
        if written.is_err() || once {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(above)?.sync_all()
    }

    fn fault(&self, path: &Path, error: &io::Error) -> Box<RusticError> {
        let message = unavailable(path, error).message;
        RusticError::new(ErrorKind::Backend, message)
    }
}

fn write_new(path: &Path, content: &BytesList) -> io::Result<()> {
    // A process with the number of this one may have crashed here.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for part in content.slice() {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Makes a folder and those above it; they are on the disk afterwards.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for above in path.ancestors().skip(1) {
        if let Err(error) = File::open(above).and_then(|folder| folder.sync_all()) {
            // Those further up may not be ours to read.
            if error.kind() == io::ErrorKind::PermissionDenied {
                break;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn unavailable(path: &Path, error: &io::Error) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, format!("{}: {error}", path.display()))
}

impl Storage for Folder {
    fn check_empty(&self) -> VaultResult<()> {
        let exists = |why: &str| {
            let message = format!("{} {why}", self.root.display());
            Err(VaultError::new(VaultErrorKind::Exists, message))
        };
        if self.root.join("config").exists() {
            return exists("already has a repository");
        }
        match self.has_other_files() {
            Ok(false) => Ok(()),
            Ok(true) => exists("is not empty"),
            Err(error) => Err(unavailable(&self.root, &error)),
        }
    }

    fn lock(&self) -> VaultResult<Option<ForeignLock>> {
        let folder = self.root.join("locks");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable(&folder, &error)),
        };
        let mut newest: Option<ForeignLock> = None;
        for entry in entries {
            let entry = entry.map_err(|error| unavailable(&folder, &error))?;
            // It may be removed meanwhile.
            let Ok(about) = entry.metadata() else { continue };
            let Ok(since) = Timestamp::new(about.mtime(), 0).map(Some) else { continue };
            if newest.as_ref().is_none_or(|lock| lock.since < since) {
                newest = Some(ForeignLock { name: entry.file_name().to_string_lossy().into_owned(), since });
            }
        }
        Ok(newest)
    }

    fn remove_unfinished(&self, before: Timestamp) -> VaultResult<()> {
        let folder = self.root.join(UNFINISHED);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unavailable(&folder, &error)),
        };
        for entry in entries.flatten() {
            let is_old = entry.metadata().is_ok_and(|about| about.mtime() < before.as_second());
            if is_old {
                // Another process may do the same.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

impl ReadBackend for Folder {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.list_all(kind).map_err(|error| self.fault(&self.root.join(kind.dirname()), &error))
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = self.path(kind, id);
        fs::read(&path).map(Bytes::from).map_err(|error| self.fault(&path, &error))
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let path = self.path(kind, id);
        let read = || {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            File::open(&path)?.read_exact_at(&mut bytes, u64::from(offset))?;
            Ok(Bytes::from(bytes))
        };
        read().map_err(|error| self.fault(&path, &error))
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.path(kind, id).display().to_string()
    }
}

impl WriteBackend for Folder {
    fn create(&self) -> RusticResult<()> {
        for folder in FOLDERS {
            let path = self.root.join(folder);
            make_folder(&path).map_err(|error| self.fault(&path, &error))?;
        }
        Ok(())
    }

    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let path = self.path(kind, id);
        // Any other file's name is the hash of its content.
        self.write(&path, &content, kind == FileType::Config).map_err(|error| self.fault(&path, &error))
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let path = self.path(kind, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fault(&path, &error)),
            _ => Ok(()),
        }
    }
}
