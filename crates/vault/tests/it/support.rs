//! What these tests share.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use landreeve_core::Secret;
use landreeve_core::vault::{
    Address, CancellationToken, NewFile, NewFiles, Repository, RepositorySpec, SnapshotHead, Vault,
    VaultResult,
};
use landreeve_vault::Repositories;
use tempfile::TempDir;

pub const PASSWORD: &str = "correct horse battery staple";

/// A repository in a folder of its own, which is deleted with it.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// With an empty repository in it.
    pub fn new() -> (Place, Box<dyn Repository>) {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let repository = Repositories.create(&place.spec()).unwrap();
        (place, repository)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    pub fn spec(&self) -> RepositorySpec {
        RepositorySpec {
            address: Address::Folder(self.path()),
            password: Secret::new(PASSWORD),
            append_only: false,
        }
    }

    pub fn open(&self, stop: &CancellationToken) -> Box<dyn Repository> {
        Repositories.open(&self.spec(), stop.clone()).unwrap()
    }

    /// Files in one of its folders, and in those below it.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        below(&self.path().join(folder), &mut found);
        found.sort();
        found
    }

    /// Runs restic on it; `None` if it fails.
    pub fn restic(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("restic")
            .args(["--no-cache", "-r"])
            .arg(self.path())
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .output()
            .expect("restic, which `cargo xtask test` installs");
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// restic reads every byte and finds nothing wrong.
    pub fn assert_intact(&self) {
        let text = self.restic(&["check", "--read-data"]).unwrap();
        assert!(text.contains("no errors were found"), "{text}");
    }
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { below(&path, found) } else { found.push(path) }
    }
}

pub fn head() -> SnapshotHead {
    SnapshotHead {
        time: "2026-01-15T12:00:00Z".parse().unwrap(),
        host: "landreeve".to_owned(),
        label: "shop".to_owned(),
        tags: vec!["asset=7".to_owned(), "estate".to_owned()],
    }
}

pub fn file(path: &str, content: impl Into<Vec<u8>>) -> VaultResult<NewFile> {
    let content = content.into();
    let size = content.len() as u64;
    Ok(NewFile { path: path.to_owned(), size, content: Box::new(Cursor::new(content)) })
}

pub fn files(files: Vec<VaultResult<NewFile>>) -> NewFiles {
    Box::new(files.into_iter())
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Gives its bytes and then an error.
pub struct Broken(pub Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the database is gone")),
            count => Ok(count),
        }
    }
}
