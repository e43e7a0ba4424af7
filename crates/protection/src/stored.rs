//! The JSON in this plane's rows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use landreeve_core::ids::DatasourceId;
use landreeve_core::load::Choice;
use landreeve_core::vault::CheckDepth;
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backups::Backup;
use crate::ids::RepositoryId;
use crate::keep::Keep;
use crate::policies::stored::StoredCause;

/// UUIDs as text.
pub(crate) mod uuid_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(uuid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(uuid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The input of a run that works on one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredUpkeep {
    version: u32,
    repository: i64,
    #[serde(default)]
    read_data: bool,
}

impl StoredUpkeep {
    pub fn new(repository: RepositoryId, depth: CheckDepth) -> StoredUpkeep {
        StoredUpkeep { version: 1, repository: repository.0, read_data: depth == CheckDepth::Data }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredUpkeep> {
        serde_json::from_str(text).map_err(Error::internal)
    }

    pub fn repository(&self) -> RepositoryId {
        RepositoryId(self.repository)
    }

    pub fn depth(&self) -> CheckDepth {
        if self.read_data { CheckDepth::Data } else { CheckDepth::Structure }
    }
}

/// The input of a run that backs up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredBackUp {
    version: u32,
    datasource: i64,
    /// None: the one called `default`.
    repository: Option<i64>,
    keep: String,
    /// By the calendar of this zone. None: the estate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// None: a caller wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<StoredCause>,
    /// It is the first of its datasource in its repository.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    first: bool,
}

impl StoredBackUp {
    pub fn new(datasource: DatasourceId, repository: Option<RepositoryId>, keep: Keep) -> StoredBackUp {
        let repository = repository.map(|repository| repository.0);
        let keep = keep.to_string();
        let (zone, cause) = (None, None);
        StoredBackUp { version: 1, datasource: datasource.0, repository, keep, zone, cause, first: false }
    }

    /// The time that it is kept is one of this zone.
    pub fn in_zone(self, zone: &TimeZone) -> StoredBackUp {
        StoredBackUp { zone: zone.iana_name().map(str::to_owned), ..self }
    }

    pub fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(self.zone.as_deref()?).ok()
    }

    pub fn first(self, first: bool) -> StoredBackUp {
        StoredBackUp { first, ..self }
    }

    pub fn is_first(&self) -> bool {
        self.first
    }

    /// The same, for a policy.
    pub fn because(self, cause: StoredCause) -> StoredBackUp {
        StoredBackUp { cause: Some(cause), ..self }
    }

    pub fn cause(&self) -> Option<&StoredCause> {
        self.cause.as_ref()
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredBackUp> {
        serde_json::from_str(text).map_err(Error::internal)
    }

    pub fn datasource(&self) -> DatasourceId {
        DatasourceId(self.datasource)
    }

    pub fn repository(&self) -> Option<RepositoryId> {
        self.repository.map(RepositoryId)
    }

    pub fn keep(&self) -> Result<Keep> {
        Keep::parse(&self.keep).map_err(Error::internal)
    }
}

/// The input of a run that backs the estate up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredEstate {
    version: u32,
    /// None: the one called `default`.
    repository: Option<i64>,
    keep: String,
}

impl StoredEstate {
    pub fn new(repository: Option<RepositoryId>, keep: Keep) -> StoredEstate {
        let repository = repository.map(|repository| repository.0);
        StoredEstate { version: 1, repository, keep: keep.to_string() }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredEstate> {
        serde_json::from_str(text).map_err(Error::internal)
    }

    pub fn repository(&self) -> Option<RepositoryId> {
        self.repository.map(RepositoryId)
    }

    pub fn keep(&self) -> Result<Keep> {
        Keep::parse(&self.keep).map_err(Error::internal)
    }
}

/// The input of a run that verifies or restores a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredUse {
    version: u32,
    #[serde(with = "uuid_text")]
    pub backup: Uuid,
    /// None: it is only verified.
    pub restore: Option<StoredRestore>,
}

/// How a backup is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRestore {
    /// The name of the datasource that it becomes.
    pub name: String,
    pub target: StoredTarget,
    pub owners: bool,
    pub compare: bool,
    /// None: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<StoredChoice>,
}

