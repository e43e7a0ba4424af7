//! What a caller sees of random trees with random grants, compared with a very simple model.

use landreeve_core::ids::{AuditId, DatasourceId, OuId, RunId};
use landreeve_core::{Action, Authority, Grant, Noun, Page, Permission, Scope};
use landreeve_estate::Estate;
use landreeve_estate::ops::audit::audit_list;
use landreeve_estate::ops::datasources::{
    AgentChange, agent_create, datasource_create, datasource_for_use, datasource_get,
};
use landreeve_estate::ops::keys::{NewKey, key_create};
use landreeve_estate::ops::runs::{RunRef, run_get, run_list, submit};
use landreeve_estate::ops::sign_in::{by_key, operator};
use landreeve_estate::ops::users::grant;
use landreeve_estate::ops::{Api, GrantTarget, NewGrant, Ou, RunFilter, Subject};
use landreeve_estate::runs::NewRun;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::keys::unit;
use crate::secrets::postgres_details;
use crate::support::QUERY;
use crate::support::{Site, all_agents, all_datasources, caller, origin};

conformance![nothing_from_invisible_units_is_shown];

const NOUNS: [Noun; 3] = [Noun::DATASOURCE, Noun::RUN, Noun::AUDIT];

/// Units are numbered; each has a parent with a smaller number, and 0 is the top.
#[derive(Debug, Clone)]
struct Plan {
    parents: Vec<usize>,
    grants: Vec<(usize, usize, Place)>,
    here: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Below(usize),
    /// The resource in this unit.
    Thing(usize),
}

const UNITS: usize = 6;

fn plan() -> impl Strategy<Value = Plan> {
    let parents = proptest::collection::vec(any::<usize>(), UNITS - 1).prop_map(|raw| {
        let rest = raw.into_iter().enumerate().map(|(index, raw)| raw % (index + 1));
        std::iter::once(0).chain(rest).collect::<Vec<_>>()
    });
    let place = prop_oneof![3 => (0..UNITS).prop_map(Place::Below), 1 => (0..UNITS).prop_map(Place::Thing)];
    let grants = proptest::collection::vec((0..NOUNS.len(), 0..Action::SHARED.len(), place), 0..5);
    (parents, grants, 0..UNITS).prop_map(|(parents, grants, here)| Plan { parents, grants, here })
}

impl Plan {
    fn is_below(&self, unit: usize, top: usize) -> bool {
        let mut at = unit;
        while at != top {
            if at == 0 {
                return false;
            }
            at = self.parents[at];
        }
        true
    }

    fn may(&self, noun: Noun, action: Action, unit: usize) -> bool {
        let holds = |(given, held, place): &(usize, usize, Place)| {
            let held = Action::SHARED[*held];
            NOUNS[*given] == noun
                && (held == action || held == Action::MANAGE)
                && match place {
                    Place::Below(top) => self.is_below(unit, *top),
                    Place::Thing(thing) => *thing == unit,
                }
        };
        self.is_below(unit, self.here) && self.grants.iter().any(holds)
    }

    /// The paths of the units, as the store would create them.
    fn paths(&self) -> Vec<String> {
        let mut paths = vec!["/1/".to_owned()];
        for unit in 1..self.parents.len() {
            paths.push(format!("{}{}/", paths[self.parents[unit]], unit * 11));
        }
        paths
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn authority_agrees_with_the_model() {
    let mut runner = TestRunner::new(config(2_000));
    let checked = runner.run(&plan(), |plan| {
        let paths = plan.paths();
        let grants = plan.grants.iter().map(|(noun, action, place)| Grant {
            permission: Permission::new(NOUNS[*noun], Action::SHARED[*action]),
            scope: match place {
                Place::Below(top) => Scope::Subtree(paths[*top].clone()),
                Place::Thing(unit) => Scope::Resources(vec![*unit as i64]),
            },
        });
        let authority = Authority::new(grants.collect(), OuId(1), paths[plan.here].clone());
        for noun in NOUNS {
            for action in Action::SHARED {
                for (unit, path) in paths.iter().enumerate() {
                    let said = authority.allows(Permission::new(noun, action), path, unit as i64);
                    prop_assert_eq!(said, plan.may(noun, action, unit), "{:?} {:?} {}", noun, action, unit);
                }
            }
        }
        Ok(())
    });
    checked.unwrap();
}

/// A tree in the store, with a datasource, an agent, a run and an audit event in each unit.
struct World {
    units: Vec<Ou>,
    datasources: Vec<DatasourceId>,
    runs: Vec<RunId>,
    agents: Vec<String>,
}

async fn world(estate: &Estate, plan: &Plan) -> World {
    let mut world =
        World { units: Vec::new(), datasources: Vec::new(), runs: Vec::new(), agents: Vec::new() };
    for (index, parent) in plan.parents.iter().enumerate() {
        let name = format!("unit {}", estate.uuid());
        let parent = if index == 0 { None } else { Some(&world.units[*parent]) };
        let made = unit(estate, parent, &name).await;
        let manage = Permission::new(Noun::DATASOURCE, Action::MANAGE);
        let ctx = caller(estate, Some(made.uuid), &[manage]).await;
        let (agent, _) =
            agent_create(estate, &ctx, AgentChange { name: Some("agent".into()), enabled: None })
                .await
                .unwrap();
        let source =
            datasource_create(estate, &ctx, postgres_details("source"), vec![agent.id]).await.unwrap();
        let run = submit(estate, &operator(estate), NewRun::new(&QUERY, made.id, "{}")).await.unwrap();
        world.units.push(made);
        world.datasources.push(source.id);
        world.runs.push(run.id);
        world.agents.push(agent.public_key);
    }
    world
}

async fn nothing_from_invisible_units_is_shown(site: &Site) {
    let estate = site.open().await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut runner = TestRunner::new(config(16));
        runner.run(&plan(), |plan| {
            runtime.block_on(check(&estate, &plan));
            Ok(())
        })
    })
    .unwrap();
}

