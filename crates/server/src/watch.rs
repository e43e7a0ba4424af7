//! Is the data directory still ours? A lock or store file that was replaced or deleted under the server would leave the
//! writer on the old file while readers open the new one: the server stops instead, and says why.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use landreeve_estate::store::Location;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// A file as it was when the server began to use it.
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

    /// Why it is not ours any more. What cannot be told now is looked at again later.
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

/// The files that make the data directory ours.
pub struct Watch {
    files: Vec<Ours>,
    /// Why the server has to stop.
    pub reason: Arc<OnceLock<String>>,
}

impl Watch {
    /// Once the directory is locked and the store is open.
    pub fn begin(lock: &Path, location: &Location) -> anyhow::Result<Watch> {
        let mut files = vec![Ours::at(lock)?];
        if let Location::Sqlite(path) = location {
            files.push(Ours::at(path)?);
        }
        Ok(Watch { files, reason: Arc::default() })
    }

    /// Looks until the server drains, or makes it drain.
    pub async fn run(self, drain: CancellationToken) {
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Some(reason) = self.files.iter().find_map(Ours::lost) {
                tracing::error!(reason, "the data directory is not ours any more; stopping");
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
    fn a_file_that_was_replaced_or_deleted_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("other"));
        std::fs::write(&path, "one").unwrap();
        let ours = Ours::at(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(ours.lost(), None, "what is in it may change");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(ours.lost().unwrap().contains("was replaced"));
        std::fs::remove_file(&path).unwrap();
        assert!(ours.lost().unwrap().contains("was deleted"));
    }
}
