//! What these tests share: one table of cases for every storage.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use landreeve_core::Secret;
use landreeve_core::vault::{
    Address, CancellationToken, NewFile, NewFiles, Repository, RepositorySpec, SnapshotHead, StorageLogin,
    Vault, VaultResult,
};
use landreeve_testkit::{BUCKET, RestStorage, S3Storage};
use landreeve_vault::Repositories;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const PASSWORD: &str = "correct horse battery staple";

/// Where the repository of a test is. It is deleted with this.
enum Storage {
    Folder(TempDir),
    Rest(RestStorage),
    S3(S3Storage),
}

/// What the objects of a repository in a bucket begin with.
const PREFIX: &str = "some/where";

pub struct Place {
    storage: Storage,
    pub repositories: Repositories,
    runtime: Runtime,
}

impl Place {
    pub fn folder() -> Place {
        Place::at(Storage::Folder(tempfile::tempdir().unwrap()))
    }

    pub fn rest(storage: RestStorage) -> Place {
        Place::at(Storage::Rest(storage))
    }

    /// `None` where the test is skipped.
    pub fn s3() -> Option<Place> {
        S3Storage::start().map(|storage| Place::at(Storage::S3(storage)))
    }

    /// In a bucket only.
    pub fn server(&self) -> &S3Storage {
        match &self.storage {
            Storage::S3(server) => server,
            Storage::Folder(_) | Storage::Rest(_) => panic!("not in a bucket"),
        }
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn at(storage: Storage) -> Place {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let repositories = {
            let _inside = runtime.enter();
            (*landreeve_testkit::vault()).clone()
        };
        Place { storage, repositories, runtime }
    }

    pub fn spec(&self) -> RepositorySpec {
        let mut login = None;
        let address = match &self.storage {
            Storage::Folder(folder) => Address::Folder(folder.path().join("repository")),
            Storage::Rest(storage) => Address::parse(&format!("rest:http://{}/", storage.address())).unwrap(),
            Storage::S3(storage) => {
                login = Some(StorageLogin { user: "AKIATEST".into(), password: Secret::new("se/c+ret") });
                let endpoint = format!("http://{}", storage.address());
                Address::parse(&format!("s3://{BUCKET}/{PREFIX}?endpoint={endpoint}")).unwrap()
            }
        };
        RepositorySpec { address, login, password: Secret::new(PASSWORD), append_only: false }
    }

    pub fn create(&self) -> Box<dyn Repository> {
        self.repositories.create(&self.spec()).unwrap()
    }

    pub fn open(&self, stop: &CancellationToken) -> Box<dyn Repository> {
        self.repositories.open(&self.spec(), stop.clone()).unwrap()
    }

    /// In a folder only.
    pub fn path(&self) -> PathBuf {
        match self.spec().address {
            Address::Folder(path) => path,
            other => panic!("{other} is not a folder"),
        }
    }

    /// Names and sizes of the files in one of its folders, and in those below it.
    pub fn files(&self, folder: &str) -> Vec<(String, usize)> {
        match &self.storage {
            Storage::Folder(_) => {
                let mut found = Vec::new();
                below(&self.path().join(folder), &mut found);
                found.sort();
                let size = |path: &PathBuf| usize::try_from(path.metadata().unwrap().len()).unwrap();
                found.iter().map(|path| (path.to_str().unwrap().to_owned(), size(path))).collect()
            }
            Storage::Rest(storage) => {
                let files = storage.files();
                let inside = files.iter().filter(|(name, _)| name.starts_with(&format!("/{folder}")));
                inside.map(|(name, content)| (name.clone(), content.len())).collect()
            }
            Storage::S3(storage) => storage.objects(&format!("{PREFIX}/{folder}")),
        }
    }

    /// Changes one of these files. `None` deletes it.
    pub fn change(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        match &self.storage {
            Storage::Folder(_) => match change(std::fs::read(name).unwrap()) {
                Some(bytes) => std::fs::write(name, bytes).unwrap(),
                None => std::fs::remove_file(name).unwrap(),
            },
            Storage::Rest(storage) => {
                let mut files = storage.files();
                let bytes = files.remove(name).unwrap();
                if let Some(bytes) = change(bytes.to_vec()) {
                    files.insert(name.to_owned(), bytes.into());
                }
            }
            Storage::S3(storage) => match change(storage.read(name)) {
                Some(bytes) => storage.write(name, &bytes),
                None => storage.delete(name),
            },
        }
    }

    pub fn restic_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("restic");
        let RepositorySpec { address, login, .. } = self.spec();
        let place = match &self.storage {
            Storage::S3(storage) => format!("s3:http://{}/{BUCKET}/{PREFIX}", storage.address()),
            Storage::Folder(_) | Storage::Rest(_) => address.to_string(),
        };
        command.args(["--no-cache", "-r", &place]).args(arguments).env("RESTIC_PASSWORD", PASSWORD);
        if let Some(StorageLogin { user, password }) = login {
            command.env("AWS_ACCESS_KEY_ID", user).env("AWS_SECRET_ACCESS_KEY", password.reveal());
        }
        command
    }

    /// Runs restic on it. The error is what it says.
    pub fn restic(&self, arguments: &[&str]) -> Result<String, String> {
        let output =
            self.restic_command(arguments).output().expect("restic, which `cargo xtask test` installs");
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
    if folder.is_file() {
        found.push(folder.to_owned());
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { below(&path, found) } else { found.push(path) }
    }
}

/// Runs each of these functions on every storage.
macro_rules! on_every_storage {
    ($($name:ident)*) => {
        mod folder {
            $(#[test]
            fn $name() {
                super::$name(&super::Place::folder());
            })*
        }
        mod rest {
            $(#[test]
            fn $name() {
                super::$name(&super::Place::rest(landreeve_testkit::RestStorage::start()));
            })*
        }
        mod s3 {
            $(#[test]
            fn $name() {
                if let Some(place) = super::Place::s3() {
                    super::$name(&place);
                }
            })*
        }
    };
}

pub(crate) use on_every_storage;

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
