//! Results of queries: read from a stream with bounded memory, stored in the run's row if small and in a blob if large,
//! and opened again. The same for every plane whose runs return rows.
//!
//! Does not belong here: what was queried, or the output formats.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use jiff::tz::TimeZone;
use landreeve_core::source::{
    ByteStream, EncodeOptions, Envelope, QueryStream, RecordBatch, ResultCodec, ResultFormat, ResultWriter,
};
use landreeve_core::{Error, ErrorKind, OpCtx, Permission, Result, RunState};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Estate;
use crate::blobs::BlobWriter;
use crate::inventory::connect::source_failure;
use crate::runs::{Done, Failure, Job, Outcome, Run, queue};

/// Results up to this size are stored in the run's row.
const SMALL: usize = 64 * 1_024;
/// How a query is streamed into a result: maximum rows and bytes of a batch.
pub const BATCH_ROWS: usize = 8_192;
pub const BATCH_BYTES: usize = 4 * 1_024 * 1_024;
/// Compressing a larger batch gets a thread of its own.
const HEAVY: usize = 1_024 * 1_024;

/// What is stored about a result, as the output of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredResult {
    version: u32,
    columns: u64,
    rows: u64,
    bytes: u64,
    zone: String,
    /// CRC-32 of all stored bytes; version 1 had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32: Option<u32>,
    /// The subtrees of units whose rows the result contains, for a source whose rows depend on the reader. Since
    /// version 3; earlier, it was in the run's input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reach: Vec<String>,
}

/// What the inputs of runs had in common before version 3 of the result.
#[derive(Debug, Deserialize)]
struct InputWithReach {
    #[serde(default)]
    reach: Vec<String>,
}

/// The size of a result, and the zone for displaying its instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub columns: u64,
    pub rows: u64,
    /// As kept.
    pub bytes: u64,
    pub zone: String,
}

/// `None` if the run returned no rows.
pub fn summary(run: &Run) -> Option<Summary> {
    let StoredResult { columns, rows, bytes, zone, .. } = stored(run)?;
    Some(Summary { columns, rows, bytes, zone })
}

fn stored(run: &Run) -> Option<StoredResult> {
    serde_json::from_str(run.output.as_deref()?).ok()
}

/// Whether the caller may read a run's rows. Seeing that a run exists is not enough: reading its rows requires the
/// permission to run the query. `permission` is what reading needs, on `id` if it is about one resource.
pub fn require_readable(ctx: &OpCtx, run: &Run, permission: Permission, id: i64) -> Result<()> {
    let stored = stored(run).map(|stored| stored.reach).unwrap_or_default();
    let reach = if stored.is_empty() {
        serde_json::from_str::<InputWithReach>(&run.input).map(|input| input.reach).unwrap_or_default()
    } else {
        stored
    };
    let own = ctx.authority().reach(permission, id);
    if reach.iter().all(|path| own.iter().any(|own| path.starts_with(own.as_str()))) {
        return Ok(());
    }
    Err(Error::forbidden("the result contains rows of organizational units that you cannot see"))
}

/// How a result is stored.
pub struct Keeping<'a> {
    pub estate: &'a Estate,
    pub codec: &'a dyn ResultCodec,
    /// A stored result larger than this fails its run.
    pub max_bytes: u64,
    /// The setting for the limit, for the message.
    pub setting: &'static str,
    /// The zone for displaying instants.
    pub zone: String,
    /// The subtrees of units whose rows are read, for a source whose rows depend on the reader.
    pub reach: Vec<String>,
}

impl Keeping<'_> {
    /// Reads the stream to the end and stores it as the result of the job's run, or stores nothing.
    pub async fn keep(&self, mut stream: QueryStream, job: &Job) -> Outcome {
        let mut sink = Sink {
            writer: Some(self.codec.writer(&stream.schema).map_err(Error::internal)?),
            small: BytesMut::new(),
            blob: None,
            name: format!("results/{}.arrows", job.run.uuid),
            rows: 0,
            bytes: 0,
            checksum: crc32fast::Hasher::new(),
            keeping: self,
        };
        match sink.take(&mut stream, job).await {
            Ok(()) => sink.finish(stream.schema.fields().len() as u64).await,
            Err(failure) => Err(sink.abandon(failure).await),
        }
    }
}

