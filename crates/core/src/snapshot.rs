//! The port to consistent copies of the users' databases, for backups. `drivers` implements it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ids::BoxFuture;
use crate::schema::ColumnInfo;
use crate::source::{CancellationToken, ConnectSpec, SourceError};

#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// An empty folder for the files of the snapshot. The caller deletes it.
    pub scratch: PathBuf,
}

/// A database as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub server_version: String,
    /// The programs that made its files, each with its version.
    pub tools: BTreeMap<String, String>,
    pub tables: Vec<SnapshotTable>,
    pub files: Vec<SnapshotFile>,
}

/// A file of a snapshot, in the scratch folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// What it is called in a backup.
    pub name: String,
    pub path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTable {
    pub schema: String,
    pub name: String,
    /// The statement that creates it, where the database keeps one.
    pub definition: Option<String>,
    pub columns: Vec<ColumnInfo>,
    /// Exact. `None`: it cannot be counted.
    pub rows: Option<u64>,
}

/// Takes snapshots of one kind of database. Every call ends when the token is cancelled.
pub trait Snapshots: Send + Sync + 'static {
    fn take<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        options: SnapshotOptions,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Snapshot, SourceError>>;
}
