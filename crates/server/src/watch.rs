//! Checks that the data directory is still ours. If the lock or store file were replaced or deleted, the writer would
//! keep using the old file while readers open the new one. So the server stops and says why.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use landreeve_estate::store::Location;
use tokio_util::sync::CancellationToken;

/// How often the files are checked.
const EVERY: Duration = Duration::from_secs(2);

/// A file as it was when the server started to use it.
#[derive(Debug)]
struct Ours {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Ours {
    fn at(path: &Path) -> anyhow::Result<Ours> {
        let found = std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Ours { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Why the file is no longer ours. If that cannot be determined now, the next check will.
    fn lost(&self) -> Option<String> {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some(format!("{} was replaced while the server was using it", self.path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("{} was deleted while the server was using it", self.path.display()))
            }
            Err(_) => None,
        }
    }
}

/// The files that must stay ours.
pub struct Watch {
    files: Vec<Ours>,
    /// Why the server has to stop.
    pub reason: Arc<OnceLock<String>>,
}

impl Watch {
    /// Call it once the directory is locked and the store is open.
    pub fn begin(lock: &Path, location: &Location) -> anyhow::Result<Watch> {
        let mut files = vec![Ours::at(lock)?];
        if let Location::Sqlite(path) = location {
            files.push(Ours::at(path)?);
            // The log stays the same file while the store is open.
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            if Path::new(&log).exists() {
                files.push(Ours::at(Path::new(&log))?);
            }
        }
        Ok(Watch { files, reason: Arc::default() })
    }

    /// Checks until the server drains. Drains it if a file is lost.
    pub async fn run(self, drain: CancellationToken) {
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Some(reason) = self.files.iter().find_map(Ours::lost) {
                tracing::error!(reason, "a file in the data directory was replaced or deleted; stopping");
                let _ = self.reason.set(reason);
                drain.cancel();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ours;

    #[test]
    fn replaced_or_deleted_files_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("other"));
        std::fs::write(&path, "one").unwrap();
        let ours = Ours::at(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(ours.lost(), None, "its content can change");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(ours.lost().unwrap().contains("was replaced"));
        std::fs::remove_file(&path).unwrap();
        assert!(ours.lost().unwrap().contains("was deleted"));
    }
}
