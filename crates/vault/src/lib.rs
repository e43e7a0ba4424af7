//! Backup repositories in restic's format (version 2), behind core's `Vault` port: `rustic_core` chunks, encrypts and finds,
//! we store, and add what it leaves to its caller.
//!
//! `place` is where a repository is; `folder`, `rest` and `s3` are storages. `gate` decides what may be written, `source` is what is saved,
//! `reading` what was, `parts` are files of rows. Does not belong here: databases, policies, the metadata store, the wall clock.

mod folder;
mod gate;
mod parts;
mod place;
mod reading;
mod repository;
mod rest;
mod s3;
mod source;
mod storage;

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytesize::ByteSize;
use landreeve_core::outbound::HttpClient;
use landreeve_core::vault::{
    CancellationToken, PartAsk, PartRows, PartWriter, Repository, RepositorySpec, RowsHash, StoredFile,
    Vault, VaultError, VaultErrorKind, VaultResult,
};
use rustic_core::{ConfigOptions, Credentials, KeyOptions};
use tokio::runtime::Handle;

use crate::place::Place;
use crate::repository::Opened;

/// Average, least and greatest size of a chunk. Smaller ones than the library's find more that is unchanged.
const CHUNK: ByteSize = ByteSize::kib(256);
const LEAST_CHUNK: ByteSize = ByteSize::kib(128);
const GREATEST_CHUNK: ByteSize = ByteSize::mib(2);
/// A pack is made in memory, several at a time. The library's grow with the repository.
const GREATEST_PACK: ByteSize = ByteSize::mib(64);
/// zstd's: what we save is compressed already.
const COMPRESSION: i32 = 1;

/// Makes and opens repositories.
#[derive(Clone)]
pub struct Repositories {
    /// Without it, only those on this machine.
    pub remote: Option<Remote>,
    /// How many bytes of values a file of rows has on average, before they are compressed.
    pub part_bytes: u64,
}

impl Default for Repositories {
    fn default() -> Repositories {
        Repositories { remote: None, part_bytes: 64 * 1024 * 1024 }
    }
}

/// How other machines are reached.
#[derive(Clone)]
pub struct Remote {
    pub http: Arc<dyn HttpClient>,
    /// Where calls are made; the library's own threads wait for them.
    pub runtime: Handle,
}

impl Vault for Repositories {
    fn create(&self, spec: &RepositorySpec) -> VaultResult<Box<dyn Repository>> {
        let place = Place::new(spec, CancellationToken::new(), self)?;
        place.gate.storage.check_empty()?;
        place.remove_keys()?;
        let config = ConfigOptions::default()
            .set_version(2_u32)
            .set_chunk_size(CHUNK)
            .set_chunk_min_size(LEAST_CHUNK)
            .set_chunk_max_size(GREATEST_CHUNK)
            .set_datapack_size_limit(GREATEST_PACK)
            .set_treepack_size_limit(GREATEST_PACK)
            .set_compression(COMPRESSION)
            .set_extra_verify(true);
        let key = KeyOptions::default().hostname("landreeve".to_owned());
        let made = place.raw().and_then(|raw| raw.init(&credentials(spec), &key, &config));
        drop(place.told(made)?);
        // Another process may have made one in the same place at the same time: only what the password opens counts.
        self.open(spec, CancellationToken::new())
    }

    fn open(&self, spec: &RepositorySpec, stop: CancellationToken) -> VaultResult<Box<dyn Repository>> {
        let place = Place::new(spec, stop, self)?;
        let raw = place.told(place.raw())?;
        if place.told(raw.config_id())?.is_none() {
            let message = format!("there is no repository in {}", spec.address);
            return Err(VaultError::new(VaultErrorKind::Missing, message));
        }
        let opened = place.told(raw.open(&credentials(spec)))?;
        Ok(Box::new(Opened::new(opened, place)))
    }

    fn part_writer(&self, path: &Path, schema: &SchemaRef) -> VaultResult<Box<dyn PartWriter>> {
        parts::Writer::new(path, schema, self.part_bytes).map(|writer| Box::new(writer) as _)
    }

    fn part_rows(&self, path: &Path) -> VaultResult<PartRows> {
        parts::rows(path)
    }

    fn part_schema(&self, file: Arc<dyn StoredFile>) -> VaultResult<SchemaRef> {
        parts::scan::schema(file)
    }

    fn part_scan(&self, file: Arc<dyn StoredFile>, ask: &PartAsk) -> VaultResult<PartRows> {
        parts::scan::rows(file, ask)
    }

    fn rows_hash(&self, batch: &RecordBatch) -> VaultResult<RowsHash> {
        parts::Hasher::new(&batch.schema())?.of(batch)
    }
}

fn credentials(spec: &RepositorySpec) -> Credentials {
    Credentials::password(spec.password.reveal())
}
