//! Which tables of a backup are restored, if not all of them.

use std::collections::BTreeSet;

use landreeve_core::error::Faults;
use landreeve_core::load::Choice;

use crate::manifest::{Manifest, ManifestTable};

/// Names that a caller may state at a time.
pub const MAX_NAMES: usize = 1_000;

/// Some of a backup's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub choice: Choice,
    /// How many tables, rows and bytes, as they are in the backup.
    pub tables: usize,
    pub rows: u64,
    pub bytes: u64,
}

/// Finds what a caller has named. A table is `SCHEMA.TABLE`, or `TABLE` if only one schema has it; a partitioned table means
/// all of its partitions. `None`: everything.
pub(super) fn choose(
    manifest: &Manifest,
    (schemas, tables): (&[String], &[String]),
    faults: &mut Faults,
) -> Option<Chosen> {
    if schemas.is_empty() && tables.is_empty() {
        return None;
    }
    let known = || manifest.tables.iter().filter(|table| table.parts.is_some());
    let mut choice = Choice::default();
    for (index, name) in schemas.iter().enumerate() {
        if known().any(|table| table.schema == *name) {
            choice.schemas.insert(name.clone());
        } else {
            faults.push(format!("schemas.{index}"), "unknown", format!("the backup has no schema {name}"));
        }
    }
    for (index, name) in tables.iter().enumerate() {
        let found = || known().filter_map(|table| Some((table, named(table, name)?)));
        let schemas: BTreeSet<&str> = found().map(|(_, schema)| schema).collect();
        let message = match schemas.len() {
            0 => format!("the backup has no table {name}"),
            1 => {
                let tables = found().map(|(table, _)| (table.schema.clone(), table.name.clone()));
                choice.tables.extend(tables);
                continue;
            }
            _ => format!("several schemas have a table {name}: write SCHEMA.{name}"),
        };
        faults.push(format!("tables.{index}"), "unknown", message);
    }
    let wanted: Vec<&ManifestTable> = known().filter(|table| has(&choice, table)).collect();
    let files: BTreeSet<&str> =
        wanted.iter().flat_map(|table| table.parts.iter().flatten()).map(|part| part.file.as_str()).collect();
    let bytes = manifest.files.iter().filter(|file| files.contains(file.name.as_str()));
    Some(Chosen {
        tables: wanted.len(),
        rows: wanted.iter().filter_map(|table| table.rows).sum(),
        bytes: bytes.map(|file| file.bytes).sum(),
        choice,
    })
}

/// Whether the rows of a table are restored.
pub(super) fn has(choice: &Choice, table: &ManifestTable) -> bool {
    choice.schemas.contains(&table.schema)
        || choice.tables.contains(&(table.schema.clone(), table.name.clone()))
}

/// The schema of what is named, if that is this table or the one that it is a part of.
fn named<'m>(table: &'m ManifestTable, name: &str) -> Option<&'m str> {
    let own = (&table.schema, &table.name);
    let whole = table.partition_of.as_ref().map(|(schema, name)| (schema, name));
    let mut places = [Some(own), whole].into_iter().flatten();
    let found = places.find(|(schema, known)| {
        let rest = name.strip_prefix(schema.as_str()).and_then(|rest| rest.strip_prefix('.'));
        *known == name || rest == Some(known)
    });
    found.map(|(schema, _)| schema.as_str())
}
