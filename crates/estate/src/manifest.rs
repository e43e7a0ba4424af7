//! The content of a backup: every file with its length and checksum, so that a backup can be verified without an
//! estate, and a restore against it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use futures_util::TryStreamExt as _;
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::blobs::Blobs;

/// The name of the manifest in the backup's folder.
pub const MANIFEST: &str = "manifest.json";
/// Read buffer size.
const PIECE: usize = 256 * 1_024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredManifest {
    version: u32,
    files: Vec<StoredFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredFile {
    /// Relative to the folder, with `/`.
    path: String,
    bytes: u64,
    sha256: String,
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable("backup", format!("cannot read or write {}: {error}", path.display()))
}

/// The length and the checksum of a file.
fn sum(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((bytes, hex::encode(hasher.finalize()))),
            read => {
                hasher.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Every file below a folder, flushed to the disk.
fn walk(root: &Path, folder: &Path, files: &mut Vec<StoredFile>) -> Result<()> {
    let read = std::fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
    for entry in read {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
            continue;
        }
        let below = path.strip_prefix(root).map_err(Error::internal)?.to_string_lossy().into_owned();
        if below != MANIFEST {
            let flushed = File::open(&path).and_then(|file| file.sync_all());
            let summed = flushed.and_then(|()| sum(&path));
            let (bytes, sha256) = summed.map_err(|error| failed(&path, &error))?;
            files.push(StoredFile { path: below, bytes, sha256 });
        }
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

/// Writes the manifest of a complete backup. Returns the number of files.
pub async fn write(folder: &Path) -> Result<usize> {
    let folder = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut files = Vec::new();
        walk(&folder, &folder, &mut files)?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let count = files.len();
        let text = serde_json::to_vec(&StoredManifest { version: 1, files }).map_err(Error::internal)?;
        let path = folder.join(MANIFEST);
        let made =
            File::create_new(&path).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        made.and_then(|()| File::open(&folder)?.sync_all()).map_err(|error| failed(&path, &error))?;
        Ok(count)
    });
    written.await.map_err(Error::internal)?
}

fn read(folder: &Path) -> Result<StoredManifest> {
    let path = folder.join(MANIFEST);
    let text = std::fs::read(&path).map_err(|error| {
        let message = format!(
            "{} has no manifest ({error}): it is not a backup, or it is incomplete",
            folder.display()
        );
        Error::conflict("no_manifest", message)
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::conflict("damaged", format!("the manifest {} is damaged: {error}", path.display()))
    })
}

/// The problems of a folder that should contain the files of a backup, all or those below certain names. Empty if every
/// file is there, byte for byte.
pub async fn check(
    backup: &Path,
    folder: &Path,
    below: &'static [&'static str],
) -> Result<(usize, Vec<String>)> {
    let (backup, folder) = (backup.to_owned(), folder.to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        let mut files = read(&backup)?.files;
        files.retain(|file| below.is_empty() || below.iter().any(|name| is_below(&file.path, name)));
        let problems = files.iter().filter_map(|file| {
            let path = folder.join(&file.path);
            match sum(&path) {
                Err(error) => Some(format!("cannot read {}: {error}", path.display())),
                Ok(found) => differs(&path.display().to_string(), file, found),
            }
        });
        Ok((files.len(), problems.collect()))
    });
    checked.await.map_err(Error::internal)?
}

fn is_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn differs(name: &str, file: &StoredFile, (bytes, sha256): (u64, String)) -> Option<String> {
    if bytes != file.bytes {
        return Some(format!("{name} has {bytes} bytes and should have {}", file.bytes));
    }
    (sha256 != file.sha256).then(|| format!("{name} has a different checksum than in the backup"))
}

/// The same for blobs, wherever they are.
pub async fn check_blobs(backup: &Path, folder: &str, blobs: &Blobs) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in read(backup)?.files {
        let Some(name) = file.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        match sum_blob(blobs, name).await {
            Err(error) => problems.push(format!("cannot read the blob {name}: {error}")),
            Ok(found) => problems.extend(differs(&format!("the blob {name}"), &file, found)),
        }
    }
    Ok(problems)
}

async fn sum_blob(blobs: &Blobs, name: &str) -> Result<(u64, String)> {
    let (_, mut stream) = blobs.read(name).await?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let failed = |error| Error::unavailable("blobs", format!("the blob store is unavailable: {error}"));
    while let Some(piece) = stream.try_next().await.map_err(failed)? {
        hasher.update(&piece);
        bytes += piece.len() as u64;
    }
    Ok((bytes, hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1, as first written. Never change it.
    const MANIFEST_V1: &str =
        r#"{"version":1,"files":[{"path":"blobs/results/a.arrows","bytes":3,"sha256":"ba7816bf"}]}"#;

    #[test]
    fn old_manifests_can_still_be_read() {
        let stored: StoredManifest = serde_json::from_str(MANIFEST_V1).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), MANIFEST_V1);
    }

    #[tokio::test]
    async fn every_kind_of_damage_is_found() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 4] = [
            ("different checksum", |folder| std::fs::write(folder.join("a/one"), "abd").unwrap()),
            ("has 2 bytes and should have 3", |folder| std::fs::write(folder.join("a/one"), "ab").unwrap()),
            ("cannot read", |folder| std::fs::remove_file(folder.join("a/one")).unwrap()),
            ("has 0 bytes", |folder| std::fs::write(folder.join("two"), "").unwrap()),
        ];
        for (told, damage) in cases {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("a")).unwrap();
            std::fs::write(folder.path().join("a/one"), "abc").unwrap();
            std::fs::write(folder.path().join("two"), "x").unwrap();
            assert_eq!(write(folder.path()).await.unwrap(), 2);
            assert_eq!(check(folder.path(), folder.path(), &[]).await.unwrap(), (2, Vec::new()));
            damage(folder.path());
            let (_, problems) = check(folder.path(), folder.path(), &[]).await.unwrap();
            assert!(problems.len() == 1 && problems[0].contains(told), "{told}: {problems:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path(), folder.path(), &[]).await.unwrap_err().code, "no_manifest");
    }
}
