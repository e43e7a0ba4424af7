//! Chooses what of an archive of `pg_dump` belongs to some of its tables or schemas, for `pg_restore --use-list`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use landreeve_core::load::Choice;
use landreeve_core::source::SourceError;

use super::tools;
use crate::errors;
use crate::feed::Watch;

/// Maximum size of an archive's table of contents.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Kinds that have rows, or the definition of a query.
const RELATIONS: [&str; 4] = ["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"];

/// Kinds that belong to a relation, and come with it. `SEQUENCE` is one of an identity or serial column.
const BELONGING: [&str; 20] = [
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "TABLE ATTACH",
    "TABLE DATA",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "STATISTICS",
    "RULE",
    "TRIGGER",
    "ROW SECURITY",
    "POLICY",
    "COMMENT",
    "SECURITY LABEL",
    "ACL",
    "MATERIALIZED VIEW DATA",
];

/// All others that consist of several words.
const OTHERS: [&str; 21] = [
    "ACCESS METHOD",
    "BLOB COMMENTS",
    "BLOB METADATA",
    "DATABASE PROPERTIES",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER",
    "LARGE OBJECT",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SHELL TYPE",
    "SUBSCRIPTION TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "USER MAPPING",
];

/// Of these a user is told if they are left out.
const TOLD: [&str; 7] =
    ["VIEW", "MATERIALIZED VIEW", "DEFAULT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY"];

/// One line of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: u64,
    kind: String,
    /// Schema, name and owner, as they are printed: with spaces between them.
    rest: String,
    needs: Vec<u64>,
}

impl Entry {
    fn is_relation(&self) -> bool {
        RELATIONS.contains(&self.kind.as_str())
    }

    fn is_in(&self, schema: &str) -> bool {
        match self.kind.as_str() {
            "SCHEMA" => self.rest.strip_prefix("- ").is_some_and(|rest| named(rest, schema)),
            _ => named(&self.rest, schema),
        }
    }

    /// For users, without the owner.
    fn shown(&self) -> String {
        let rest = self.rest.rsplit_once(' ').map_or(self.rest.as_str(), |(rest, _)| rest);
        format!("{} {rest}", self.kind.to_lowercase())
    }
}

/// Whether what is printed begins with this name.
fn named(printed: &str, name: &str) -> bool {
    printed.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))
}

/// Writes the list of what is chosen. Returns where, and what had to be left out.
pub(super) async fn list(
    program: &Path,
    archive: &Path,
    scratch: &Path,
    choice: &Choice,
    watch: &Watch,
) -> Result<(PathBuf, Vec<String>), SourceError> {
    let arguments: Vec<OsString> = vec!["--list".into(), "--verbose".into(), archive.into()];
    let printed = tools::output((program, "pg_restore"), arguments, scratch, MAX_BYTES, watch).await?;
    let entries = parse(&printed);
    let (chosen, left_out) = choose(&entries, choice)?;
    let path = scratch.join("chosen");
    let lines: String = chosen.iter().map(|id| format!("{id};\n")).collect();
    let written = tokio::fs::write(&path, lines).await;
    written.map_err(|error| errors::connect(format!("could not write {}: {error}", path.display())))?;
    Ok((path, left_out))
}

fn parse(printed: &str) -> Vec<Entry> {
    let mut kinds: Vec<&str> = RELATIONS.into_iter().chain(BELONGING).chain(OTHERS).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
    let mut entries: Vec<Entry> = Vec::new();
    for line in printed.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = entries.last_mut() {
                entry.needs = needs.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            }
            continue;
        }
        // `217; 1259 16402 TABLE shop orders owner`
        let Some((id, rest)) = line.split_once("; ") else { continue };
        let (Ok(id), Some(rest)) = (id.parse(), rest.splitn(3, ' ').nth(2)) else { continue };
        let known = kinds.iter().copied().find(|kind| named(rest, kind));
        let kind = known.or_else(|| rest.split(' ').next()).unwrap_or_default();
        let rest = rest.get(kind.len() + 1..).unwrap_or_default().to_owned();
        entries.push(Entry { id, kind: kind.to_owned(), rest, needs: Vec::new() });
    }
    entries
}