/// Stores a result: in memory while it is small, in a blob when it grows.
struct Sink<'a> {
    keeping: &'a Keeping<'a>,
    /// `None` while it works.
    writer: Option<Box<dyn ResultWriter>>,
    small: BytesMut,
    blob: Option<BlobWriter>,
    name: String,
    rows: u64,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl Sink<'_> {
    /// Everything but the last bytes.
    async fn take(&mut self, stream: &mut QueryStream, job: &Job) -> Result<(), Failure> {
        while let Some(batch) = stream.batches.next().await {
            let batch = batch.map_err(|error| source_failure(&error, job.run.time_limit))?;
            self.rows += batch.num_rows() as u64;
            let bytes = self.compress(batch).await?;
            self.put(bytes).await?;
            job.report(50, format!("{} rows", self.rows));
        }
        Ok(())
    }

    /// On a thread of its own if there is much to do: other runs must not wait for it.
    async fn compress(&mut self, batch: RecordBatch) -> Result<Bytes> {
        let mut writer = self.writer.take().ok_or_else(|| Error::internal("a result without a writer"))?;
        let bytes = if batch.get_array_memory_size() < HEAVY {
            writer.write(&batch)
        } else {
            let work = tokio::task::spawn_blocking(move || {
                let bytes = writer.write(&batch);
                (writer, bytes)
            });
            let (back, bytes) = work.await.map_err(Error::internal)?;
            writer = back;
            bytes
        };
        self.writer = Some(writer);
        bytes.map_err(Error::internal)
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.bytes += bytes.len() as u64;
        self.checksum.update(&bytes);
        let most = self.keeping.max_bytes;
        if self.bytes > most {
            let message = format!(
                "the result is larger than the limit of {most} bytes ({}); it was not stored; select fewer rows \
                 or columns, or raise the limit",
                self.keeping.setting
            );
            return Err(Failure::new(ErrorKind::TooLarge, "result_too_large", message));
        }
        if self.blob.is_none() && self.small.len() + bytes.len() <= SMALL {
            self.small.extend_from_slice(&bytes);
            return Ok(());
        }
        let writer = match &mut self.blob {
            Some(writer) => writer,
            // Set before anything is written, so that a failed first write can be cleaned up.
            None => {
                let writer = self.blob.insert(self.keeping.estate.blobs().create(&self.name).await?);
                writer.write(self.small.split().freeze()).await?;
                writer
            }
        };
        Ok(writer.write(bytes).await?)
    }

    /// Cleans up after a failure: no uploaded data remains.
    async fn abandon(self, failure: Failure) -> Failure {
        if let Some(writer) = self.blob
            && let Err(error) = writer.abort().await
        {
            tracing::warn!(blob = self.name, %error, "could not remove the partial data of a failed result");
        }
        failure
    }

    async fn finish(mut self, columns: u64) -> Outcome {
        let output = match self.end(columns).await {
            Ok(output) => Some(output),
            Err(failure) => return Err(self.abandon(failure).await),
        };
        let Some(writer) = self.blob.take() else {
            return Ok(Done { output, result: Some(self.small.to_vec()), result_blob: None });
        };
        match writer.finish().await {
            Ok(()) => Ok(Done { output, result: None, result_blob: Some(self.name) }),
            Err(error) => {
                // The last call consumed the writer. If only its response was lost, the blob exists.
                if let Err(error) = self.keeping.estate.blobs().delete(&self.name).await {
                    tracing::warn!(blob = self.name, %error, "could not remove the partial data of a failed result");
                }
                Err(self.abandon(error.into()).await)
            }
        }
    }

    /// The last bytes of the result, and what is stored about it.
    async fn end(&mut self, columns: u64) -> Result<String, Failure> {
        let writer = self.writer.as_mut().ok_or_else(|| Error::internal("a result without a writer"))?;
        let end = writer.finish().map_err(Error::internal)?;
        self.put(end).await?;
        let zone = self.keeping.zone.clone();
        let crc32 = Some(self.checksum.clone().finalize());
        let reach = self.keeping.reach.clone();
        let output =
            StoredResult { version: 3, columns, rows: self.rows, bytes: self.bytes, zone, crc32, reach };
        Ok(serde_json::to_string(&output).map_err(Error::internal)?)
    }
}

/// An opened result: its stored form, and what an encoder must know about it.
pub struct Opened {
    pub kept: ByteStream,
    pub facts: Facts,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub zone: String,
    pub rows: u64,
    /// As kept.
    pub bytes: u64,
    /// Time of the data, in seconds since 1970.
    pub timestamp: i64,
}

