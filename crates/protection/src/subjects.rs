//! What runs are about, for lists of them: databases, policies and repositories have UUIDs and names, of which a run's row has
//! only a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landreeve_core::ids::RunId;
use landreeve_core::{Noun, Result, RunKind};
use landreeve_estate::ops::{Narrow, Run};
use landreeve_estate::store::{Conn, Where};

use crate::backing_up::BACK_UP;
use crate::nouns::{ALERT, BACKUP, POLICY, RECORD, REPOSITORY, RESTORE};
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
    User,
    Role,
    Key,
    Alert,
}

/// Where the rows of nouns are: what they are selected from, and the columns with their numbers, ids and names.
pub(crate) struct Named {
    pub nouns: &'static [Noun],
    pub sort: Sort,
    pub from: &'static str,
    pub number: &'static str,
    pub id: &'static str,
    pub name: &'static str,
}

/// Those that runs are about.
const OF_RUNS: usize = 5;

pub(crate) const TABLES: [Named; 9] = [
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
    Named {
        nouns: &[Noun::USER],
        sort: Sort::User,
        from: "users s",
        number: "s.id",
        id: "CAST(s.id AS TEXT)",
        name: "s.name",
    },
    Named {
        nouns: &[Noun::ROLE],
        sort: Sort::Role,
        from: "roles s",
        number: "s.id",
        id: "s.uuid",
        name: "s.name",
    },
    Named {
        nouns: &[Noun::KEY],
        sort: Sort::Key,
        from: "keys s",
        number: "s.id",
        id: "CAST(s.id AS TEXT)",
        name: "s.name",
    },
    Named {
        nouns: &[ALERT],
        sort: Sort::Alert,
        from: "alerts s",
        number: "s.id",
        id: "s.uuid",
        name: "s.entity_name",
    },
];

/// Whether this is the first backup of a database in its repository.
pub fn is_first_backup(run: &Run) -> bool {
    run.kind == BACK_UP.kind && StoredBackUp::parse(&run.input).is_ok_and(|input| input.is_first())
}

/// What these runs are about. What is gone is missing.
pub async fn subjects(plane: &Protection, runs: &[Run]) -> Result<BTreeMap<RunId, Subject>> {
    let about = |run: &Run| Some((run.id, run.noun.as_ref()?.0.clone(), run.noun.as_ref()?.1));
    let about: Vec<_> = runs.iter().filter_map(about).collect();
    let mut conn = plane.estate().store().read().await?;
    look_up(&mut conn, TABLES.get(..OF_RUNS).unwrap_or_default(), &about).await
}

/// What these are about: each with its noun and number. What is gone is missing.
pub(crate) async fn look_up<K: Ord + Copy>(
    conn: &mut Conn,
    tables: &[Named],
    all: &[(K, String, i64)],
) -> Result<BTreeMap<K, Subject>> {
    let mut found = BTreeMap::new();
    for table in tables {
        let of = all.iter().filter(|(_, noun, _)| table.nouns.iter().any(|known| known.as_str() == noun));
        let of: Vec<(K, i64)> = of.map(|(key, _, number)| (*key, *number)).collect();
        let numbers: BTreeSet<i64> = of.iter().map(|(_, number)| *number).collect();
        if numbers.is_empty() {
            continue;
        }
        let named = names(conn, table, numbers).await?;
        for (key, number) in of {
            if let Some((id, name)) = named.get(&number) {
                found.insert(key, Subject { sort: table.sort, id: id.clone(), name: name.clone() });
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
            let any = TABLES.iter().take(OF_RUNS).map(|Named { nouns, from, number, id, name, .. }| {
                let nouns: Vec<String> = nouns.iter().map(|noun| format!("'{}'", noun.as_str())).collect();
                let text = if of_name { name } else { id };
                format!(
                    "(runs.noun IN ({}) AND EXISTS (SELECT 1 FROM {from} WHERE {number} = runs.noun_id \
                     AND {contains}({text}, {part}) > 0))",
                    nouns.join(", ")
                )
            });
            wanted.and(&format!("({})", any.collect::<Vec<_>>().join(" OR ")));
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
