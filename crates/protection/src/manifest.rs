//! What a backup says of itself: `manifest.json`, its last file. With it a repository alone is enough to restore from.

use std::collections::BTreeMap;
use std::io::Read;

use jiff::Timestamp;
use landreeve_core::schema::ColumnInfo;
use landreeve_core::snapshot::{SnapshotTable, TableRows};
use landreeve_core::table::Value;
use landreeve_core::vault::{
    Part, Repository, RowsHash, SnapshotId, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::stored::uuid_text;

/// The format that this program writes.
const FORMAT: u32 = 1;
/// Where a backup keeps it.
pub(crate) const PATH: &str = "manifest.json";
/// How a snapshot with a manifest is tagged.
pub(crate) const TAG: &str = "landreeve";
/// Maximum size, which is enough for a million columns.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub format: u32,
    /// The backup's id.
    #[serde(with = "uuid_text")]
    pub backup: Uuid,
    pub asset: ManifestAsset,
    pub program_version: String,
    pub server_version: String,
    /// What a new database must have in common with this one, by names that its driver knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The programs that made some of the files, each with its version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
    /// What the backup does not contain, or not as of its moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    pub tables: Vec<ManifestTable>,
    pub files: Vec<ManifestFile>,
}

/// The database that was backed up. Nothing here opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestAsset {
    #[serde(with = "uuid_text")]
    pub uuid: Uuid,
    pub name: String,
    pub database_type: String,
    /// `HOST:PORT/DATABASE`, or the path of a file.
    pub address: String,
    /// UUID of its unit.
    #[serde(with = "uuid_text")]
    pub unit: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestTable {
    pub schema: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    pub columns: Vec<ManifestColumn>,
    /// None: it could not be counted.
    pub rows: Option<u64>,
    /// The columns that order its rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The partitioned table (schema, name) that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_of: Option<(String, String)>,
    /// The table (schema, name) that its rows are written to instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<(String, String)>,
    /// The files with its rows, in their order. None: they are in a file with the definitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<ManifestPart>>,
}

/// A file with rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestPart {
    pub file: String,
    pub rows: u64,
    /// The sum of the checksums of its rows, 128 bits in hexadecimal digits.
    pub hash: String,
    /// Between which values the columns of the key are, in their order, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<Option<(Bound, Bound)>>,
}

impl ManifestPart {
    pub fn new(file: String, part: &Part, table: &ManifestTable) -> ManifestPart {
        let of_column = |name: &String| {
            let position = table.columns.iter().position(|column| column.name == *name)?;
            let (least, greatest) = part.bounds.get(position)?.as_ref()?;
            Some((Bound::from_value(least)?, Bound::from_value(greatest)?))
        };
        let bounds = table.key.iter().map(of_column).collect();
        ManifestPart { file, rows: part.rows, hash: part.hash.to_string(), bounds }
    }
}

/// A value of a key. Dates are days since 1970, times microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    Boolean(bool),
    Integer(i64),
    Text(String),
    Date(i32),
    DateTime(i64),
    Instant(i64),
}

impl Bound {
    fn from_value(value: &Value) -> Option<Bound> {
        Some(match value {
            Value::Boolean(value) => Bound::Boolean(*value),
            Value::Integer(value) => Bound::Integer(*value),
            Value::Text(value) => Bound::Text(value.clone()),
            Value::Date(value) => Bound::Date(*value),
            Value::DateTime(value) => Bound::DateTime(*value),
            Value::Instant(value) => Bound::Instant(*value),
            Value::Float(_) | Value::Decimal { .. } => return None,
        })
    }
}

impl From<&Bound> for Value {
    fn from(bound: &Bound) -> Value {
        match bound {
            Bound::Boolean(value) => Value::Boolean(*value),
            Bound::Integer(value) => Value::Integer(*value),
            Bound::Text(value) => Value::Text(value.clone()),
            Bound::Date(value) => Value::Date(*value),
            Bound::DateTime(value) => Value::DateTime(*value),
            Bound::Instant(value) => Value::Instant(*value),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
}

/// A file in the snapshot, below `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    pub fn new(
        asset: ManifestAsset,
        backup: Uuid,
        (started_at, expires_at): (Timestamp, Timestamp),
    ) -> Manifest {
        Manifest {
            format: FORMAT,
            backup,
            asset,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_version: String::new(),
            settings: BTreeMap::new(),
            tools: BTreeMap::new(),
            warnings: Vec::new(),
            started_at,
            expires_at,
            tables: Vec::new(),
            files: Vec::new(),
        }
    }

