//! What lists show: compares the SQL condition with `Authority::allows` row by row, and reads lists in pages.

use std::collections::BTreeSet;

use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::{Action, Authority, Grant, Noun, Permission, Scope};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::DatasourceFilter;
use landreeve_estate::ops::datasources::datasource_list;
use landreeve_estate::ops::sign_in::operator;
use landreeve_estate::store::Where;
use landreeve_estate::store::list::PAGE_ROWS;
use landreeve_estate::{Estate, args};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Site, all_datasources, caller, exec};

conformance![
    the_condition_selects_what_the_authority_allows,
    a_list_is_read_in_pages_without_gaps,
    hidden_secrets_are_not_decrypted,
];

const PLACE: Place =
    Place { unit: "d.ou_id", named: Some("d.id IN ($$)"), everywhere: Some("d.builtin IS NOT NULL") };

/// Some of the ids are prefixes of others.
const UNITS: [i64; 8] = [1, 2, 20, 21, 210, 11, 12, 111];
const NOUNS: [Noun; 2] = [Noun::DATASOURCE, Noun::RUN];
const ROWS: usize = 16;

#[derive(Debug, Clone)]
struct World {
    /// The parent of each unit except the first, as an index into the units before it.
    parents: Vec<usize>,
    /// For each row: its unit, and whether it is built in.
    rows: Vec<(usize, bool)>,
    authorities: Vec<Caller>,
}

#[derive(Debug, Clone)]
struct Caller {
    here: usize,
    all: bool,
    grants: Vec<(usize, usize, Target)>,
}

#[derive(Debug, Clone)]
enum Target {
    Below(usize),
    /// Rows, some of which do not exist.
    Rows(Vec<usize>),
}

fn caller_of() -> impl Strategy<Value = Caller> {
    let target = prop_oneof![
        2 => (0..UNITS.len()).prop_map(Target::Below),
        1 => proptest::collection::vec(0..ROWS * 2, 0..5).prop_map(Target::Rows),
    ];
    let grants = proptest::collection::vec((0..NOUNS.len(), 0..Action::SHARED.len(), target), 0..5);
    (0..UNITS.len(), proptest::bool::weighted(0.05), grants).prop_map(|(here, all, grants)| Caller {
        here,
        all,
        grants,
    })
}

fn world() -> impl Strategy<Value = World> {
    let parents = proptest::collection::vec(any::<usize>(), UNITS.len() - 1)
        .prop_map(|raw| raw.into_iter().enumerate().map(|(index, raw)| raw % (index + 1)).collect());
    let rows = proptest::collection::vec((0..UNITS.len(), proptest::bool::weighted(0.2)), ROWS);
    let authorities = proptest::collection::vec(caller_of(), 20);
    (parents, rows, authorities).prop_map(|(parents, rows, authorities)| World { parents, rows, authorities })
}

impl World {
    fn paths(&self) -> Vec<String> {
        let mut paths = vec!["/1/".to_owned()];
        for (index, parent) in self.parents.iter().enumerate() {
            paths.push(format!("{}{}/", paths[*parent], UNITS[index + 1]));
        }
        paths
    }
}

impl Caller {
    fn authority(&self, paths: &[String]) -> Authority {
        let (ou, path) = (OuId(UNITS[self.here]), paths[self.here].clone());
        if self.all {
            return Authority::operator_in(ou, path);
        }
        let grants = self.grants.iter().map(|(noun, action, target)| Grant {
            permission: Permission::new(NOUNS[*noun], Action::SHARED[*action]),
            scope: match target {
                Target::Below(unit) => Scope::Subtree(paths[*unit].clone()),
                Target::Rows(rows) => Scope::Resources(rows.iter().map(|row| *row as i64 + 1).collect()),
            },
        });
        Authority::new(grants.collect(), ou, path)
    }
}

async fn the_condition_selects_what_the_authority_allows(site: &Site) {
    let estate = site.open().await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let config = Config { cases: 25, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&world(), |world| {
            runtime.block_on(compare(&estate, &world));
            Ok(())
        })
    })
    .unwrap();
}

