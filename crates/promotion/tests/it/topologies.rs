//! Random topologies, strategies and points of failure, on both metadata stores: what must hold for each deployment.
//!
//! A trigger of the store records each step of each server, so that no test has to look at the right moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landreeve_core::Input;
use landreeve_core::ids::RunId;
use landreeve_estate::args;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_promotion::configuration::{
    Argument, Configuration, DeploymentType, RollbackScope, Script, Scripts, Strategy, VariablesOf,
    variables_put,
};
use landreeve_promotion::deployments::{Progress, Shown, State, Task, TaskState, deployment_cancel};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};
use landreeve_testkit::Kit;

use crate::deployments::{FIRST, SECOND, Stage};

const CASES: usize = 32;

#[tokio::test]
async fn sqlite() {
    invariants_hold(&Stage::new(Kit::new().await).await).await;
}

#[tokio::test]
async fn postgres() {
    let stage = Stage::new(Kit::postgres().await).await;
    invariants_hold(&stage).await;
    stage.kit.remove().await;
}

/// A generator of random numbers that gives the same ones each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((self.0 >> 33) % limit).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn pick(&mut self, from: &[String]) -> String {
        from[self.below(from.len())].clone()
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    None,
    /// This server cannot be deployed to.
    Node(String),
    /// The script fails when it moves this unit `out` or `back`.
    Script(&'static str, String),
    /// It is cancelled while this unit moves.
    Cancel(&'static str, String),
}

#[derive(Debug)]
struct Cluster {
    name: String,
    enabled: bool,
    /// Names, and whether they are enabled.
    servers: Vec<(String, bool)>,
}

impl Cluster {
    fn enabled_servers(&self) -> impl Iterator<Item = &String> {
        self.servers.iter().filter(|(_, enabled)| self.enabled && *enabled).map(|(name, _)| name)
    }
}

#[derive(Debug)]
struct Case {
    number: usize,
    clusters: Vec<Cluster>,
    no_downtime: bool,
    strategy: Strategy,
    rollback: Option<RollbackScope>,
    trouble: Trouble,
}

impl Case {
    fn random(number: usize, random: &mut Random) -> Case {
        let mut clusters = Vec::new();
        for at in 0..1 + random.below(3) {
            let server = |random: &mut Random, each: usize| {
                // The first one of all is enabled, so that there is something to deploy to.
                (format!("s{number}-{at}-{each}"), at + each == 0 || !random.one_in(5))
            };
            let servers = (0..1 + random.below(3)).map(|each| server(random, each)).collect();
            let enabled = at == 0 || !random.one_in(5);
            clusters.push(Cluster { name: format!("c{number}-{at}"), enabled, servers });
        }
        let strategy = if random.one_in(2) { Strategy::Half } else { Strategy::OneByOne };
        let rollback = match random.below(3) {
            0 => None,
            1 => Some(RollbackScope::FirstServer),
            _ => Some(RollbackScope::AllTouched),
        };
        let no_downtime = !random.one_in(4);
        let mut case = Case { number, clusters, no_downtime, strategy, rollback, trouble: Trouble::None };
        let word = if random.one_in(2) { "out" } else { "back" };
        let (units, servers) = (case.units(), case.servers());
        case.trouble = match random.below(7) {
            0 => Trouble::None,
            1 | 2 if no_downtime => Trouble::Script(word, random.pick(&units)),
            3 | 4 if no_downtime => Trouble::Cancel(word, random.pick(&units)),
            _ => Trouble::Node(random.pick(&servers)),
        };
        case
    }

    /// Servers that are deployed to, in their order.
    fn servers(&self) -> Vec<String> {
        self.clusters.iter().flat_map(Cluster::enabled_servers).cloned().collect()
    }

    /// Whether clusters are taken out of service as a whole.
    fn is_whole(&self) -> bool {
        self.clusters.iter().filter(|cluster| cluster.enabled_servers().next().is_some()).count() > 1
    }

    /// What is taken out of service as one.
    fn units(&self) -> Vec<String> {
        if !self.is_whole() {
            return self.servers();
        }
        let used = self.clusters.iter().filter(|cluster| cluster.enabled_servers().next().is_some());
        used.map(|cluster| cluster.name.clone()).collect()
    }

    /// The servers of a unit.
    fn members(&self, unit: &str) -> Vec<String> {
        match self.clusters.iter().find(|cluster| self.is_whole() && cluster.name == unit) {
            Some(cluster) => cluster.enabled_servers().cloned().collect(),
            None => vec![unit.to_owned()],
        }
    }

    /// How many units are out at the same time, group by group.
    fn groups(&self) -> Vec<usize> {
        let units = self.units().len();
        match self.strategy {
            Strategy::OneByOne => vec![1; units],
            Strategy::Half if units < 2 => vec![units],
            Strategy::Half => vec![units / 2, units - units / 2],
        }
    }

    fn last_group(&self) -> Vec<String> {
        let units = self.units();
        let last = self.groups().last().copied().unwrap_or_default();
        units[units.len() - last..].to_vec()
    }

    /// How many units may be out at the same time.
    fn most_out(&self) -> usize {
        self.groups().into_iter().max().unwrap_or_default()
    }

    async fn make(&self, stage: &Stage) -> EnvironmentId {
        let environment = stage.environment(&format!("e{}", self.number)).await;
        for cluster in &self.clusters {
            let id = stage.cluster(environment, &cluster.name, cluster.enabled).await;
            for (name, enabled) in &cluster.servers {
                stage.server(id, name, *enabled).await;
            }
            let variables = [("name".to_owned(), cluster.name.clone())].into();
            let of = VariablesOf::Cluster(id);
            variables_put(&stage.plane, &stage.ctx, of, Input::of(variables)).await.unwrap();
        }
        stage.configure(environment, self.configuration(stage)).await;
        environment
    }

    fn log(&self, stage: &Stage) -> std::path::PathBuf {
        stage.kit.path(&format!("log{}", self.number))
    }

    fn configuration(&self, stage: &Stage) -> Configuration {
        let (fails, waits) = match &self.trouble {
            Trouble::Script(word, unit) => (format!("{word} {unit}"), String::new()),
            Trouble::Cancel(word, unit) => (String::new(), format!("{word} {unit}")),
            Trouble::None | Trouble::Node(_) => (String::new(), String::new()),
        };
        let log = self.log(stage);
        let script = |word: &str| {
            let literal = |text: &str| Argument::Literal(text.to_owned());
            let arguments = vec![
                literal(word),
                Argument::Variable("name".to_owned()),
                literal(log.to_str().unwrap()),
                literal(&fails),
                literal(&waits),
            ];
            Some(Script { file: "move".to_owned(), arguments })
        };
        let kind = if self.no_downtime { DeploymentType::NoDowntime } else { DeploymentType::Simple };
        Configuration {
            deployment_type: kind,
            cluster_strategy: self.strategy,
            server_strategy: self.strategy,
            rollback_enabled: self.rollback.is_some(),
            rollback_scope: self.rollback.unwrap_or(RollbackScope::AllTouched),
            scripts: Scripts {
                disable_server: script("out"),
                enable_server: script("back"),
                disable_cluster: script("out"),
                enable_cluster: script("back"),
            },
            ..Configuration::default()
        }
    }
}

/// Logs a move, waits in one until the file is gone, and fails in one.
const MOVE: &str = "#!/bin/sh\necho \"$1 $2\" >> \"$3\"\n\
    while [ \"$1 $2\" = \"$5\" ] && [ -e \"$3.hold\" ]; do sleep 0.05; done\n[ \"$1 $2\" != \"$4\" ]\n";

/// Records each phase of each server.
async fn watch(stage: &Stage) {
    let dialect = stage.kit.estate.store().dialect();
    let table = dialect.pick(
        "CREATE TABLE test_phases (at INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id BIGINT NOT NULL, \
         server_name TEXT NOT NULL, phase TEXT NOT NULL)",
        "CREATE TABLE test_phases (at BIGSERIAL PRIMARY KEY, deployment_id BIGINT NOT NULL, \
         server_name TEXT NOT NULL, phase TEXT NOT NULL)",
    );
    let function = dialect.pick(
        "",
        "CREATE FUNCTION test_phase() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO test_phases \
         (deployment_id, server_name, phase) VALUES (NEW.deployment_id, NEW.server_name, NEW.phase); RETURN NEW; END'",
    );
    let trigger = dialect.pick(
        "CREATE TRIGGER test_phase AFTER UPDATE OF phase ON promotion_deployment_servers BEGIN INSERT INTO test_phases \
         (deployment_id, server_name, phase) VALUES (NEW.deployment_id, NEW.server_name, NEW.phase); END",
        "CREATE TRIGGER test_phase AFTER UPDATE OF phase ON promotion_deployment_servers FOR EACH ROW \
         EXECUTE FUNCTION test_phase()",
    );
    for sql in [table, function, trigger].into_iter().filter(|sql| !sql.is_empty()) {
        stage.kit.exec(sql, args![]).await;
    }
}

async fn invariants_hold(stage: &Stage) {
    watch(stage).await;
    stage.script("move", MOVE);
    stage.kit.start_planes().await;
    let first = stage.revision("First", FIRST).await;
    let second = stage.revision("Second", &SECOND.replace("${databases.d.x}", "x")).await;
    let mut random = Random(12);
    let mut seen = BTreeSet::new();
    for number in 0..CASES {
        let case = Case::random(number, &mut random);
        seen.insert(match case.trouble {
            Trouble::None => "none",
            Trouble::Node(_) => "node",
            Trouble::Script(..) => "script",
            Trouble::Cancel(..) => "cancel",
        });
        let environment = case.make(stage).await;
        let done = deploy(stage, &case, environment, [first, second]).await;
        done.check(&case);
    }
    assert_eq!(seen.len(), 4, "every trouble was tried: {seen:?}");
}

/// What became of a case.
struct Done {
    ended: Progress,
    /// Server and phase, in the order in which they were written.
    history: Vec<(String, String)>,
    /// The moves of units.
    log: String,
    /// The servers whose version is another than before.
    changed: BTreeSet<String>,
    /// How many services were told to be deployed.
    told: usize,
}

async fn deploy(stage: &Stage, case: &Case, environment: EnvironmentId, revisions: [RevisionId; 2]) -> Done {
    let servers = case.servers();
    if let Trouble::Node(server) = &case.trouble {
        stage.apply(server, &format!("{FIRST} CREATE VIEW v AS SELECT id FROM i")).await;
    }
    let mut before = Vec::new();
    for server in &servers {
        before.push(stage.version(server).await);
    }
    let log = case.log(stage);
    let hold = log.with_extension("hold");
    std::fs::write(&hold, "").unwrap();
    let run = stage.start(environment, &revisions).await;
    if let Trouble::Cancel(word, unit) = &case.trouble {
        cancel_in(stage, run.id, &log, &format!("{word} {unit}")).await;
    }
    std::fs::remove_file(&hold).unwrap();
    let ended = stage.ended(&run).await;
    let mut changed = BTreeSet::new();
    for (server, before) in servers.iter().zip(&before) {
        if stage.version(server).await != *before {
            changed.insert(server.clone());
        }
    }
    let sql =
        format!("SELECT server_name, phase FROM test_phases WHERE deployment_id = {} ORDER BY at", run.id);
    let rows = stage.kit.rows(&sql).await;
    Done {
        ended,
        history: rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect(),
        log: std::fs::read_to_string(&log).unwrap_or_default(),
        changed,
        told: stage.told(run.id).await,
    }
}

/// Cancels a deployment in the middle of a move.
async fn cancel_in(stage: &Stage, id: RunId, log: &std::path::Path, wanted: &str) {
    let wait = async |time: Duration| {
        run_wait(&stage.kit.estate, &stage.ctx, RunRef::Id(id), &[], time).await.unwrap()
    };
    while !std::fs::read_to_string(log).unwrap_or_default().lines().any(|line| line == wanted) {
        let run = wait(Duration::from_millis(20)).await;
        assert!(!run.state.is_final(), "it ended before {wanted}: {run:?}");
    }
    deployment_cancel(&stage.plane, &stage.ctx, id).await.unwrap();
    // The executor learns of it.
    let _run = wait(Duration::from_millis(1_500)).await;
}

impl Done {
    fn check(&self, case: &Case) {
        let what = format!("{case:#?}\n{}\n{:?}\n{:#?}", self.log, self.history, self.ended);
        self.state(case, &what);
        self.phases(case, &what);
        self.moves(case, &what);
        self.undone(case, &what);
        let begun = |task: &Task| task.kind == "VQL" && task.started_at.is_some();
        assert_eq!(self.told, usize::from(self.ended.tasks.iter().any(begun)), "{what}");
        let vql = self.ended.tasks.iter().filter(|task| task.kind == "VQL").count();
        assert_eq!(vql, case.servers().len() * 2, "no task for what is disabled: {what}");
    }

    fn succeeded(&self) -> bool {
        matches!(self.ended.deployment.state, Shown::Ended(State::Ok))
    }

    fn state(&self, case: &Case, what: &str) {
        let Shown::Ended(state) = self.ended.deployment.state else { panic!("{what}") };
        let expected = match &case.trouble {
            Trouble::None => State::Ok,
            Trouble::Node(_) | Trouble::Script(..) => State::Error,
            // Nothing follows the return of the last group.
            Trouble::Cancel("back", unit) if case.last_group().contains(unit) => State::Ok,
            Trouble::Cancel(..) => State::Cancelled,
        };
        assert_eq!(state, expected, "{what}");
        let all: BTreeSet<String> = case.servers().into_iter().collect();
        assert!(!self.succeeded() || self.changed == all, "{what}");
        if let Trouble::Node(server) = &case.trouble {
            assert!(!self.changed.contains(server), "all of the revisions, or nothing: {what}");
        }
    }

    /// Never two servers at once; each is out before it changes; after a failure no other server changes.
    fn phases(&self, case: &Case, what: &str) {
        let mut now: BTreeMap<&str, &str> = BTreeMap::new();
        let mut undoing = false;
        for (server, phase) in &self.history {
            let before = now.insert(server, phase).unwrap_or("planned");
            let allowed: &[&str] = match phase.as_str() {
                "out" => &["planned"],
                "applying" if case.no_downtime => &["out"],
                "applying" => &["planned"],
                "applied" | "failed" => &["applying"],
                "rolled_back" => &["applied", "back"],
                "back" => &["out", "applied", "failed"],
                other => panic!("{other}: {what}"),
            };
            assert!(allowed.contains(&before), "{server} from {before} to {phase}: {what}");
            assert!(now.values().filter(|phase| **phase == "applying").count() <= 1, "two at once: {what}");
            assert!(!(undoing && phase == "applying"), "{server} after a failure: {what}");
            undoing |= matches!(phase.as_str(), "failed" | "rolled_back");
        }
    }

    /// Never more than the group out; nothing leaves or returns twice; what is out at the end is named.
    fn moves(&self, case: &Case, what: &str) {
        let (units, most) = (case.units(), case.most_out());
        let failing = match &case.trouble {
            Trouble::Script(word, unit) => format!("{word} {unit}"),
            _ => String::new(),
        };
        assert!(case.no_downtime || self.log.is_empty(), "{what}");
        let (mut out, mut returned): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for line in self.log.lines() {
            let (word, unit) = line.split_once(' ').unwrap();
            assert!(units.iter().any(|known| known == unit), "{line}: {what}");
            if word == "out" {
                // If the script failed, it counts as out.
                assert!(!out.contains(&unit) && !returned.contains(&unit), "{line}: {what}");
                out.push(unit);
            } else {
                assert!(out.contains(&unit), "{line}: {what}");
                returned.push(unit);
                if line != failing {
                    out.retain(|known| *known != unit);
                }
            }
            assert!(out.len() <= most, "{line}: more than {most} out: {what}");
        }
        let message = &self.ended.deployment.message;
        for unit in &out {
            assert!(message.contains("out of service: ") && names(message, unit), "{unit} is out: {what}");
        }
        assert!(!out.is_empty() || !message.contains("out of service"), "{what}");
        assert!(!self.succeeded() || out.is_empty(), "{what}");
    }

    /// Changed servers are as the configuration says, and none of them returned after the failure.
    fn undone(&self, case: &Case, what: &str) {
        if self.succeeded() {
            return;
        }
        let reached = |wanted: &str| -> BTreeSet<String> {
            self.history
                .iter()
                .filter(|(_, phase)| phase == wanted)
                .map(|(server, _)| server.clone())
                .collect()
        };
        let (touched, applied, undone) = (reached("applying"), reached("applied"), reached("rolled_back"));
        assert_eq!(self.changed, &applied - &undone, "{what}");
        match case.rollback {
            None => assert!(undone.is_empty(), "{what}"),
            Some(RollbackScope::AllTouched) => assert_eq!(undone, applied, "{what}"),
            Some(RollbackScope::FirstServer) => {
                assert!(undone.is_empty() || (touched.len() == 1 && undone == applied), "{what}");
            }
        }
        let message = &self.ended.deployment.message;
        for (servers, part) in [(&undone, "rolled back: "), (&self.changed, "left with the new version: ")] {
            assert_eq!(message.contains(part), !servers.is_empty(), "{part}: {what}");
            assert!(servers.iter().all(|server| names(message, server)), "{part}: {what}");
        }
        let rollbacks = self.ended.tasks.iter().filter(|task| task.kind == "ROLLBACK").count();
        assert_eq!(rollbacks, undone.len(), "{what}");
        self.returned(case, what);
    }

    /// A unit that returned after the failure has only servers that are as they were.
    fn returned(&self, case: &Case, what: &str) {
        let planned = || self.ended.tasks.iter().filter(|task| task.kind != "ROLLBACK");
        // A cancel is at the first task that was left out.
        let stopped = planned().find(|task| matches!(task.state, TaskState::Error | TaskState::Skipped));
        let stopped = stopped.map_or(i64::MAX, |task| task.position);
        for task in planned().filter(|task| task.position > stopped && task.state == TaskState::Ok) {
            let unit = task.server.as_ref().or(task.cluster.as_ref()).map(|(_, name)| name.as_str());
            let members = case.members(unit.unwrap());
            assert!(task.name.starts_with("Enable "), "{} after a failure: {what}", task.name);
            assert!(
                members.iter().all(|server| !self.changed.contains(server)),
                "{} with the new version: {what}",
                task.name
            );
        }
    }
}

/// Whether a message has a name, and not only one that begins with it.
fn names(message: &str, name: &str) -> bool {
    message.split([' ', ',', ';']).any(|word| word == name)
}