/// The ids of what is chosen, in their order, and what was left out because it needs something that is not.
fn choose(entries: &[Entry], choice: &Choice) -> Result<(Vec<u64>, Vec<String>), SourceError> {
    let mut taken = Taken {
        entries: entries.iter().map(|entry| (entry.id, entry)).collect(),
        choice,
        ids: BTreeSet::new(),
    };
    for (schema, table) in &choice.tables {
        let of_table = entries.iter().filter(|entry| entry.kind == "TABLE").find(|entry| {
            let rest = entry.rest.strip_prefix(schema.as_str()).and_then(|rest| rest.strip_prefix(' '));
            // The owner is the last word.
            rest.and_then(|rest| rest.rsplit_once(' ')).is_some_and(|(name, _)| name == table)
        });
        let entry = of_table.ok_or_else(|| {
            errors::unsupported(format!(
                "the definitions have no table {schema}.{table}; restore the whole backup"
            ))
        })?;
        taken.take(entry, Relations::All);
    }
    let mut left_out = Vec::new();
    for entry in entries.iter().filter(|entry| choice.schemas.iter().any(|schema| entry.is_in(schema))) {
        // Sequences may belong to nothing else.
        let on_its_own = !BELONGING.contains(&entry.kind.as_str()) || entry.kind == "SEQUENCE";
        if on_its_own && !taken.take(entry, Relations::Chosen) {
            left_out.push(entry);
        }
    }
    for entry in entries.iter().filter(|entry| BELONGING.contains(&entry.kind.as_str())) {
        if taken.has_owner_of(entry) && !taken.take(entry, Relations::Chosen) {
            left_out.push(entry);
        }
    }
    let relations = taken.relations();
    let of_chosen =
        |entry: &Entry| entry.is_relation() || relations.iter().any(|relation| named(&entry.rest, relation));
    let told = left_out.into_iter().filter(|entry| TOLD.contains(&entry.kind.as_str()) && of_chosen(entry));
    let told = told.map(|entry| format!("left out: {}, which needs what was not chosen", entry.shown()));
    let told = told.collect();
    // In the order of the archive: what is needed comes first.
    let ids = entries.iter().map(|entry| entry.id).filter(|id| taken.ids.contains(id)).collect();
    Ok((ids, told))
}

/// Which relations may come along because something needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relations {
    All,
    /// Only those that are chosen themselves.
    Chosen,
}

struct Taken<'a> {
    entries: BTreeMap<u64, &'a Entry>,
    choice: &'a Choice,
    ids: BTreeSet<u64>,
}