async fn fill(estate: &Estate, world: &World, paths: &[String]) {
    exec(estate, "DELETE FROM datasources", args![]).await;
    exec(estate, "DELETE FROM ous WHERE id <> 1", args![]).await;
    for (index, path) in paths.iter().enumerate().skip(1) {
        let (id, parent) = (UNITS[index], UNITS[world.parents[index - 1]]);
        let sql = "INSERT INTO ous (id, uuid, parent_id, path, name, description, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $2, '', 0, 0)";
        exec(estate, sql, args![id, estate.uuid(), parent, path]).await;
    }
    for (index, (unit, builtin)) in world.rows.iter().enumerate() {
        let word = builtin.then(|| format!("word {index}"));
        insert(estate, index as i64 + 1, UNITS[*unit], word).await;
    }
}

/// A datasource whose secrets cannot be decrypted.
async fn insert(estate: &Estate, id: i64, ou: i64, builtin: Option<String>) {
    let config = r#"{"version":1,"mode":"direct","host":"db","port":5432,"username":"u","database":"d","ssh_host":null,"ssh_port":null,"ssh_user":null,"data_time_zone":null,"require_tls":true,"verify_tls":false,"max_concurrent":20,"nightly_schema":true,"row_counts":true,"operator_file":false,"extras":{}}"#;
    let sql = "INSERT INTO datasources (id, ou_id, name, database_type, enabled, builtin, config, secrets_sealed, \
               version, created_at, updated_at, uuid) \
               VALUES ($1, $2, 'source', 'postgres', 1, $3, $4, $5, 1, 0, 0, $6)";
    let uuid = uuid::Uuid::from_u128(id.unsigned_abs().into()).to_string();
    exec(estate, sql, args![id, ou, builtin, config, vec![0_u8; 4], uuid]).await;
}

async fn compare(estate: &Estate, world: &World) {
    let paths = world.paths();
    fill(estate, world, &paths).await;
    for caller in &world.authorities {
        let authority = caller.authority(&paths);
        for noun in NOUNS {
            for action in Action::SHARED {
                let permission = Permission::new(noun, action);
                let allowed: Vec<i64> = (1..)
                    .zip(&world.rows)
                    .filter(|(id, (unit, builtin))| {
                        let path = if *builtin { authority.ou_path() } else { &paths[*unit] };
                        authority.allows(permission, path, *id)
                    })
                    .map(|(id, _)| id)
                    .collect();
                let mut wanted = Where::new(estate.store().dialect());
                Visibility::of_authority(&authority, permission).narrow(&mut wanted, &PLACE).unwrap();
                let (condition, values) = wanted.into_parts();
                let sql = format!("SELECT d.id FROM datasources d WHERE {condition} ORDER BY d.id");
                let rows = estate.store().read().await.unwrap().select(sql, values).await.unwrap();
                let shown: Vec<i64> = rows.iter().map(|row| row.int(0).unwrap()).collect();
                assert_eq!(shown, allowed, "{permission:?} of {caller:?} in {world:?}");
            }
        }
    }
}

async fn a_list_is_read_in_pages_without_gaps(site: &Site) {
    let estate = site.open().await;
    let count = PAGE_ROWS * 2 + 50;
    for id in 1..=count as i64 {
        insert(&estate, id, 1, None).await;
    }
    let ctx = operator(&estate);
    let (mut seen, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let asked = DatasourceFilter::default();
        let part = datasource_list(&estate, &ctx, &asked, false, after).await.unwrap();
        assert!(part.items.len() <= PAGE_ROWS);
        let ids: Vec<DatasourceId> = part.items.iter().map(|seen| seen.datasource.id).collect();
        assert!(ids.iter().all(|id| seen.insert(*id)), "an item was listed twice");
        pages += 1;
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (count, 3));
}

async fn hidden_secrets_are_not_decrypted(site: &Site) {
    let estate = site.open().await;
    insert(&estate, 1, 1, None).await;
    let view = caller(&estate, None, &[Permission::new(Noun::DATASOURCE, Action::VIEW)]).await;
    let listed = all_datasources(&estate, &view).await.unwrap();
    assert!(!listed[0].credentials && listed[0].datasource.details.password.is_none());
    // Callers who are allowed to see them get an error, unless they do not request them.
    let manage = caller(&estate, None, &[Permission::new(Noun::DATASOURCE, Action::MANAGE)]).await;
    assert!(all_datasources(&estate, &manage).await.is_err());
    let asked = DatasourceFilter::default();
    assert_eq!(datasource_list(&estate, &manage, &asked, false, None).await.unwrap().items.len(), 1);
}
