//! The definitions of a database: read from the server, written to a file of the backup, and read from it.
//!
//! The file is JSON, an object with `format`, `database`, `server_version` and `objects`, which are in the order in which
//! they are created. `docs/protection.md` describes it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landreeve_core::load::Choice;
use landreeve_core::source::SourceError;
use serde::{Deserialize, Serialize};

use super::text::{self, without_counter};
use crate::errors;

/// The format that this program writes.
const FORMAT: u32 = 1;
/// Maximum size of the file.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definitions {
    format: u32,
    pub database: String,
    pub server_version: String,
    pub objects: Vec<Object>,
}

/// In the order in which they are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Sequence,
    Table,
    Package,
    PackageBody,
    Function,
    Procedure,
    View,
    Trigger,
    Event,
}

impl Kind {
    /// As SQL has it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Sequence => "SEQUENCE",
            Kind::Table => "TABLE",
            Kind::Package => "PACKAGE",
            Kind::PackageBody => "PACKAGE BODY",
            Kind::Function => "FUNCTION",
            Kind::Procedure => "PROCEDURE",
            Kind::View => "VIEW",
            Kind::Trigger => "TRIGGER",
            Kind::Event => "EVENT",
        }
    }

    /// Whether rows need it.
    pub fn before_rows(self) -> bool {
        matches!(self, Kind::Sequence | Kind::Table)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    pub kind: Kind,
    pub name: String,
    /// The statement that creates it, in the character set of its session.
    sql: String,
    /// It is not UTF-8, and `sql` is Base64.
    #[serde(default, skip_serializing_if = "is_false")]
    base64: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The statement that sets a sequence to its next value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// It cannot be used in the database that was backed up, a view of a table that was dropped for example.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unusable: bool,
}

/// What a statement needs of the session that executes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Session {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_mode: Option<String>,
    pub character_set_client: String,
    pub collation_connection: String,
    /// The default collation of the database when it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_collation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Object {
    pub fn new(kind: Kind, name: String, sql: Vec<u8>, session: Option<Session>) -> Object {
        let (sql, base64) = match String::from_utf8(sql) {
            Ok(sql) => (sql, false),
            Err(error) => (STANDARD.encode(error.as_bytes()), true),
        };
        Object { kind, name, sql, base64, session, state: None, unusable: false }
    }

    pub fn sql(&self) -> Result<Vec<u8>, SourceError> {
        if !self.base64 {
            return Ok(self.sql.clone().into_bytes());
        }
        STANDARD.decode(&self.sql).map_err(|error| unreadable(format!("{}: {error}", self.name)))
    }

    /// The kind and name, for users.
    pub fn shown(&self) -> String {
        format!("{} {}", self.kind.word().to_lowercase(), text::identifier(&self.name))
    }

    /// Whether this is the same definition. Rows change the state of sequences and counters.
    pub fn is_same(&self, other: &Object) -> bool {
        let sql = |object: &Object| match object.kind {
            Kind::Table => without_counter(object.sql.as_bytes()),
            _ => object.sql.clone().into_bytes(),
        };
        (self.kind, &self.name, &self.session) == (other.kind, &other.name, &other.session)
            && sql(self) == sql(other)
    }
}

impl Definitions {
    pub fn new(database: String, server_version: String, objects: Vec<Object>) -> Definitions {
        Definitions { format: FORMAT, database, server_version, objects }
    }

    /// The chosen tables, with their triggers and the sequences that they name.
    pub fn chosen(&self, choice: &Choice) -> Result<Vec<Object>, SourceError> {
        if choice.schemas.contains(&self.database) {
            return Ok(self.objects.clone());
        }
        let names: BTreeSet<&str> = choice.tables.iter().map(|(_, name)| name.as_str()).collect();
        let tables: Vec<&Object> = self.objects.iter().filter(|object| object.kind == Kind::Table).collect();
        if let Some(name) = names.iter().find(|name| !tables.iter().any(|table| table.name == **name)) {
            return Err(unreadable(format!("there is no table {name} in them")));
        }
        let tables: Vec<Vec<u8>> = tables
            .into_iter()
            .filter(|table| names.contains(table.name.as_str()))
            .map(Object::sql)
            .collect::<Result<_, _>>()?;
        let mut chosen = Vec::new();
        for object in &self.objects {
            let sql = object.sql()?;
            let is_wanted = match object.kind {
                Kind::Table => names.contains(object.name.as_str()),
                Kind::Sequence => {
                    let name = text::identifier(&object.name);
                    tables.iter().any(|table| text::contains(table, name.as_bytes()))
                }
                // As `contents` writes it: its table is the first thing behind ON.
                Kind::Trigger => names.iter().any(|name| {
                    let place = format!("{} FOR EACH ROW", text::identifier(name));
                    text::behind(&sql, b" ON ").is_some_and(|rest| rest.starts_with(place.as_bytes()))
                }),
                _ => false,
            };
            if is_wanted {
                chosen.push(object.clone());
            }
        }
        Ok(chosen)
    }

