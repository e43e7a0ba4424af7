//! Large data: results and backups. A local folder, or an S3-compatible service by URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use landreeve_core::source::ByteStream;
use landreeve_core::{Error, ErrorKind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as BlobPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};

#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The folder of a local store: what is written there is flushed before it counts.
    folder: Option<Arc<PathBuf>>,
}

/// An S3-compatible location.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `s3://bucket/prefix` is not enough for a self-hosted service, so the parts are separate.
    pub bucket: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<landreeve_core::Secret>,
}

impl Blobs {
    pub fn local(folder: &Path) -> Result<Blobs> {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::unavailable("blobs", format!("cannot create the folder {}: {error}", folder.display()))
        })?;
        let store =
            LocalFileSystem::new_with_prefix(folder).map_err(blob_error)?.with_automatic_cleanup(true);
        Ok(Blobs { store: Arc::new(store), folder: Some(Arc::new(folder.to_owned())) })
    }

    pub fn s3(place: &S3) -> Result<Blobs> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(&place.bucket);
        if let Some(endpoint) = &place.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &place.region {
            builder = builder.with_region(region);
        }
        if let (Some(id), Some(secret)) = (&place.access_key_id, &place.secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.reveal());
        }
        Ok(Blobs { store: Arc::new(builder.build().map_err(blob_error)?), folder: None })
    }

    /// A writer for a new blob. The blob does not exist under its name until `finish`.
    pub async fn create(&self, name: &str) -> Result<BlobWriter> {
        let path = BlobPath::from(name);
        let upload = self.store.put_multipart(&path).await.map_err(blob_error)?;
        let upload = WriteMultipart::new_with_chunk_size(upload, CHUNK);
        Ok(BlobWriter { upload, written: 0, place: self.place(name) })
    }

    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&BlobPath::from(name), PutPayload::from(bytes)).await.map_err(blob_error)?;
        flush(self.place(name)).await
    }

    /// The blob's length and content.
    pub async fn read(&self, name: &str) -> Result<(u64, ByteStream)> {
        let found = self.store.get(&BlobPath::from(name)).await.map_err(blob_error)?;
        Ok((found.meta.size, Box::pin(found.into_stream().map_err(std::io::Error::other))))
    }

    /// Where a blob is in a local folder.
    fn place(&self, name: &str) -> Option<Place> {
        let folder = self.folder.as_ref()?;
        Some(Place { folder: folder.as_ref().clone(), file: folder.join(name) })
    }

    /// Removes interrupted uploads last written before a given time; newer ones may be in progress on other nodes.
    /// Services other than a folder have their own rules for this.
    pub async fn remove_interrupted(&self, before: Timestamp) -> Result<u64> {
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let removed = tokio::task::spawn_blocking(move || remove_interrupted(&folder, before));
        removed.await.map_err(Error::internal)?.map_err(|error| {
            Error::unavailable("blobs", format!("cannot remove interrupted uploads: {error}"))
        })
    }

    /// Copies every blob to another location, one after another, with at most two chunks in memory. Skips blobs that
    /// are deleted in the meantime. Returns the number of blobs.
    pub async fn copy_all(&self, target: &Blobs) -> Result<u64> {
        let mut all = self.store.list(None);
        let mut copied = 0;
        while let Some(found) = all.try_next().await.map_err(blob_error)? {
            match self.copy_one(&found, target).await {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                other => {
                    other?;
                    copied += 1;
                }
            }
        }
        Ok(copied)
    }

    async fn copy_one(&self, found: &ObjectMeta, target: &Blobs) -> Result<()> {
        let source = self.store.get(&found.location).await.map_err(blob_error)?;
        if found.size <= CHUNK as u64 {
            let bytes = source.bytes().await.map_err(blob_error)?;
            return target.put(found.location.as_ref(), bytes).await;
        }
        let mut writer = target.create(found.location.as_ref()).await?;
        let mut chunks = source.into_stream();
        loop {
            let written = match chunks.try_next().await {
                Ok(None) => return writer.finish().await,
                Ok(Some(bytes)) => writer.write(bytes).await,
                Err(error) => Err(blob_error(error)),
            };
            if let Err(error) = written {
                writer.abort().await?;
                return Err(error);
            }
        }
    }

    /// Names below a prefix that were last written before a given time, at most `most` of them.
    pub async fn older_than(&self, prefix: &str, before: Timestamp, most: usize) -> Result<Vec<String>> {
        let prefix = BlobPath::from(prefix);
        let old = self.store.list(Some(&prefix)).try_filter(|found| {
            std::future::ready(found.last_modified.timestamp_micros() < before.as_microsecond())
        });
        old.map_ok(|found| found.location.to_string()).take(most).try_collect().await.map_err(blob_error)
    }

    /// Deleting a blob that does not exist succeeds, because a purge may be repeated.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&BlobPath::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(blob_error(error)),
        }
    }
}

const CHUNK: usize = 5 * 1_024 * 1_024;
/// How many chunks may be in flight before a writer waits.
const MAX_IN_FLIGHT: usize = 2;

pub struct BlobWriter {
    upload: WriteMultipart,
    written: u64,
    place: Option<Place>,
}

struct Place {
    folder: PathBuf,
    file: PathBuf,
}

/// Makes written data survive a power failure: the file, and the folders above it.
async fn flush(place: Option<Place>) -> Result<()> {
    let Some(Place { folder, file }) = place else { return Ok(()) };
    let flushed = tokio::task::spawn_blocking(move || {
        std::fs::File::open(&file)?.sync_all()?;
        let within = file.ancestors().skip(1).take_while(|above| above.starts_with(&folder));
        for above in within {
            std::fs::File::open(above)?.sync_all()?;
        }
        Ok::<_, std::io::Error>(())
    });
    flushed
        .await
        .map_err(Error::internal)?
        .map_err(|error| Error::unavailable("blobs", format!("cannot flush the data to the disk: {error}")))
}

/// Until it is complete, an upload has the name of its blob plus `#` and a number.
fn is_interrupted(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

fn remove_interrupted(folder: &Path, before: Timestamp) -> std::io::Result<u64> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            removed += remove_interrupted(&entry.path(), before)?;
        } else if found.is_file() && is_interrupted(&entry.file_name().to_string_lossy()) {
            let written = Timestamp::try_from(found.modified()?).map_err(std::io::Error::other)?;
            if written < before {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

impl BlobWriter {
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.upload.wait_for_capacity(MAX_IN_FLIGHT).await.map_err(blob_error)?;
        self.written += bytes.len() as u64;
        self.upload.put(bytes);
        Ok(())
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// Completes the blob, so that it survives a crash of the machine.
    pub async fn finish(self) -> Result<()> {
        self.upload.finish().await.map_err(blob_error)?;
        flush(self.place).await
    }

    pub async fn abort(self) -> Result<()> {
        self.upload.abort().await.map_err(blob_error)
    }
}

fn blob_error(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found("data"),
        other => Error::unavailable("blobs", format!("the blob store is unavailable: {other}")),
    }
}