/// What is restored of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredChoice {
    schemas: BTreeSet<String>,
    /// Schema and name.
    tables: BTreeSet<(String, String)>,
}

impl From<Choice> for StoredChoice {
    fn from(Choice { schemas, tables }: Choice) -> StoredChoice {
        StoredChoice { schemas, tables }
    }
}

impl From<StoredChoice> for Choice {
    fn from(StoredChoice { schemas, tables }: StoredChoice) -> Choice {
        Choice { schemas, tables }
    }
}

/// Where a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum StoredTarget {
    /// A new file.
    File { file: PathBuf, by_operator: bool },
    /// A new folder, for an estate.
    Folder { folder: PathBuf },
    /// A new database on the server of a datasource.
    Database { server: i64, database: String },
}

impl StoredUse {
    pub fn new(backup: Uuid, restore: Option<StoredRestore>) -> StoredUse {
        StoredUse { version: 1, backup, restore }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredUse> {
        serde_json::from_str(text).map_err(Error::internal)
    }
}

/// The input of a run that keeps rows of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRecords {
    version: u32,
    #[serde(with = "uuid_text")]
    pub backup: Uuid,
    #[serde(with = "uuid_text")]
    pub resource: Uuid,
    pub database: String,
    pub sql: String,
}

impl StoredRecords {
    pub fn new(backup: &Backup, sql: String) -> StoredRecords {
        let (resource, database) = (backup.asset.uuid, backup.asset.database().to_owned());
        StoredRecords { version: 1, backup: backup.uuid, resource, database, sql }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredRecords> {
        serde_json::from_str(text).map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        let fixture = r#"{"version":1,"repository":7,"read_data":true}"#;
        let stored = StoredUpkeep::parse(fixture).unwrap();
        assert_eq!((stored.repository(), stored.depth()), (RepositoryId(7), CheckDepth::Data));
        assert_eq!(StoredUpkeep::new(RepositoryId(7), CheckDepth::Data).as_json().unwrap(), fixture);
    }

    #[test]
    fn restored_records_are_stored_for_later_programs() {
        let fixture = r#"{"version":1,"backup":"018f3f3e-0000-4000-8000-000000000001","resource":"018f3f3e-0000-4000-8000-000000000002","database":"shop","sql":"SELECT 1"}"#;
        assert_eq!(StoredRecords::parse(fixture).unwrap().as_json().unwrap(), fixture);
    }

    #[test]
    fn backups_and_restores_are_stored_for_later_programs() {
        let fixture = r#"{"version":1,"datasource":3,"repository":null,"keep":"7d"}"#;
        let stored = StoredBackUp::parse(fixture).unwrap();
        assert_eq!(stored, StoredBackUp::new(DatasourceId(3), None, Keep::WEEK));
        assert_eq!((stored.keep().unwrap(), stored.as_json().unwrap().as_str()), (Keep::WEEK, fixture));
        let fixture = r#"{"version":1,"datasource":3,"repository":7,"keep":"1y","cause":{"policy":"018f3f3e-0000-4000-8000-000000000001","goals":["default 1 days"]}}"#;
        assert_eq!(StoredBackUp::parse(fixture).unwrap().as_json().unwrap(), fixture);
        let fixture = r#"{"version":1,"datasource":3,"repository":null,"keep":"7d","first":true}"#;
        let stored = StoredBackUp::parse(fixture).unwrap();
        assert!(stored.is_first() && stored.as_json().unwrap() == fixture);
        for fixture in [
            r#"{"version":1,"backup":"018f3f3e-0000-4000-8000-000000000001","restore":null}"#,
            r#"{"version":1,"backup":"018f3f3e-0000-4000-8000-000000000001","restore":{"name":"shop 2","target":{"kind":"file","file":"/srv/b.db","by_operator":true},"owners":false,"compare":false}}"#,
            r#"{"version":1,"backup":"018f3f3e-0000-4000-8000-000000000001","restore":{"name":"shop 2","target":{"kind":"database","server":3,"database":"b"},"owners":true,"compare":true}}"#,
        ] {
            assert_eq!(StoredUse::parse(fixture).unwrap().as_json().unwrap(), fixture);
        }
    }
}
