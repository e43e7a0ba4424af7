//! A file as it was when we started to use it.
//!
//! SQLite finds the files beside a database by name. If a database is replaced while a process has it open, the next
//! connection of that process opens the new file, but the shared memory of the old one, and truncates it; connections
//! that have it mapped then end the process with SIGBUS. So a connection is opened only while the file is the same.

use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use landreeve_core::{Error, Result};

#[derive(Debug, Clone)]
pub struct SameFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SameFile {
    pub fn at(path: &Path) -> std::io::Result<SameFile> {
        let found = std::fs::metadata(path).map_err(|error| {
            IoError::new(error.kind(), format!("{} cannot be read: {error}", path.display()))
        })?;
        Ok(SameFile { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Why it is no longer the same file. `None` also if that cannot be determined now.
    pub fn lost(&self) -> Option<String> {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some(format!("{} was replaced while the server was using it", self.path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Some(format!("{} was deleted while the server was using it", self.path.display()))
            }
            Err(_) => None,
        }
    }

    /// To be called before a connection is opened.
    pub(super) fn check(&self) -> Result<()> {
        self.lost().map_or(Ok(()), |reason| Err(Error::unavailable("store", reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::SameFile;

    #[test]
    fn replaced_or_deleted_files_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("other"));
        assert!(SameFile::at(&path).unwrap_err().to_string().contains("lock cannot be read"));
        std::fs::write(&path, "one").unwrap();
        let file = SameFile::at(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.lost(), None, "its content can change");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(file.lost().unwrap().contains("was replaced"));
        assert_eq!(file.check().unwrap_err().kind, landreeve_core::ErrorKind::Unavailable);
        std::fs::remove_file(&path).unwrap();
        assert!(file.lost().unwrap().contains("was deleted"));
    }
}
