//! Attribution is a function of the facts: small sets of facts, in any order and some of them twice, are compared with
//! a naive model that sees all facts together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use landreeve_core::OpCtx;
use landreeve_delivery::Delivery;
use landreeve_delivery::changes::{
    CommitFacts, PullFacts, PullRef, commits_push, pull_services_set, pull_upsert,
};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_create};
use landreeve_delivery::repos::{RepoFacts, repo_upsert};
use landreeve_estate::args;
use landreeve_estate::ops::{ous, sign_in};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio::runtime::Handle;

use crate::support::{World, service, sha};

const REPOS: [&str; 2] = ["acme/shop", "acme/till"];
const SERVICES: [&str; 3] = ["web", "api", "job"];
const ENVIRONMENTS: [&str; 2] = ["production", "staging"];
const BRANCHES: [Option<&str>; 4] = [None, Some("main"), Some("develop"), Some("release")];
/// Three hours, so that some changes land more than a day after a deployment that names them.
const STEP: i64 = 3 * 3_600_000_000;
const DAY: i64 = 86_400_000_000;
/// 2026-01-01.
const BASE: i64 = 1_767_225_600_000_000;
const OPENED: i64 = BASE - DAY;
const SLOTS: usize = 64;

#[derive(Debug, Clone)]
struct Pull {
    repo: usize,
    number: i64,
    merged: Option<i64>,
    base: Option<&'static str>,
    sha: Option<String>,
    members: Vec<u32>,
    /// It is first reported as open, with another hash and other commits.
    early: Option<(u32, Vec<u32>)>,
}

#[derive(Debug, Clone)]
struct Commit {
    repo: usize,
    branch: Option<&'static str>,
    sha: u32,
    at: i64,
}

#[derive(Debug, Clone)]
enum Names {
    Nothing,
    Commit(String),
    List(Vec<String>),
}

