//! The JSON in the rows of policies.

use landreeve_core::error::Faults;
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::{NewOperation, NewPolicy, NewSla, Rules};
use crate::stored::uuid_text;

/// A policy's operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredOperations {
    version: u32,
    operations: Vec<StoredOperation>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredOperation {
    kind: String,
    action: String,
    window: Option<(String, String)>,
    zone: Option<String>,
    slas: Vec<StoredSla>,
    repository: Option<String>,
    settings: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredSla {
    retention: (String, i64),
    frequency: (String, i64),
    offsets: Vec<i64>,
}

impl StoredOperations {
    pub fn new(operations: &[NewOperation]) -> StoredOperations {
        let sla = |new: &NewSla| StoredSla {
            retention: new.retention.clone(),
            frequency: new.frequency.clone(),
            offsets: new.offsets.clone(),
        };
        let operation = |new: &NewOperation| StoredOperation {
            kind: new.kind.clone(),
            action: new.action.clone(),
            window: new.window.clone(),
            zone: new.zone.clone(),
            slas: new.slas.iter().map(sla).collect(),
            repository: new.repository.clone(),
            settings: new.settings.clone(),
        };
        StoredOperations { version: 1, operations: operations.iter().map(operation).collect() }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<Vec<NewOperation>> {
        let stored: StoredOperations = serde_json::from_str(text).map_err(Error::internal)?;
        let sla = |stored: StoredSla| NewSla {
            retention: stored.retention,
            frequency: stored.frequency,
            offsets: stored.offsets,
        };
        let operation = |stored: StoredOperation| NewOperation {
            kind: stored.kind,
            action: stored.action,
            window: stored.window,
            zone: stored.zone,
            slas: stored.slas.into_iter().map(sla).collect(),
            repository: stored.repository,
            settings: stored.settings,
        };
        Ok(stored.operations.into_iter().map(operation).collect())
    }
}

/// What was stored is valid: it was checked before.
pub(crate) fn rules(name: &str, operations: Vec<NewOperation>) -> Result<Rules> {
    let mut faults = Faults::default();
    let new = NewPolicy { name: name.to_owned(), enabled: true, operations };
    let rules = Rules::parse(&new, &mut faults);
    if faults.is_empty() {
        Ok(rules)
    } else {
        Err(Error::internal(format!("a policy is stored with {faults:?}")))
    }
}

/// The body of a schedule of this plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum StoredDue {
    /// A database with a policy.
    Assignment { version: u32, datasource: i64 },
    /// The end of the window in which a backup runs.
    Window { version: u32, run: i64 },
    /// The daily prune.
    Prune { version: u32 },
}

impl StoredDue {
    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredDue> {
        serde_json::from_str(text).map_err(Error::internal)
    }
}

/// The input of a run that changes policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum StoredChange {
    Replace {
        version: u32,
        policy: i64,
        name: String,
        enabled: bool,
        operations: StoredOperations,
    },
    Delete {
        version: u32,
        policy: i64,
    },
    /// Each database with its policy. None: without one from now on.
    Assign {
        version: u32,
        items: Vec<(i64, Option<i64>)>,
    },
}

impl StoredChange {
    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredChange> {
        serde_json::from_str(text).map_err(Error::internal)
    }
}

/// Why a policy had a backup made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCause {
    #[serde(with = "uuid_text")]
    pub policy: Uuid,
    /// The goals that it is for.
    pub goals: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        let fixture = r#"{"version":1,"operations":[{"kind":"aws_rds_resource_granular_backup","action":"window","window":["01:00",""],"zone":"Europe/Berlin","slas":[{"retention":["days",30],"frequency":["weeks",1],"offsets":[0]}],"repository":null,"settings":null}]}"#;
        let operations = StoredOperations::parse(fixture).unwrap();
        assert_eq!(StoredOperations::new(&operations).as_json().unwrap(), fixture);
        assert_eq!(rules("gold", operations).unwrap().operations.len(), 1);
        for fixture in [
            r#"{"what":"assignment","version":1,"datasource":7}"#,
            r#"{"what":"window","version":1,"run":7}"#,
            r#"{"what":"prune","version":1}"#,
        ] {
            assert_eq!(StoredDue::parse(fixture).unwrap().as_json().unwrap(), fixture);
        }
        for fixture in [
            r#"{"change":"replace","version":1,"policy":7,"name":"gold","enabled":true,"operations":{"version":1,"operations":[]}}"#,
            r#"{"change":"delete","version":1,"policy":7}"#,
            r#"{"change":"assign","version":1,"items":[[3,7],[4,null]]}"#,
        ] {
            assert_eq!(StoredChange::parse(fixture).unwrap().as_json().unwrap(), fixture);
        }
    }
}
