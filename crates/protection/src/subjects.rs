//! What runs are about, for lists of them: databases, policies and repositories have UUIDs and names, of which a run's row has
//! only a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landreeve_core::ids::RunId;
use landreeve_core::{Noun, Result, RunKind};
use landreeve_estate::ops::{Narrow, Run};
use landreeve_estate::store::{Conn, Where};

use crate::backing_up::BACK_UP;
use crate::nouns::{BACKUP, POLICY, RECORD, REPOSITORY, RESTORE};
use crate::plane::Protection;
use crate::stored::StoredBackUp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub sort: Sort,
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// A database, or a backup of it.
    Database,
    Policy,
    Repository,
    Unit,
}

/// Where the rows of nouns are: what they are selected from, and the columns with their numbers, ids and names.
struct Named {
    nouns: &'static [Noun],
    sort: Sort,
    from: &'static str,
    number: &'static str,
    id: &'static str,
    name: &'static str,
}

const TABLES: [Named; 5] = [
    Named {
        nouns: &[Noun::DATASOURCE],
        sort: Sort::Database,
        from: "datasources s",
        number: "s.id",
        id: "s.uuid",
        name: "s.name",
    },
    Named {
        nouns: &[BACKUP, RESTORE, RECORD],
        sort: Sort::Database,
        from: "backups x JOIN assets s ON s.id = x.asset_id",
        number: "x.id",
        id: "s.uuid",
        name: "s.name",
    },
    Named {
        nouns: &[POLICY],
        sort: Sort::Policy,
        from: "policies s",
        number: "s.id",
        id: "s.uuid",
        name: "s.name",
    },
    Named {
        nouns: &[REPOSITORY],
        sort: Sort::Repository,
        from: "repositories s",
        number: "s.id",
        id: "CAST(s.id AS TEXT)",
        name: "s.name",
    },
    Named {
        nouns: &[Noun::OU],
        sort: Sort::Unit,
        from: "ous s",
        number: "s.id",
        id: "s.uuid",
        name: "s.name",
    },
];

/// Whether this is the first backup of a database in its repository.
pub fn is_first_backup(run: &Run) -> bool {
    run.kind == BACK_UP.kind && StoredBackUp::parse(&run.input).is_ok_and(|input| input.is_first())
}

/// What these runs are about. What is gone is missing.
pub async fn subjects(plane: &Protection, runs: &[Run]) -> Result<BTreeMap<RunId, Subject>> {
    let mut conn = plane.estate().store().read().await?;
    let mut found = BTreeMap::new();
    for table in TABLES {
        let about = |run: &Run| {
            let (noun, number) = run.noun.as_ref()?;
            table.nouns.iter().any(|known| known.as_str() == noun).then_some((run.id, *number))
        };
        let of: Vec<(RunId, i64)> = runs.iter().filter_map(about).collect();
        let numbers: BTreeSet<i64> = of.iter().map(|(_, number)| *number).collect();
        if numbers.is_empty() {
            continue;
        }
        let named = names(&mut conn, &table, numbers).await?;
        for (run, number) in of {
            if let Some((id, name)) = named.get(&number) {
                found.insert(run, Subject { sort: table.sort, id: id.clone(), name: name.clone() });
            }
        }
    }
    Ok(found)
}

async fn names(
    conn: &mut Conn,
    Named { from, number, id, name, .. }: &Named,
    numbers: BTreeSet<i64>,
) -> Result<BTreeMap<i64, (String, String)>> {
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids(number, numbers);
    let (condition, args) = wanted.into_parts();
    let sql = format!("SELECT {number}, {id}, {name} FROM {from} WHERE {condition}");
    let rows = conn.select(sql, args).await?;
    rows.iter().map(|row| Ok((row.int(0)?, (row.text(1)?, row.text(2)?)))).collect()
}

/// Limits a list of runs by what they are about.
#[derive(Debug, Clone, Default)]
pub struct SubjectFilter {
    /// Part of the id, and of the name.
    pub id: Option<String>,
    pub name: Option<String>,
    /// Kinds; for backups, whether they are the first of their database in their repository.
    pub kinds: Option<Vec<(RunKind, Option<bool>)>>,
}

impl SubjectFilter {
    pub fn narrow(self) -> Narrow {
        Narrow(Arc::new(move |wanted| self.apply(wanted)))
    }

    fn apply(&self, wanted: &mut Where) {
        let contains = wanted.dialect().pick("instr", "strpos");
        for (part, of_name) in [(&self.id, false), (&self.name, true)] {
            let Some(part) = part else { continue };
            let part = wanted.bind(part);
            let any = TABLES.map(|Named { nouns, from, number, id, name, .. }| {
                let nouns: Vec<String> = nouns.iter().map(|noun| format!("'{}'", noun.as_str())).collect();
                let text = if of_name { name } else { id };
                format!(
                    "(runs.noun IN ({}) AND EXISTS (SELECT 1 FROM {from} WHERE {number} = runs.noun_id \
                     AND {contains}({text}, {part}) > 0))",
                    nouns.join(", ")
                )
            });
            wanted.and(&format!("({})", any.join(" OR ")));
        }
        let Some(kinds) = &self.kinds else { return };
        let mut any = vec!["1 = 0".to_owned()];
        for (kind, first) in kinds {
            let kind = wanted.bind(kind.as_str());
            any.push(match first {
                None => format!("runs.kind = {kind}"),
                Some(true) => format!("(runs.kind = {kind} AND runs.input LIKE '%\"first\":true%')"),
                Some(false) => format!("(runs.kind = {kind} AND runs.input NOT LIKE '%\"first\":true%')"),
            });
        }
        wanted.and(&format!("({})", any.join(" OR ")));
    }
}
