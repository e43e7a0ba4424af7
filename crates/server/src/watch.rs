//! Checks that the data directory is still ours. If the lock or store file were replaced or deleted, the writer would
//! keep using the old file while readers open the new one. So the server stops and says why.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use landreeve_estate::store::{Location, SameFile};
use tokio_util::sync::CancellationToken;

/// How often the files are checked.
const EVERY: Duration = Duration::from_secs(2);

/// The files that must stay ours.
pub struct Watch {
    files: Vec<SameFile>,
    /// Why the server has to stop.
    pub reason: Arc<OnceLock<String>>,
}

impl Watch {
    /// Call it once the directory is locked and the store is open.
    pub fn begin(lock: &Path, location: &Location) -> anyhow::Result<Watch> {
        let mut files = vec![SameFile::at(lock)?];
        if let Location::Sqlite(path) = location {
            files.push(SameFile::at(path)?);
            // The log stays the same file while the store is open.
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            if Path::new(&log).exists() {
                files.push(SameFile::at(Path::new(&log))?);
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
            if let Some(reason) = self.files.iter().find_map(SameFile::lost) {
                tracing::error!(reason, "a file in the data directory was replaced or deleted; stopping");
                let _ = self.reason.set(reason);
                drain.cancel();
                return;
            }
        }
    }
}