impl Taken<'_> {
    /// Whether something that an entry belongs to was taken. What is in a schema does not belong to it.
    fn has_owner_of(&self, entry: &Entry) -> bool {
        let describes = ["COMMENT", "ACL", "SECURITY LABEL"].contains(&entry.kind.as_str());
        let owns = |id: &u64| self.entries.get(id).is_some_and(|owner| describes || owner.kind != "SCHEMA");
        entry.needs.iter().any(|id| self.ids.contains(id) && owns(id))
    }

    /// Schema and name of the relations that were taken.
    fn relations(&self) -> Vec<String> {
        let taken = self.ids.iter().filter_map(|id| self.entries.get(id));
        let taken = taken.filter(|entry| entry.is_relation());
        taken.filter_map(|entry| entry.rest.rsplit_once(' ').map(|(place, _)| place.to_owned())).collect()
    }

    /// Takes an entry and all that it needs, or nothing.
    fn take(&mut self, entry: &Entry, relations: Relations) -> bool {
        let (mut found, mut next) = (BTreeSet::new(), vec![entry.id]);
        while let Some(id) = next.pop() {
            // What is not in the archive exists in every database.
            let Some(entry) = self.entries.get(&id) else { continue };
            if self.ids.contains(&id) || !found.insert(id) {
                continue;
            }
            let is_chosen = || self.choice.schemas.iter().any(|schema| entry.is_in(schema));
            if relations == Relations::Chosen && entry.is_relation() && !is_chosen() {
                return false;
            }
            next.extend(&entry.needs);
        }
        self.ids.append(&mut found);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
;
; Selected TOC Entries:
;
3417; 0 0 ENCODING - ENCODING 
6; 2615 16389 SCHEMA - s postgres
850; 1247 16391 TYPE s mood postgres
;	depends on: 6
226; 1255 16398 FUNCTION s f() postgres
;	depends on: 6
217; 1259 16402 TABLE s c postgres
;	depends on: 6 850
218; 1259 16412 TABLE public o x postgres
219; 1259 16423 VIEW s v postgres
;	depends on: 217
220; 1259 16427 MATERIALIZED VIEW s mv postgres
;	depends on: 219 218
215; 1259 16400 SEQUENCE s c_id_seq postgres
;	depends on: 6 217
3424; 0 0 SEQUENCE OWNED BY s c_id_seq postgres
;	depends on: 215
3238; 2604 16405 DEFAULT s c id postgres
;	depends on: 215 217 217
3408; 0 16402 TABLE DATA s other postgres
;	depends on: 999
3426; 0 0 SEQUENCE SET s c_id_seq postgres
;	depends on: 215
221; 1259 16403 SEQUENCE s free postgres
;	depends on: 6
3427; 0 0 SEQUENCE SET s free postgres
;	depends on: 221
3428; 0 0 COMMENT - SCHEMA s postgres
;	depends on: 6
3250; 2606 16416 CONSTRAINT public o x o x_pkey postgres
;	depends on: 218
3246; 2606 16409 CONSTRAINT s c c_pkey postgres
;	depends on: 217
3256; 2620 16422 TRIGGER s c tr postgres
;	depends on: 217 226
3255; 2606 16417 FK CONSTRAINT public o x o x_id_fkey postgres
;	depends on: 3246 217 218
";

    fn chosen(schemas: &[&str], tables: &[(&str, &str)]) -> (Vec<u64>, Vec<String>) {
        let choice = Choice {
            schemas: schemas.iter().map(|&name| name.to_owned()).collect(),
            tables: tables.iter().map(|&(schema, name)| (schema.to_owned(), name.to_owned())).collect(),
        };
        choose(&parse(PRINTED), &choice).unwrap()
    }

    #[test]
    fn a_table_comes_with_what_it_needs_and_what_belongs_to_it() {
        let (ids, left_out) = chosen(&[], &[("s", "c")]);
        assert_eq!(ids, [6, 850, 226, 217, 215, 3424, 3238, 3426, 3428, 3246, 3256]);
        assert!(left_out.is_empty(), "{left_out:?}");
        let (ids, left_out) = chosen(&[], &[("public", "o x")]);
        assert_eq!(ids, [218, 3250]);
        assert_eq!(
            left_out,
            ["left out: fk constraint public o x o x_id_fkey, which needs what was not chosen"]
        );
        let (ids, left_out) = chosen(&[], &[("public", "o x"), ("s", "c")]);
        assert_eq!((ids.len(), left_out.len(), ids.contains(&3_255)), (14, 0, true));
    }

    #[test]
    fn a_schema_comes_with_everything_in_it() {
        let (ids, left_out) = chosen(&["s"], &[]);
        assert_eq!(ids, [6, 850, 226, 217, 219, 215, 3424, 3238, 3426, 221, 3427, 3428, 3246, 3256]);
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].starts_with("left out: materialized view s mv"), "{left_out:?}");
    }

    #[test]
    fn a_table_that_is_missing_is_an_error() {
        for name in [("public", "o"), ("s", "v"), ("s", "c postgres"), ("", "c")] {
            let choice =
                Choice { tables: [(name.0.to_owned(), name.1.to_owned())].into(), ..Choice::default() };
            let error = choose(&parse(PRINTED), &choice).unwrap_err();
            assert!(error.message.contains("no table"), "{}", error.message);
        }
    }
}