async fn check(estate: &Estate, plan: &Plan) {
    let world = world(estate, plan).await;
    let new = NewKey {
        api: Api::Analytics,
        name: "key".into(),
        ou: Some(world.units[plan.here].uuid),
        user: None,
        grants: Vec::new(),
        labels: Vec::new(),
    };
    let (key, secret) = key_create(estate, &operator(estate), new).await.unwrap();
    // Events of each unit in order, because nothing else identifies them.
    let given = plan.grants.iter().map(|(noun, action, place)| {
        let target = match place {
            Place::Below(top) => GrantTarget::Subtree(world.units[*top].id),
            Place::Thing(unit) => GrantTarget::Resource(match NOUNS[*noun] {
                Noun::DATASOURCE => world.datasources[*unit].0,
                Noun::RUN => world.runs[*unit].0,
                _ => -1,
            }),
        };
        NewGrant::Permission(Permission::new(NOUNS[*noun], Action::SHARED[*action]), target)
    });
    grant(estate, &operator(estate), Subject::Key(key.id), given.collect()).await.unwrap();
    let ctx = by_key(estate, Api::Analytics, secret.reveal(), None, origin()).await.unwrap();

    let all: Vec<usize> = (0..UNITS).collect();
    let may = |noun, action| -> Vec<usize> {
        all.iter().copied().filter(|unit| plan.may(noun, action, *unit)).collect()
    };
    let shown = may(Noun::DATASOURCE, Action::VIEW);
    let listed = all_datasources(estate, &ctx).await.unwrap_or_default();
    let listed: Vec<DatasourceId> = listed.iter().map(|seen| seen.datasource.id).collect();
    let wanted: Vec<DatasourceId> = shown.iter().map(|unit| world.datasources[*unit]).collect();
    assert_eq!(listed, wanted, "datasources of {plan:?}");
    let listed = all_agents(estate, &ctx).await.unwrap_or_default();
    let listed: Vec<&String> = listed.iter().map(|agent| &agent.public_key).collect();
    let wanted: Vec<&String> = shown.iter().map(|unit| &world.agents[*unit]).collect();
    assert_eq!(listed, wanted, "agents of {plan:?}");
    for unit in &all {
        let id = world.datasources[*unit];
        let got = datasource_get(estate, &ctx, id).await;
        assert_eq!(got.is_ok(), plan.may(Noun::DATASOURCE, Action::VIEW, *unit), "{plan:?} {unit}");
        if let Ok(seen) = got {
            assert_eq!(seen.credentials, plan.may(Noun::DATASOURCE, Action::MANAGE, *unit));
        }
        let used = datasource_for_use(estate, &ctx, id).await;
        assert_eq!(used.is_ok(), plan.may(Noun::DATASOURCE, Action::USE, *unit), "{plan:?} {unit}");
        let got = run_get(estate, &ctx, RunRef::Id(world.runs[*unit]), &[]).await;
        assert_eq!(got.is_ok(), plan.may(Noun::RUN, Action::VIEW, *unit), "{plan:?} {unit}");
    }
    let page = run_list(estate, &ctx, &RunFilter::default(), Page::first(1_000)).await;
    let (listed, total) = page.map_or((Vec::new(), 0), |page| (page.items, page.total));
    let mut listed: Vec<RunId> = listed.into_iter().map(|run| run.id).collect();
    assert_eq!(listed.len() as u64, total, "the total counts what is shown");
    listed.sort();
    let wanted: Vec<RunId> = may(Noun::RUN, Action::VIEW).iter().map(|unit| world.runs[*unit]).collect();
    assert_eq!(listed, wanted, "runs of {plan:?}");
    trail(estate, plan, &world, &ctx).await;
}

async fn trail(estate: &Estate, plan: &Plan, world: &World, ctx: &landreeve_core::OpCtx) {
    let page = audit_list(estate, ctx, Page::first(1_000)).await;
    let (items, total) = page.map_or((Vec::new(), 0), |page| (page.items, page.total));
    assert_eq!(items.len() as u64, total);
    let mut seen: Vec<(OuId, AuditId)> = items.iter().map(|event| (event.ou, event.id)).collect();
    seen.dedup_by_key(|(ou, _)| *ou);
    for (ou, id) in seen {
        let unit = world.units.iter().position(|unit| unit.id == ou);
        let unit = unit.unwrap_or_else(|| panic!("event {id} of a unit outside the tree"));
        let below = plan.grants.iter().any(|(noun, action, place)| {
            NOUNS[*noun] == Noun::AUDIT
                && Action::SHARED[*action] != Action::USE
                && matches!(place, Place::Below(top) if plan.is_below(unit, *top))
        });
        assert!(below && plan.is_below(unit, plan.here), "event {id} of unit {unit} in {plan:?}");
    }
}