#[derive(Debug, Clone)]
struct Deployment {
    reference: String,
    service: usize,
    environment: usize,
    repo: Option<usize>,
    at: i64,
    success: bool,
    names: Names,
    branch: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Fact {
    Early(Pull),
    Pull(Pull),
    Commit(Commit),
    Deployment(Deployment),
    Services { repo: usize, number: i64, services: Vec<usize> },
    Default { repo: usize, branch: &'static str },
}

/// The facts, each once, and the order in which they arrive, some of them twice.
#[derive(Debug, Clone)]
struct Case {
    facts: Vec<Fact>,
    order: Vec<usize>,
}

fn slot(slots: &mut std::vec::IntoIter<i64>) -> i64 {
    BASE + slots.next().expect("enough moments") * STEP
}

type PullSeed = (usize, bool, usize, Option<(u32, usize)>, Vec<u32>, Option<(u32, Vec<u32>)>);
type DeploySeed = (usize, usize, usize, usize, (u32, usize), Vec<(u32, usize)>, usize, bool);

/// Facts that interact are the ones that matter.
fn mostly_first(count: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 0..count]
}

fn pull_seed() -> impl Strategy<Value = PullSeed> {
    let numbers = || proptest::collection::vec(0..8_u32, 0..4);
    (
        mostly_first(2),
        proptest::bool::weighted(0.85),
        prop_oneof![2 => Just(0), 3 => 0..4_usize],
        proptest::option::weighted(0.85, (0..8_u32, 7..=40_usize)),
        numbers(),
        proptest::option::weighted(0.3, (0..8_u32, numbers())),
    )
}

fn deploy_seed() -> impl Strategy<Value = DeploySeed> {
    (
        mostly_first(3),
        mostly_first(2),
        mostly_first(2),
        0..6_usize,
        (0..8_u32, 7..=40_usize),
        proptest::collection::vec((0..8_u32, 7..=40_usize), 1..4),
        0..8_usize,
        proptest::bool::weighted(0.85),
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let facts = (
        proptest::collection::vec(pull_seed(), 1..6),
        proptest::collection::btree_map(
            (0..2_usize, 0..8_u32),
            proptest::collection::btree_set(0..4_usize, 1..3),
            0..6,
        ),
        proptest::collection::vec(deploy_seed(), 2..9),
        proptest::collection::vec(
            (mostly_first(2), 1..6_i64, proptest::collection::vec(0..3_usize, 1..3)),
            0..3,
        ),
        proptest::option::weighted(0.25, (0..2_usize, prop_oneof![Just("develop"), Just("main")])),
        Just((0..SLOTS as i64).collect::<Vec<_>>()).prop_shuffle(),
    );
    let facts = facts.prop_map(|(pulls, commits, deploys, services, default, slots)| {
        let mut slots = slots.into_iter();
        let mut facts = Vec::new();
        for (number, seed) in (1..).zip(pulls) {
            facts.extend(pull_facts(number, seed, &mut slots));
        }
        for ((repo, sha), branches) in commits {
            let at = slot(&mut slots);
            let renamed = default.is_some_and(|(renamed, _)| renamed == repo);
            for branch in branches {
                // A commit pushed both with and without the branch's name is ambiguous once the default branch moves.
                if branch > 0 || !renamed {
                    facts.push(Fact::Commit(Commit { repo, branch: BRANCHES[branch], sha, at }));
                }
            }
        }
        for (at, seed) in deploys.into_iter().enumerate() {
            facts.push(deployment(at, seed, &mut slots));
        }
        for (repo, number, services) in services {
            facts.push(Fact::Services { repo, number, services });
        }
        facts.extend(default.map(|(repo, branch)| Fact::Default { repo, branch }));
        facts
    });
    facts.prop_flat_map(|facts| {
        let count = facts.len();
        let twice = proptest::collection::vec(0..count, 0..4);
        twice.prop_flat_map(move |twice| {
            let order: Vec<usize> = (0..count).chain(twice).collect();
            let facts = facts.clone();
            Just(order)
                .prop_shuffle()
                .prop_map(move |order| Case { order: earlier_first(&facts, order), facts: facts.clone() })
        })
    })
}

/// Merge commits are unique to a pull request; commits in them may be shared.
fn pull_facts(number: i64, seed: PullSeed, slots: &mut std::vec::IntoIter<i64>) -> Vec<Fact> {
    let (repo, merged, base, hash, members, early) = seed;
    let merged = merged.then(|| slot(slots));
    let sha = hash.map(|(own, length)| sha(own)[..length].to_owned());
    let early = early.filter(|_| sha.is_some());
    let pull = Pull { repo, number, merged, base: BRANCHES[base], sha, members, early };
    let first = pull.early.is_some().then(|| Fact::Early(pull.clone()));
    first.into_iter().chain([Fact::Pull(pull)]).collect()
}

fn deployment(at: usize, seed: DeploySeed, slots: &mut std::vec::IntoIter<i64>) -> Fact {
    let (service, environment, repo, names, (one, length), list, branch, success) = seed;
    let short = |(number, length): &(u32, usize)| sha(*number)[..*length].to_owned();
    let names = match names {
        0 => Names::Nothing,
        1..=3 => Names::Commit(sha(one)[..length].to_owned()),
        _ => Names::List(list.iter().map(short).collect()),
    };
    // A list does not need a repository.
    let repo = (length % 3 > 0 || !matches!(names, Names::List(_))).then_some(repo);
    Fact::Deployment(Deployment {
        reference: format!("d{at}"),
        service,
        environment,
        repo,
        // Most are later than most changes.
        at: slot(slots) + 16 * STEP + STEP / 2,
        success,
        names,
        branch: BRANCHES.get(branch).copied().flatten(),
    })
}

/// A pull request is reported as open before its final state is reported.
fn earlier_first(facts: &[Fact], mut order: Vec<usize>) -> Vec<usize> {
    for (early, fact) in facts.iter().enumerate() {
        if matches!(fact, Fact::Early(_)) {
            let last = early + 1;
            let first = order.iter().position(|at| *at == early || *at == last).expect("it exists");
            order[first] = early;
            order = order
                .iter()
                .enumerate()
                .filter(|(place, at)| *place == first || **at != early)
                .map(|(_, at)| *at)
                .collect();
            if !order.contains(&last) {
                order.push(last);
            }
        }
    }
    order
}

fn micros(at: i64) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap()
}

async fn tell(plane: &Delivery, ctx: &OpCtx, fact: &Fact) {
    match fact {
        Fact::Early(pull) => {
            let (own, members) = pull.early.clone().unwrap();
            let facts = PullFacts {
                base_ref: Some("somewhere".to_owned()).filter(|_| pull.base.is_some()),
                merge_commit_sha: Some(sha(own)),
                commit_shas: Some(members.into_iter().map(sha).collect()),
                ..PullFacts::default()
            };
            pull_upsert(plane, ctx, REPOS[pull.repo].to_owned(), pull.number, micros(OPENED), facts.into())
                .await
                .unwrap();
        }
        Fact::Pull(pull) => {
            let facts = PullFacts {
                base_ref: pull.base.map(str::to_owned),
                merged_at: pull.merged.map(micros),
                merge_commit_sha: pull.sha.clone(),
                commit_shas: Some(pull.members.iter().copied().map(sha).collect()),
                ..PullFacts::default()
            };
            pull_upsert(plane, ctx, REPOS[pull.repo].to_owned(), pull.number, micros(OPENED), facts.into())
                .await
                .unwrap();
        }
        Fact::Commit(commit) => {
            let facts = CommitFacts {
                sha: sha(commit.sha),
                committed_at: micros(commit.at),
                author_email: None,
                message: None,
                parents: Vec::new(),
            };
            let branch = commit.branch.map(str::to_owned);
            commits_push(plane, ctx, REPOS[commit.repo].to_owned(), branch, vec![facts].into())
                .await
                .unwrap();
        }
        Fact::Deployment(deployment) => {
            let (commit_sha, merge_commit_shas) = match deployment.names.clone() {
                Names::Nothing => (None, None),
                Names::Commit(sha) => (Some(sha), None),
                Names::List(list) => (None, Some(list)),
            };
            let facts = DeploymentFacts {
                deployed_at: Some(micros(deployment.at)),
                service: Some(service(SERVICES[deployment.service])),
                repository: deployment.repo.map(|repo| REPOS[repo].to_owned()),
                commit_sha,
                merge_commit_shas,
                integration_branch: deployment.branch.map(str::to_owned),
                environment: Some(ENVIRONMENTS[deployment.environment].to_owned()),
                success: Some(deployment.success),
                ..DeploymentFacts::default()
            };
            deployment_create(plane, ctx, Some(deployment.reference.clone()), facts.into()).await.unwrap();
        }
        Fact::Services { repo, number, services } => {
            let pull = PullRef::Number { repository: REPOS[*repo].to_owned(), number: *number };
            let services: Vec<_> = services.iter().map(|at| service(SERVICES[*at])).collect();
            pull_services_set(plane, ctx, pull, services.into(), false).await.unwrap();
        }
        Fact::Default { repo, branch } => {
            let facts = RepoFacts { default_branch: Some((*branch).to_owned()), ..RepoFacts::default() };
            repo_upsert(plane, ctx, REPOS[*repo].to_owned(), facts.into()).await.unwrap();
        }
    }
}

/// Change, service, environment, deployment.
type Attributed = BTreeSet<(String, String, String, String)>;

#[derive(Debug, Clone)]
struct Change {
    name: String,
    repo: usize,
    line: String,
    landed: Option<i64>,
    own: Option<String>,
    members: Vec<String>,
    services: Option<BTreeSet<usize>>,
    pull: bool,
}

/// All the facts, without an order.
struct Model {
    changes: Vec<Change>,
    deployments: Vec<Deployment>,
    defaults: BTreeMap<usize, &'static str>,
}

fn same(left: &str, right: &str) -> bool {
    left.starts_with(right) || right.starts_with(left)
}

impl Model {
    fn new(facts: &[Fact]) -> Model {
        let mut model = Model { changes: Vec::new(), deployments: Vec::new(), defaults: BTreeMap::new() };
        let mut bound: BTreeMap<(usize, i64), BTreeSet<usize>> = BTreeMap::new();
        for fact in facts {
            match fact {
                Fact::Default { repo, branch } => drop(model.defaults.insert(*repo, branch)),
                Fact::Services { repo, number, services } => {
                    bound.entry((*repo, *number)).or_default().extend(services)
                }
                Fact::Deployment(deployment) => model.deployments.push(deployment.clone()),
                Fact::Early(_) | Fact::Pull(_) | Fact::Commit(_) => {}
            }
        }
        for fact in facts {
            if let Fact::Pull(pull) = fact {
                let early = pull.early.is_some() && pull.base.is_some();
                let line = pull.base.map_or(String::new(), |base| model.line(pull.repo, base));
                assert!(!early || line != "somewhere");
                model.changes.push(Change {
                    name: format!("#{}", pull.number),
                    repo: pull.repo,
                    line,
                    landed: pull.merged,
                    own: pull.sha.clone(),
                    members: pull.members.iter().copied().map(sha).collect(),
                    services: bound.get(&(pull.repo, pull.number)).cloned(),
                    pull: true,
                });
            }
        }
        let pulls = model.changes.clone();
        let mut seen = BTreeSet::new();
        for fact in facts {
            let Fact::Commit(commit) = fact else { continue };
            let hash = sha(commit.sha);
            let line = commit.branch.map_or(String::new(), |branch| model.line(commit.repo, branch));
            let is_part = pulls
                .iter()
                .any(|pull| pull.repo == commit.repo && pull.landed.is_some() && pull.holds(&hash));
            if !is_part && seen.insert((commit.repo, line.clone(), commit.sha)) {
                model.changes.push(Change {
                    name: format!("{} {line}", commit.sha),
                    repo: commit.repo,
                    line,
                    landed: Some(commit.at),
                    own: Some(hash),
                    members: Vec::new(),
                    services: None,
                    pull: false,
                });
            }
        }
        model
    }