    pub fn as_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::internal)
    }

    /// Everything but the manifest.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// `None` if a table could not be counted.
    pub fn rows(&self) -> Option<u64> {
        self.tables.iter().map(|table| table.rows).sum()
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Manifest, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if head.format != FORMAT {
            return Err(format!("it has format {}; this program reads format {FORMAT}", head.format));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    pub fn read(repository: &dyn Repository, snapshot: &SnapshotId) -> VaultResult<Manifest> {
        let damaged = |why: String| {
            let message = format!("the manifest of the snapshot {snapshot} cannot be read: {why}");
            VaultError::new(VaultErrorKind::Damaged, message)
        };
        let file = repository.file(snapshot, PATH)?;
        if file.size() > MAX_BYTES {
            return Err(damaged(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let length = usize::try_from(file.size()).unwrap_or(usize::MAX);
        Manifest::parse(&file.read_at(0, length)?).map_err(damaged)
    }
}

impl From<&SnapshotTable> for ManifestTable {
    /// Its parts are still to be written.
    fn from(table: &SnapshotTable) -> ManifestTable {
        let column = |column: &ColumnInfo| ManifestColumn {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
        };
        let (rows, key, parts) = match &table.rows {
            TableRows::InFile(rows) => (*rows, Vec::new(), None),
            TableRows::Readable(key) => (Some(0), key.clone(), Some(Vec::new())),
        };
        ManifestTable {
            schema: table.schema.clone(),
            name: table.name.clone(),
            definition: table.definition.clone(),
            columns: table.columns.iter().map(column).collect(),
            rows,
            key,
            partition_of: table.partition_of.clone(),
            through: table.through.clone(),
            parts,
        }
    }
}

impl ManifestTable {
    /// The schema and name of the table that its rows are written to.
    pub fn place(&self) -> (&str, &str) {
        match &self.through {
            Some((schema, name)) => (schema, name),
            None => (&self.schema, &self.name),
        }
    }

    /// The checksum of all its rows. An error: the manifest is damaged.
    pub fn hash(&self) -> std::result::Result<RowsHash, String> {
        let parts = self.parts.iter().flatten();
        let mut hashes = parts.map(|part| RowsHash::parse(&part.hash).ok_or_else(|| part.hash.clone()));
        hashes.try_fold(RowsHash::default(), |sum, hash| hash.map(|hash| sum.and(hash)))
    }
}

/// Where a backup keeps one of its files. The manifest comes after all of them.
pub(crate) fn data_path(name: &str) -> String {
    format!("data/{name}")
}

/// The checksum of everything that is left to read, as text, and its length.
pub(crate) fn sha256(
    mut content: impl Read,
    mut go_on: impl FnMut() -> bool,
) -> std::io::Result<(String, u64)> {
    use sha2::Digest as _;
    let (mut digest, mut length) = (sha2::Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 || !go_on() {
            return Ok((hex(&digest.finalize()), length));
        }
        digest.update(&buffer[..count]);
        length += count as u64;
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup is read for as long as it is kept: what was written once must be read by every later program.
    const WRITTEN: &str = r#"{"format":1,"backup":"018f3f3e-0000-4000-8000-000000000001","asset":{"uuid":"018f3f3e-0000-4000-8000-000000000002","name":"shop","database_type":"sqlite","address":"/srv/shop.db","unit":"00000000-0000-0000-0000-000000000000"},"program_version":"0.1.0","server_version":"3.50.2","started_at":"2026-11-30T12:00:00.5Z","expires_at":"2026-12-07T12:00:00.5Z","tables":[{"schema":"main","name":"orders","definition":"CREATE TABLE orders (id INTEGER)","columns":[{"name":"id","type":"integer","nullable":true}],"rows":3}],"files":[{"name":"database.sqlite","bytes":8192,"sha256":"ab"}]}"#;

    #[test]
    fn what_was_written_can_be_read() {
        let read = Manifest::parse(WRITTEN.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(read.as_json().unwrap()).unwrap(), WRITTEN);
        assert_eq!((read.bytes(), read.rows()), (8_192, Some(3)));
    }

    #[test]
    fn rows_in_parts_can_be_read() {
        let table = r#"{"schema":"public","name":"orders","columns":[],"rows":3,"key":["id"],"parts":[{"file":"parts/00000001.parquet","rows":3,"hash":"0000000000000000000000000000000f"}]}"#;
        let read: ManifestTable = serde_json::from_str(table).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), table);
        assert_eq!(read.hash(), Ok(RowsHash(15)));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, part) in [
            ("{}", "missing field `format`"),
            (r#"{"format":2}"#, "it has format 2; this program reads format 1"),
            (r#"{"format":1}"#, "missing field `backup`"),
            ("", "EOF"),
        ] {
            let error = Manifest::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
