//! Large things: results, and later backups. A local folder, or an S3-compatible service by URL.

use std::path::Path;
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
pub struct Blobs(Arc<dyn ObjectStore>);

/// An S3-compatible place.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `s3://bucket/prefix` is not enough to reach a service of one's own, so the parts are named.
    pub bucket: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<landreeve_core::Secret>,
}

impl Blobs {
    pub fn local(folder: &Path) -> Result<Blobs> {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::unavailable("blobs", format!("the folder {} cannot be made: {error}", folder.display()))
        })?;
        let store =
            LocalFileSystem::new_with_prefix(folder).map_err(blob_error)?.with_automatic_cleanup(true);
        Ok(Blobs(Arc::new(store)))
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
        Ok(Blobs(Arc::new(builder.build().map_err(blob_error)?)))
    }

    /// A writer for a new blob. Nothing is there under its name until `finish`.
    pub async fn create(&self, name: &str) -> Result<BlobWriter> {
        let path = BlobPath::from(name);
        let upload = self.0.put_multipart(&path).await.map_err(blob_error)?;
        Ok(BlobWriter { upload: WriteMultipart::new_with_chunk_size(upload, CHUNK), written: 0 })
    }

    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.0.put(&BlobPath::from(name), PutPayload::from(bytes)).await.map(drop).map_err(blob_error)
    }

    pub async fn read(&self, name: &str) -> Result<ByteStream> {
        let found = self.0.get(&BlobPath::from(name)).await.map_err(blob_error)?;
        Ok(Box::pin(found.into_stream().map_err(std::io::Error::other)))
    }

    /// Copies every blob to another place, one after another and never more than two chunks of one in memory. What is
    /// removed meanwhile is left out. Gives how many there were.
    pub async fn copy_all(&self, target: &Blobs) -> Result<u64> {
        let mut all = self.0.list(None);
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
        let source = self.0.get(&found.location).await.map_err(blob_error)?;
        if found.size <= CHUNK as u64 {
            let bytes = source.bytes().await.map_err(blob_error)?;
            return target
                .0
                .put(&found.location, PutPayload::from(bytes))
                .await
                .map(drop)
                .map_err(blob_error);
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

    /// The names below a prefix that were last written before a moment, a part of them if there are many.
    pub async fn older_than(&self, prefix: &str, before: Timestamp, most: usize) -> Result<Vec<String>> {
        let prefix = BlobPath::from(prefix);
        let old = self.0.list(Some(&prefix)).try_filter(|found| {
            std::future::ready(found.last_modified.timestamp_micros() < before.as_microsecond())
        });
        old.map_ok(|found| found.location.to_string()).take(most).try_collect().await.map_err(blob_error)
    }

    /// Deleting what is not there is no failure: a purge may come twice.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.0.delete(&BlobPath::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(blob_error(error)),
        }
    }
}

const CHUNK: usize = 5 * 1_024 * 1_024;
/// How many chunks may be under way before a writer waits.
const UNDER_WAY: usize = 2;

pub struct BlobWriter {
    upload: WriteMultipart,
    written: u64,
}

impl BlobWriter {
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.upload.wait_for_capacity(UNDER_WAY).await.map_err(blob_error)?;
        self.written += bytes.len() as u64;
        self.upload.put(bytes);
        Ok(())
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub async fn finish(self) -> Result<()> {
        self.upload.finish().await.map(drop).map_err(blob_error)
    }

    pub async fn abort(self) -> Result<()> {
        self.upload.abort().await.map_err(blob_error)
    }
}

fn blob_error(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found("data"),
        other => Error::unavailable("blobs", format!("the blob store cannot do this now: {other}")),
    }
}