    fn line(&self, repo: usize, branch: &str) -> String {
        let default = self.defaults.get(&repo).copied().unwrap_or("main");
        if branch == default { String::new() } else { branch.to_owned() }
    }

    fn named(&self, repo: usize, hash: &str, wanted: Option<&str>) -> Option<&Change> {
        let found = self.changes.iter().filter(|change| change.repo == repo && change.holds(hash));
        found.min_by_key(|change| {
            let own = change.own.as_ref().is_some_and(|own| same(own, hash));
            let elsewhere = wanted.is_some_and(|wanted| change.line != wanted);
            (
                change.landed.is_none(),
                elsewhere,
                !own,
                !change.line.is_empty(),
                change.landed,
                change.line.clone(),
            )
        })
    }

    /// The line, and the position on it.
    fn place(&self, deployment: &Deployment) -> Option<(String, i64)> {
        let repo = deployment.repo?;
        let line = deployment.branch.map(|branch| self.line(repo, branch));
        match &deployment.names {
            Names::List(_) => None,
            Names::Nothing => Some((line.unwrap_or_default(), deployment.at)),
            Names::Commit(hash) => {
                let found = self.named(repo, hash, line.as_deref())?;
                let landed = found.landed?.min(deployment.at + DAY);
                Some((line.unwrap_or_else(|| found.line.clone()), landed))
            }
        }
    }

