//! What the library leaves to its caller: it logs an error while reading a source, leaves the file out and writes the
//! snapshot all the same; it knows no cancel; and *append-only* is only its own flag. So every write passes here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use landreeve_core::vault::{CancellationToken, VaultError, VaultErrorKind};
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use crate::source::Progress;
use crate::storage::Storage;

/// Decides what may be written, and remembers what went wrong first.
pub struct Gate {
    pub storage: Arc<dyn Storage>,
    stop: CancellationToken,
    append_only: bool,
    state: Mutex<State>,
    /// Bytes of files that were written.
    written: AtomicU64,
}

#[derive(Default)]
struct State {
    failure: Option<VaultError>,
    /// Of the source that is being saved.
    source: Option<Arc<Progress>>,
}

impl Gate {
    pub fn new(storage: Arc<dyn Storage>, stop: CancellationToken, append_only: bool) -> Gate {
        Gate { storage, stop, append_only, state: Mutex::default(), written: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source begins: until it is complete, there is no snapshot of it.
    pub fn begin(&self, source: Arc<Progress>) {
        *self.state() = State { failure: None, source: Some(source) };
        self.written.store(0, Ordering::Relaxed);
    }

    /// Nothing is deleted in an append-only repository.
    pub fn check_delete(&self) -> Result<(), VaultError> {
        if self.append_only {
            let message = "the repository is append-only: nothing in it is deleted";
            return Err(VaultError::new(VaultErrorKind::AppendOnly, message));
        }
        Ok(())
    }

    /// Something else begins: what failed before is not why it fails.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    pub fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The first failure counts; those after it are its consequences.
    pub fn fail(&self, error: VaultError) {
        self.state().failure.get_or_insert(error);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() || self.state().failure.is_some()
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// What an error of the library means.
    pub fn told(&self, error: &RusticError) -> VaultError {
        if self.stop.is_cancelled() {
            return VaultError::cancelled();
        }
        if let Some(failure) = self.state().failure.take() {
            return failure;
        }
        if error.is_incorrect_password() {
            let message = "the password opens none of the repository's keys";
            return VaultError::new(VaultErrorKind::WrongPassword, message);
        }
        VaultError::new(VaultErrorKind::Damaged, format!("the repository cannot be read: {}", text_of(error)))
    }

    fn check_write(&self, kind: FileType) -> RusticResult<()> {
        self.check_stop()?;
        if kind == FileType::Snapshot {
            let state = self.state();
            let complete = state.source.as_ref().is_some_and(|source| source.is_complete());
            if state.failure.is_some() || !complete {
                return Err(refused("the source is not complete"));
            }
        }
        Ok(())
    }

    /// The library knows no cancel, so what it does ends with its next file.
    fn check_stop(&self) -> RusticResult<()> {
        if self.stop.is_cancelled() { Err(refused("it was cancelled")) } else { Ok(()) }
    }

    /// A storage's error. It is remembered, because the library only logs some of them.
    fn watched<T>(&self, done: RusticResult<T>) -> RusticResult<T> {
        done.inspect_err(|error| {
            self.fail(VaultError::new(VaultErrorKind::Unavailable, text_of(error)));
        })
    }
}

/// What the library says, without the report that its causes are.
fn text_of(error: &RusticError) -> String {
    let text = error.display_log();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("Error: ");
    first.split(": caused by: `rustic_core`").next().unwrap_or_default().trim().to_owned()
}

fn refused(message: &str) -> Box<RusticError> {
    RusticError::new(ErrorKind::Backend, message)
}

/// A storage behind the gate.
pub struct Gated {
    pub inner: Arc<dyn Storage>,
    pub gate: Arc<Gate>,
}

impl ReadBackend for Gated {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.gate.check_stop()?;
        self.gate.watched(self.inner.list_with_size(kind))
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        self.gate.check_stop()?;
        self.gate.watched(self.inner.read_full(kind, id))
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        cache: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.gate.check_stop()?;
        self.gate.watched(self.inner.read_partial(kind, id, cache, offset, length))
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.inner.warmup_path(kind, id)
    }
}

impl WriteBackend for Gated {
    fn create(&self) -> RusticResult<()> {
        self.gate.watched(self.inner.create())
    }

    fn write_bytes(&self, kind: FileType, id: &Id, cache: bool, content: BytesList) -> RusticResult<()> {
        self.gate.check_write(kind)?;
        let size = content.size() as u64;
        self.gate.watched(self.inner.write_bytes(kind, id, cache, content))?;
        self.gate.written.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &Id, cache: bool) -> RusticResult<()> {
        if let Err(error) = self.gate.check_delete() {
            let refused = refused(&error.message);
            self.gate.fail(error);
            return Err(refused);
        }
        self.gate.check_stop()?;
        self.gate.watched(self.inner.remove(kind, id, cache))
    }
}
