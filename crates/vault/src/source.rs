//! The files to save, as the library reads them. It takes what it gets: so the order of names and the sizes are checked here,
//! and the gate learns when everything was read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use landreeve_core::vault::{NewFile, NewFiles, VaultError, VaultErrorKind};
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};

use crate::gate::Gate;

/// Maximum length of a file's name, which a restored snapshot needs too.
const MAX_NAME: usize = 255;

pub struct Source {
    files: Mutex<Option<NewFiles>>,
    time: Timestamp,
    gate: Arc<Gate>,
    progress: Arc<Progress>,
}

/// How far the library has read a source.
#[derive(Debug, Default)]
pub struct Progress {
    /// There are no more files.
    ended: AtomicBool,
    given: AtomicU64,
    read: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    pub fn files(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Every file was read to its end.
    pub fn is_complete(&self) -> bool {
        self.ended.load(Ordering::SeqCst) && self.given.load(Ordering::SeqCst) == self.files()
    }
}

impl Source {
    pub fn new(files: NewFiles, time: Timestamp, gate: Arc<Gate>, progress: Arc<Progress>) -> Source {
        Source { files: Mutex::new(Some(files)), time, gate, progress }
    }
}

impl ReadSource for Source {
    type Open = Content;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner).take();
        let files = files.unwrap_or_else(|| Box::new(std::iter::empty()));
        let (gate, progress) = (Arc::clone(&self.gate), Arc::clone(&self.progress));
        Entries { files, time: self.time, last: None, gate, progress }
    }
}

pub struct Entries {
    files: NewFiles,
    time: Timestamp,
    last: Option<PathBuf>,
    gate: Arc<Gate>,
    progress: Arc<Progress>,
}

impl Entries {
    fn entry(&mut self, file: NewFile) -> Result<ReadSourceEntry<Content>, VaultError> {
        let path = Path::new("/").join(&file.path);
        let refuse = |why: &str| {
            let message = format!("the file {:?} cannot be saved: {why}", file.path);
            Err(VaultError::new(VaultErrorKind::Internal, message))
        };
        let parts = || file.path.split('/');
        if parts().any(|part| matches!(part, "" | "." | "..") || part.len() > MAX_NAME || part.contains('\0'))
        {
            return refuse("its name is not allowed");
        }
        // Both programs look a name up by bisection.
        if self.last.as_ref().is_some_and(|last| *last >= path) {
            return refuse("its name is not after that of the file before it");
        }
        let Some(name) = path.file_name() else { return refuse("it has no name") };
        let meta = Metadata {
            mode: Some(0o600),
            mtime: Some(self.time),
            ctime: Some(self.time),
            size: file.size,
            ..Metadata::default()
        };
        let node = Node::new_node(name, NodeType::File, meta);
        self.last = Some(path.clone());
        self.progress.given.fetch_add(1, Ordering::SeqCst);
        let open = Content {
            path: file.path,
            left: file.size,
            ended: false,
            content: file.content,
            gate: Arc::clone(&self.gate),
            progress: Arc::clone(&self.progress),
        };
        Ok(ReadSourceEntry { path, node, open: Some(open) })
    }
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Content>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.gate.is_stopped() {
            return None;
        }
        let Some(next) = self.files.next() else {
            self.progress.ended.store(true, Ordering::SeqCst);
            return None;
        };
        match next.and_then(|file| self.entry(file)) {
            Ok(entry) => Some(Ok(entry)),
            Err(error) => {
                self.gate.fail(error);
                None
            }
        }
    }
}

/// The content of one file.
pub struct Content {
    path: String,
    left: u64,
    ended: bool,
    content: Box<dyn Read + Send>,
    gate: Arc<Gate>,
    progress: Arc<Progress>,
}

impl ReadSourceOpen for Content {
    type Reader = Counted;

    fn open(self) -> RusticResult<Counted> {
        if self.gate.is_stopped() {
            return Err(RusticError::new(ErrorKind::InputOutput, "it was stopped"));
        }
        Ok(Counted(self))
    }
}

/// Gives exactly as many bytes as the file was said to have.
pub struct Counted(Content);

impl Counted {
    fn fail(&self, why: &str) -> io::Error {
        let message = format!("the file {} could not be read to its end: {why}", self.0.path);
        self.0.gate.fail(VaultError::new(VaultErrorKind::Source, message.clone()));
        io::Error::other(message)
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.0.ended {
            return Ok(0);
        }
        if self.0.gate.is_stopped() {
            return Err(self.fail("it was stopped"));
        }
        let count = match self.0.content.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(&error.to_string())),
        };
        self.0.progress.bytes.fetch_add(count as u64, Ordering::SeqCst);
        match (self.0.left.checked_sub(count as u64), count) {
            (None, _) => Err(self.fail("it is longer than was said")),
            (Some(0), 0) => {
                self.0.ended = true;
                self.0.progress.read.fetch_add(1, Ordering::SeqCst);
                Ok(0)
            }
            (Some(_), 0) => Err(self.fail("it is shorter than was said")),
            (Some(left), _) => {
                self.0.left = left;
                Ok(count)
            }
        }
    }
}