    pub async fn write(self, path: std::path::PathBuf) -> Result<(), SourceError> {
        let shown = path.display().to_string();
        let failed =
            |error: &dyn std::fmt::Display| errors::connect(format!("could not write {shown}: {error}"));
        let json = serde_json::to_vec(&self).map_err(|error| failed(&error))?;
        if json.len() as u64 > MAX_BYTES {
            return Err(errors::unsupported(format!(
                "the definitions of the database have {} bytes; at most {MAX_BYTES} can be backed up",
                json.len()
            )));
        }
        tokio::fs::write(path, json).await.map_err(|error| failed(&error))
    }

    pub async fn read(path: &std::path::Path) -> Result<Definitions, SourceError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!("they have more than {MAX_BYTES} bytes")));
        }
        let json = tokio::fs::read(path).await.map_err(unreadable)?;
        let head: Head = serde_json::from_slice(&json).map_err(unreadable)?;
        if head.format != FORMAT {
            let message = format!("they have format {}; this program reads format {FORMAT}", head.format);
            return Err(unreadable(message));
        }
        serde_json::from_slice(&json).map_err(unreadable)
    }
}

fn unreadable(why: impl std::fmt::Display) -> SourceError {
    errors::unsupported(format!("the definitions in the backup cannot be read: {why}"))
}

/// What differs between two lists of definitions, for users.
pub(super) fn differences(before: &[Object], after: &[Object]) -> Vec<String> {
    let by_name = |all: &'_ [Object]| -> BTreeMap<(Kind, String), Object> {
        all.iter().map(|object| ((object.kind, object.name.clone()), object.clone())).collect()
    };
    let (before, mut after) = (by_name(before), by_name(after));
    let mut found = Vec::new();
    for (key, object) in before {
        match after.remove(&key) {
            None => found.push(format!("{} is gone", object.shown())),
            Some(other) if !object.is_same(&other) => found.push(format!("{} was changed", object.shown())),
            Some(_) => {}
        }
    }
    found.extend(after.values().map(|object| format!("{} is new", object.shown())));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup is read for as long as it is kept: what was written once must be read by every later program.
    const WRITTEN: &str = r#"{"format":1,"database":"shop","server_version":"10.11.19-MariaDB","objects":[{"kind":"sequence","name":"s","sql":"CREATE SEQUENCE `s`","state":"DO SETVAL(`s`, 5, 0)"},{"kind":"table","name":"t","sql":"CREATE TABLE `t` (`a` int)"},{"kind":"view","name":"v","sql":"/w==","base64":true,"session":{"character_set_client":"latin1","collation_connection":"latin1_swedish_ci"},"unusable":true},{"kind":"event","name":"e","sql":"CREATE EVENT `e`","session":{"sql_mode":"","character_set_client":"utf8mb4","collation_connection":"utf8mb4_bin","database_collation":"utf8mb4_bin","time_zone":"SYSTEM"}}]}"#;

    #[tokio::test]
    async fn what_was_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("definitions.json");
        tokio::fs::write(&path, WRITTEN).await.unwrap();
        let read = Definitions::read(&path).await.unwrap();
        assert_eq!(read.objects[2].sql().unwrap(), [255]);
        read.write(path.clone()).await.unwrap();
        assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), WRITTEN);
        for (text, part) in [
            ("{}", "missing field `format`"),
            (r#"{"format":2}"#, "have format 2; this program reads"),
            ("", "EOF"),
        ] {
            tokio::fs::write(&path, text).await.unwrap();
            let error = Definitions::read(&path).await.unwrap_err();
            assert!(error.message.contains(part), "{}", error.message);
        }
    }

    #[test]
    fn a_counter_is_not_a_difference() {
        let table = |sql: &str| Object::new(Kind::Table, "t".to_owned(), sql.into(), None);
        let before = [table("CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB AUTO_INCREMENT=2")];
        let same = [table("CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB AUTO_INCREMENT=3")];
        let other = [table("CREATE TABLE `t` (\n  `a` bigint\n) ENGINE=InnoDB")];
        assert!(differences(&before, &same).is_empty());
        assert_eq!(differences(&before, &other), ["table `t` was changed"]);
        assert_eq!(differences(&before, &[]), ["table `t` is gone"]);
        assert_eq!(differences(&[], &before), ["table `t` is new"]);
    }
}
