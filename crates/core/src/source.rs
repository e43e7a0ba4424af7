//! The ports to the users' databases and to the formats in which results leave: `drivers` implements both.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures_core::Stream;
use jiff::tz::TimeZone;

pub use tokio_util::sync::CancellationToken;

use crate::datasource::DatabaseType;
use crate::ids::{BoxFuture, DatasourceId};
use crate::schema::Catalog;
use crate::secret::Secret;
use crate::table::Reader;

/// Where and how to connect. Everything is already checked: the address against `[outbound]`, a file path against
/// the configured roots.
#[derive(Debug, Clone)]
pub struct ConnectSpec {
    /// Connections are pooled per datasource and version: an update makes new ones and lets the old ones drain.
    pub datasource: DatasourceId,
    pub version: i64,
    pub database_type: DatabaseType,
    pub target: Target,
    pub tls: TlsMode,
    /// The session's time zone. A zone the server cannot take makes the driver run at UTC and say so in `Session`.
    pub time_zone: TimeZone,
    pub max_connections: usize,
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum Target {
    Network {
        host: String,
        port: u16,
        /// The addresses the host resolved to when it was checked; the driver connects to these and no others.
        addresses: Vec<std::net::SocketAddr>,
        username: String,
        password: Secret,
        database: String,
    },
    /// A SQLite file, opened read-only.
    File(PathBuf),
    /// Tables of this server, as a reader sees them.
    Tables {
        /// The name under which the server knows the catalog that has them.
        catalog: String,
        reader: Reader,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Encrypted when the server can, without checking its certificate.
    Prefer,
    /// Encrypted or refused; the certificate is not checked.
    Require,
    /// Encrypted, certificate and host name checked against the built-in roots and `[sources] ca_file`.
    Verify,
}

/// What a driver says went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    pub kind: SourceErrorKind,
    /// For a person: the database's own message where it has one, else what failed and what to do.
    pub message: String,
    /// The database's own error code (`42P01`, `1146`, `SQLITE_ERROR`).
    pub code: Option<String>,
    /// Where in the SQL, in characters from 1.
    pub position: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The host, port, TLS or credentials are wrong, or nobody answers.
    Connect,
    /// The database refused the statement.
    Query,
    /// The statement is of a kind that may write or change the session; nothing was sent.
    NotReadOnly,
    /// The connection broke midway.
    Lost,
    TimedOut,
    Cancelled,
    /// A value or an option that this driver cannot carry; the message says what to write instead.
    Unsupported,
}

impl SourceError {
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError { kind, message: message.into(), code: None, position: None }
    }
}

/// What a connection test or a first query learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    pub zone: SessionZone,
}

/// Which zone the session really runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionZone {
    /// As asked.
    AsAsked,
    /// The server has no zone tables (a usual MySQL): the session runs at UTC and the parameter language must write
    /// offsets out.
    UtcForLackOfZoneTables,
}

#[derive(Debug, Clone)]
pub struct Query {
    /// One statement that reads.
    pub sql: String,
    pub time_limit: Duration,
    /// Largest size of one batch, in rows and about in bytes: this bounds the memory of a stream.
    pub batch_rows: usize,
    pub batch_bytes: usize,
}

/// A result as it arrives. Dropping it before its end cancels the statement in the database.
pub struct QueryStream {
    pub schema: SchemaRef,
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>,
}

/// One database, behind one port. Every call ends when the token is cancelled, and the cancel reaches the database.
pub trait Driver: Send + Sync + 'static {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>>;

    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        row_counts: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>>;

    /// Runs one statement in a read-only transaction that is rolled back.
    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>>;

    /// Closes idle connections of a datasource that was changed or deleted.
    fn forget(&self, datasource: DatasourceId);
}

/// All drivers, by database type.
pub trait Drivers: Send + Sync + 'static {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>>;
}

/// In which form a result leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultFormat {
    Json,
    Csv,
    ArrowStream,
    Parquet,
}

#[derive(Debug, Clone)]
pub struct EncodeOptions {
    pub format: ResultFormat,
    /// Instants are shown in this zone; `time_zone_name` is what the JSON says.
    pub time_zone: TimeZone,
    pub time_zone_name: String,
    /// Seconds since 1970, of the data.
    pub timestamp: i64,
    pub row_count: u64,
    /// No more rows than these leave, and JSON says so.
    pub most_rows: Option<u64>,
    pub csv_separator: u8,
    /// 64-bit integers as JSON strings, for clients whose numbers are doubles.
    pub integers_as_strings: bool,
}

pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Writes a result into the form in which it is kept (compressed Arrow IPC), batch by batch.
pub trait ResultWriter: Send {
    /// Appends the batch and gives the bytes that are ready to be stored.
    fn write(&mut self, batch: &RecordBatch) -> std::io::Result<Bytes>;

    /// The bytes that close the stream.
    fn finish(&mut self) -> std::io::Result<Bytes>;
}

/// The encoders of `drivers`, as planes and faces see them.
pub trait ResultCodec: Send + Sync + 'static {
    fn writer(&self, schema: &SchemaRef) -> std::io::Result<Box<dyn ResultWriter>>;

    /// From the kept form to a format, streaming, with bounded memory.
    fn encode(&self, kept: ByteStream, options: EncodeOptions) -> ByteStream;
}