/// Opens the result of a run; the caller's permission has already been checked. `None` if there is none, or no longer.
pub async fn open(estate: &Estate, uuid: Uuid) -> Result<Option<Opened>> {
    let mut conn = estate.store().read().await?;
    let Some(run) = queue::by_uuid(&mut conn, uuid).await? else { return Ok(None) };
    if run.state != RunState::Succeeded || run.data_expired(estate.now()) {
        return Ok(None);
    }
    let Some(stored) = stored(&run) else { return Ok(None) };
    let (length, kept): (u64, ByteStream) = match &run.result_blob {
        Some(blob) => {
            drop(conn);
            match estate.blobs().read(blob).await {
                // The run has a result, so the blob should exist.
                Err(error) if error.kind == ErrorKind::NotFound => {
                    return Err(damaged(&run, "its blob is missing"));
                }
                found => found?,
            }
        }
        None => {
            let Some(bytes) = queue::small_result(&mut conn, run.id).await? else { return Ok(None) };
            if stored.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(&bytes)) {
                return Err(damaged(&run, "its checksum does not match"));
            }
            let length = bytes.len() as u64;
            (length, Box::pin(futures_util::stream::once(async move { Ok(Bytes::from(bytes)) })))
        }
    };
    if length != stored.bytes {
        return Err(damaged(&run, &format!("it has {length} bytes and should have {}", stored.bytes)));
    }
    let kept = match stored.crc32 {
        Some(crc32) if run.result_blob.is_some() => verified(run.uuid, stored.bytes, crc32, kept),
        _ => kept,
    };
    let timestamp = run.started_at.unwrap_or(run.submitted_at).as_second();
    let facts = Facts { zone: stored.zone, rows: stored.rows, bytes: stored.bytes, timestamp };
    Ok(Some(Opened { kept, facts }))
}

fn damaged(run: &Run, why: &str) -> Error {
    tracing::error!(run = %run.uuid, why, "the stored result of a run is damaged");
    Error::unavailable("result_damaged", format!("the stored result of run {} is damaged: {why}", run.uuid))
}

/// Checks the checksum before the last bytes are returned, so that a damaged result never looks complete.
fn verified(uuid: Uuid, length: u64, crc32: u32, kept: ByteStream) -> ByteStream {
    let state = (kept, crc32fast::Hasher::new(), 0_u64);
    let damaged = move || {
        tracing::error!(run = %uuid, "the stored result of a run is damaged: its checksum does not match");
        let message = format!("the stored result of run {uuid} is damaged");
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    };
    Box::pin(futures_util::stream::try_unfold(state, move |(mut kept, mut hasher, mut passed)| async move {
        let Some(bytes) = kept.next().await.transpose()? else {
            return if passed == length { Ok(None) } else { Err(damaged()) };
        };
        hasher.update(&bytes);
        passed += bytes.len() as u64;
        if passed >= length && (passed > length || hasher.clone().finalize() != crc32) {
            return Err(damaged());
        }
        Ok(Some((bytes, (kept, hasher, passed))))
    }))
}

/// The format in which a client wants the rows.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub format: ResultFormat,
    /// What a JSON document has around the rows.
    pub envelope: Option<Arc<dyn Envelope>>,
    pub integers_as_strings: bool,
    /// Maximum number of rows.
    pub most_rows: Option<u64>,
}

/// The rows in a format, streaming.
pub async fn encode(
    estate: &Estate,
    codec: &dyn ResultCodec,
    kept: ByteStream,
    facts: &Facts,
    wanted: Wanted,
) -> Result<ByteStream> {
    let options = EncodeOptions {
        format: wanted.format,
        envelope: wanted.envelope,
        time_zone: TimeZone::get(&facts.zone).unwrap_or(TimeZone::UTC),
        row_count: Some(facts.rows),
        most_rows: wanted.most_rows,
        csv_separator: estate.settings().await?.csv_separator.byte(),
        integers_as_strings: wanted.integers_as_strings,
    };
    // The stored form is sent as it is.
    let bytes = if wanted.format == ResultFormat::ArrowStream { 0 } else { facts.bytes };
    let memory = estate.memory().for_download(bytes).await?;
    Ok(memory.hold_bytes(codec.encode(kept, options)))
}

#[cfg(test)]
mod tests {
    use super::StoredResult;

    /// Version 1, as first written. Never change it.
    const RESULT_V1: &str = r#"{"version":1,"columns":1,"rows":1,"bytes":400,"zone":"Europe/Berlin"}"#;

    /// Version 2 has a checksum. Never change it.
    const RESULT_V2: &str =
        r#"{"version":2,"columns":1,"rows":1,"bytes":400,"zone":"Europe/Berlin","crc32":3735928559}"#;

    /// Version 3 says whose rows are in it. Never change it.
    const RESULT_V3: &str =
        r#"{"version":3,"columns":1,"rows":1,"bytes":400,"zone":"UTC","crc32":7,"reach":["/1/7/"]}"#;

    #[test]
    fn old_versions_can_still_be_read() {
        for fixture in [RESULT_V1, RESULT_V2, RESULT_V3] {
            let stored: StoredResult = serde_json::from_str(fixture).unwrap();
            assert_eq!(serde_json::to_string(&stored).unwrap(), fixture);
        }
    }
}