    fn covers(&self, deployment: &Deployment, change: &Change, landed: i64) -> bool {
        let elsewhere = deployment.repo.is_some_and(|repo| repo != change.repo);
        let other = change.services.as_ref().is_some_and(|services| !services.contains(&deployment.service));
        if !deployment.success || elsewhere || other {
            return false;
        }
        match (&deployment.names, deployment.repo) {
            (Names::List(list), Some(repo)) => list
                .iter()
                .any(|hash| self.named(repo, hash, None).is_some_and(|named| named.name == change.name)),
            (Names::List(list), None) => {
                change.pull && list.iter().any(|hash| change.own.as_ref().is_some_and(|own| same(own, hash)))
            }
            _ => self.place(deployment).is_some_and(|(line, until)| line == change.line && landed <= until),
        }
    }

    fn attributed(&self) -> Attributed {
        let mut found = Attributed::new();
        for change in &self.changes {
            let Some(landed) = change.landed else { continue };
            for (service, environment) in (0..3).flat_map(|service| (0..2).map(move |at| (service, at))) {
                let there = |deployment: &&Deployment| {
                    deployment.service == service && deployment.environment == environment
                };
                let covering = self.deployments.iter().filter(there);
                let covering = covering.filter(|deployment| self.covers(deployment, change, landed));
                if let Some(first) = covering.min_by_key(|deployment| deployment.at) {
                    found.insert((
                        format!("{} {}", REPOS[change.repo], change.name),
                        SERVICES[service].to_owned(),
                        ENVIRONMENTS[environment].to_owned(),
                        first.reference.clone(),
                    ));
                }
            }
        }
        found
    }
}

impl Change {
    fn holds(&self, hash: &str) -> bool {
        self.own.iter().chain(&self.members).any(|ours| same(ours, hash))
    }
}

async fn kept(world: &World, ctx: &OpCtx) -> Attributed {
    let sql = "SELECT r.name, c.number, c.sha, c.line, s.identifier, t.environment, d.reference_id \
               FROM delivery_change_deployments a JOIN delivery_changes c ON c.id = a.change_id \
               JOIN delivery_repos r ON r.id = c.repo_id JOIN delivery_targets t ON t.id = a.target_id \
               JOIN delivery_services s ON s.id = t.service_id AND s.id = a.service_id \
               JOIN delivery_deployments d ON d.id = a.deployment_id AND d.deployed_at = a.deployed_at \
               WHERE a.ou_id = $1";
    let rows = world.rows(sql, args![ctx.authority().ou()]).await;
    let attributed = rows.iter().map(|row| {
        let name = match row.int_opt(1).unwrap() {
            Some(number) => format!("#{number}"),
            None => {
                let sha = row.text(2).unwrap();
                format!("{} {}", u32::from_str_radix(&sha[7..], 16).unwrap(), row.text(3).unwrap())
            }
        };
        (
            format!("{} {name}", row.text(0).unwrap()),
            row.text(4).unwrap(),
            row.text(5).unwrap(),
            row.text(6).unwrap(),
        )
    });
    let all: Attributed = attributed.collect();
    assert_eq!(all.len(), rows.len(), "an attribution is duplicated");
    all
}

async fn one_case(world: &World, case: &Case) -> (Attributed, Attributed) {
    let estate = &world.kit.estate;
    let ou = ous::ou_create(estate, &world.ctx, None, format!("ou {}", estate.uuid()), String::new())
        .await
        .unwrap();
    let ctx = sign_in::system_in(estate, ou.id).await.unwrap();
    for at in &case.order {
        tell(&world.plane, &ctx, &case.facts[*at]).await;
    }
    (kept(world, &ctx).await, Model::new(&case.facts).attributed())
}

fn any_order_gives_the_same(world: &World, cases_wanted: u32) {
    let mut runner =
        TestRunner::new(Config { cases: cases_wanted, failure_persistence: None, ..Config::default() });
    let found_any = std::cell::Cell::new(0);
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&cases(), |case| {
            let (kept, wanted) = Handle::current().block_on(one_case(world, &case));
            found_any.set(found_any.get() + wanted.len());
            prop_assert_eq!(kept, wanted, "left: the store; right: the model");
            Ok(())
        })
    });
    if let Err(TestError::Fail(reason, case)) = &outcome {
        let facts: Vec<String> = case.order.iter().map(|at| format!("{:?}", case.facts[*at])).collect();
        panic!("{reason}\nin this order:\n{}", facts.join("\n"));
    }
    outcome.unwrap();
    assert!(
        found_any.get() > cases_wanted as usize / 4,
        "the generated facts are too sparse to prove anything: {}",
        found_any.get()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_the_same_on_sqlite() {
    let world = World::sqlite().await;
    any_order_gives_the_same(&world, 96);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_the_same_on_postgres() {
    let world = World::postgres().await;
    any_order_gives_the_same(&world, 32);
    world.kit.remove().await;
}
