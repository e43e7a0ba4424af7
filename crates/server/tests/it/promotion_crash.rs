//! SIGKILL and SIGTERM of the server in each phase of a deployment: it ends, says what is where, leaves no server in service
//! that should be out, is recorded once, and the environment accepts the next one.
//!
//! A phase lasts as long as a script of the load balancer waits for a file.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Reply, Server, pause, postgres_database, reply};

/// Runs each case with the metadata in SQLite and in PostgreSQL.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Stage::new(super::Server::start()).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let (_, address) = super::postgres_database().await;
                let server = super::Server::start_with(&["--store", &address.url]);
                super::$name(super::Stage::new(server).await).await;
            })*
        }
    };
}

on_both_stores![
    a_killed_deployment_ends_and_says_what_is_where,
    a_script_of_a_killed_server_ends_when_it_starts_again,
    a_deployment_that_waits_for_approval_still_does,
    a_queued_deployment_starts_when_the_one_before_is_undone,
    that_of_another_user_too,
    a_disabled_submitter_does_not_prevent_the_undoing,
    a_stopping_server_lets_a_deployment_end,
    a_deployment_that_does_not_end_in_time_is_undone_by_the_next_start,
];

/// Needs no source. The second fails on a server that has the view already.
const FIRST: &str = "CREATE OR REPLACE DATABASE d 'Test';\nCONNECT DATABASE d;\n\
    CREATE OR REPLACE INTERFACE VIEW i (id:long, name:text);\n";
const SECOND: &str = "CONNECT DATABASE d;\nCREATE VIEW v AS SELECT id FROM i;\n";

/// Moves a server out of service or back: logs it, and waits as long as the file `hold MOVE` exists. It ends with the test,
/// because the files are removed with the data directory.
const MOVE: &str = "#!/bin/sh\nmove=\"$1 ${2##*-}\"\necho $$ > \"$3/process $move\"\necho \"$move\" >> \"$3/log\"\n\
    while [ -e \"$3/hold $move\" ]; do sleep 0.05; done\n";

const SERVERS: [&str; 3] = ["a", "b", "c"];

struct Stage {
    server: Server,
    http: reqwest::Client,
    /// The administrator's cookie.
    session: String,
    /// FIRST and SECOND.
    revisions: [i64; 2],
}

/// An environment with one cluster of three servers: `NAME-a`, `NAME-b`, `NAME-c`.
struct Place {
    id: i64,
    name: String,
    /// Of the log, and of the files that moves wait for.
    folder: PathBuf,
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is not a number"))
}

impl Stage {
    async fn new(server: Server) -> Stage {
        server.wait_for_sample();
        let scripts = server.data_dir.join("scripts");
        fs::create_dir_all(&scripts).unwrap();
        fs::write(scripts.join("move"), MOVE).unwrap();
        for path in [scripts.clone(), scripts.join("move")] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let http = reqwest::Client::new();
        let mut stage = Stage { server, http, session: String::new(), revisions: [0; 2] };
        stage.sign_in().await;
        for (at, (name, text)) in [("First", FIRST), ("Second", SECOND)].into_iter().enumerate() {
            let script = stage.file("revision.vql", text);
            stage.server.say(&["revision", "create", name, "--vql", &script]);
            let newest = stage.get("/revisions?count=1").await["revisions"][0].clone();
            assert_eq!(newest["name"], name);
            stage.revisions[at] = number(&newest["id"]);
        }
        stage
    }

    async fn sign_in(&mut self) {
        let login = format!("{}/solution-manager/login", self.server.address);
        let answer = reply(self.http.get(login).basic_auth("admin", Some(PASSWORD))).await;
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        self.session = cookie.split(';').next().unwrap().to_owned();
    }

    async fn restart(&mut self) {
        self.server.restart();
        self.sign_in().await;
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.server.data_dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `user` has the same password as the administrator, whose session is used otherwise.
    async fn ask(&self, user: Option<&str>, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self.http.request(method, format!("{}/solution-manager{path}", self.server.address));
        let request = match user {
            Some(name) => request.basic_auth(name, Some(PASSWORD)),
            None => request.header("Cookie", &self.session),
        };
        reply(match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        })
        .await
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(None, Method::GET, path, None).await.expect(200)
    }

    async fn made(&self, path: &str, body: Value) -> i64 {
        number(&self.ask(None, Method::POST, path, Some(&body)).await.expect(201)["id"])
    }

    /// Takes servers out of service as the load balancer's scripts do; `more` replaces the other defaults.
    async fn place(&self, name: &str, more: Value) -> Place {
        let folder = self.server.data_dir.join(format!("place-{name}"));
        fs::create_dir(&folder).unwrap();
        let id = self.made("/environments", json!({ "name": name })).await;
        let cluster = self.made("/clusters", json!({ "name": "main", "environmentId": id })).await;
        for server in SERVERS {
            let named = format!("{name}-{server}");
            self.made("/servers", json!({ "name": named, "urlIP": "embedded", "clusterId": cluster })).await;
        }
        let script = |word: &str| {
            let folder = folder.to_str().unwrap();
            let arguments = json!([{ "literal": word }, { "variable": "name" }, { "literal": folder }]);
            json!({ "file": "move", "arguments": arguments })
        };
        let mut configuration = json!({
            "deploymentType": "NO_DOWNTIME",
            "scripts": { "disableServer": script("out"), "enableServer": script("back") },
        });
        configuration.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/environments/{id}/deploymentConfiguration");
        self.ask(None, Method::PUT, &path, Some(&configuration)).await.expect(200);
        Place { id, name: name.to_owned(), folder }
    }

    /// Makes SECOND fail on a server.
    fn block(&self, place: &Place, server: &str) {
        let script = self.file("blocker.vql", &format!("{FIRST}{SECOND}"));
        self.server.say(&["vql", "run", &script, "--node", &place.of(server)]);
    }

    async fn start(&self, user: Option<&str>, place: &Place, revisions: &[i64]) -> i64 {
        let body = json!({ "revisionIds": revisions, "environmentId": place.id, "description": "crash" });
        let started = self.ask(user, Method::POST, "/deployments", Some(&body)).await.expect(200);
        number(&started["deploymentId"])
    }

    async fn progress(&self, id: i64) -> Value {
        self.get(&format!("/deployments/{id}/progress?states=extended")).await
    }

    /// Waits for the end, at which every task has ended too.
    async fn ended(&self, id: i64) -> Value {
        let mut percent = 0;
        for _ in 0..1_200 {
            let found = self.progress(id).await;
            let now = number(&found["progress"]);
            assert!(now >= percent, "from {percent} to {now}: {found}");
            percent = now;
            if !["PENDING", "QUEUED", "IN_PROGRESS"].map(Value::from).contains(&found["state"]) {
                assert_eq!(percent, 100, "{found}");
                for task in tasks(&found) {
                    let ended = !["PENDING", "IN_PROGRESS"].map(Value::from).contains(&task["state"]);
                    assert!(ended && task["endDate"].is_string(), "{task}");
                }
                return found;
            }
            pause(Duration::from_millis(50));
        }
        panic!("the deployment {id} does not end: {}", self.progress(id).await);
    }

    /// The version that queries on a server read; 0 if it is empty.
    fn version(&self, node: &str) -> i64 {
        let said = self.server.say(&["vql", "history", "--node", node, "--format", "json"]);
        let found: Value = serde_json::from_str(&said).unwrap();
        let current = found.as_array().unwrap().iter().find(|version| version["current"] == true);
        current.map_or(0, |version| number(&version["version"]))
    }

    fn versions(&self, place: &Place) -> [i64; 3] {
        SERVERS.map(|server| self.version(&place.of(server)))
    }

    /// The next deployment of the environment, which nothing of the last one prevents.
    async fn goes_on(&self, place: &Place) -> i64 {
        let id = self.start(None, place, &self.revisions[..1]).await;
        assert_eq!(self.ended(id).await["state"], "OK");
        id
    }

    /// What delivery has of promotions: by reference, whether they succeeded. Waits until it has heard of one.
    async fn recorded(&self, last: i64) -> BTreeMap<String, Vec<bool>> {
        let client = self.server.client(&self.server.key());
        let all = client.get("/cluvio/datasources").await.expect(200);
        let mut sources = all["data"].as_array().unwrap().iter();
        let source = sources.find(|one| one["attributes"]["database_type"] == "landreeve_delivery").unwrap();
        let source = source["id"].as_str().unwrap();
        for _ in 0..400 {
            let sql = "select reference_id, success from dora_deployments order by reference_id";
            let data = client.query(source, sql).await;
            let mut found: BTreeMap<String, Vec<bool>> = BTreeMap::new();
            for row in data["rows"].as_array().unwrap() {
                let reference = row[0].as_str().unwrap().to_owned();
                found.entry(reference).or_default().push(row[1].as_bool().unwrap());
            }
            if found.contains_key(&reference(last)) {
                return found;
            }
            pause(Duration::from_millis(50));
        }
        panic!("the deployment {last} was not recorded");
    }

    /// Each of these was recorded once, or not at all.
    async fn are_recorded(&self, expected: &[(i64, Option<bool>)]) {
        let found = self.recorded(expected.last().unwrap().0).await;
        let wanted = expected.iter().filter_map(|(id, success)| Some((reference(*id), vec![(*success)?])));
        let wanted: BTreeMap<String, Vec<bool>> = wanted.collect();
        assert_eq!(found, wanted);
    }
}

impl Place {
    fn of(&self, server: &str) -> String {
        format!("{}-{server}", self.name)
    }

    fn hold(&self, moves: &[&str]) {
        for one in moves {
            fs::write(self.folder.join(format!("hold {one}")), "").unwrap();
        }
    }

    fn let_go(&self, moves: &[&str]) {
        for one in moves {
            fs::remove_file(self.folder.join(format!("hold {one}"))).unwrap();
        }
    }

    /// The moves so far.
    fn moves(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Waits until a move has begun.
    fn reached(&self, wanted: &str) {
        for _ in 0..1_200 {
            if self.moves().iter().any(|one| one == wanted) {
                return;
            }
            pause(Duration::from_millis(25));
        }
        panic!("{wanted:?} does not begin: {:?}", self.moves());
    }

    /// The message of a deployment, with the short names of the servers.
    fn message(&self, found: &Value) -> String {
        found["message"].as_str().unwrap_or_default().replace(&format!("{}-", self.name), "")
    }

    /// It ended with an error after a crash, and its last task says what is where.
    #[track_caller]
    fn recovered(&self, found: &Value, message: &str) {
        assert_eq!((&found["state"], self.message(found).as_str()), (&json!("ERROR"), message), "{found:#}");
        let last = tasks(found).last().unwrap();
        assert_eq!((&last["deploymentExecutionType"], &last["state"]), (&json!("RECOVERY"), &json!("ERROR")));
        assert_eq!(last["output"], format!(" - {}", found["message"].as_str().unwrap()));
    }
}

/// One for each virtual database; the scripts name only `d`.
fn reference(deployment: i64) -> String {
    format!("landreeve:promotion:{deployment}:d")
}

fn tasks(found: &Value) -> &Vec<Value> {
    found["tasks"].as_array().unwrap()
}

/// When a server is killed, and what is left at the end.
struct Phase {
    what: &'static str,
    half: bool,
    rolls_back: bool,
    /// This server cannot be deployed to.
    blocked: Option<&'static str>,
    /// Moves that do not end.
    holds: &'static [&'static str],
    /// It is killed when this move has begun, and before that it may be cancelled.
    at: &'static str,
    cancelled: bool,
    /// It is killed again when this move of the recovery has begun.
    again_at: Option<&'static str>,
    moves: &'static [&'static str],
    versions: [i64; 3],
    message: &'static str,
}

/// One server after the other.
const ONE: Phase = Phase {
    what: "",
    half: false,
    rolls_back: true,
    blocked: None,
    holds: &[],
    at: "",
    cancelled: false,
    again_at: None,
    moves: &[],
    versions: [0; 3],
    message: "",
};

const PHASES: [Phase; 10] = [
    Phase {
        what: "before anything is applied",
        holds: &["out a"],
        at: "out a",
        moves: &["out a"],
        message: "the server stopped while it was deploying; possibly out of service: the server a",
        ..ONE
    },
    Phase {
        what: "a server is out and unchanged, and the next one leaves",
        half: true,
        holds: &["out c"],
        at: "out c",
        moves: &["out a", "back a", "out b", "out c", "back b"],
        message: "the server stopped while it was deploying; rolled back: a; possibly out of service: the server c",
        ..ONE
    },
    Phase {
        what: "a changed server returns",
        holds: &["back a"],
        at: "back a",
        moves: &["out a", "back a"],
        message: "the server stopped while it was deploying; rolled back: a; possibly out of service: the server a",
        ..ONE
    },
    Phase {
        what: "between two servers",
        holds: &["out b"],
        at: "out b",
        moves: &["out a", "back a", "out b"],
        message: "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b",
        ..ONE
    },
    Phase {
        what: "between two servers, without rollback",
        rolls_back: false,
        holds: &["out b"],
        at: "out b",
        moves: &["out a", "back a", "out b"],
        versions: [1, 0, 0],
        message: "the server stopped while it was deploying; left with the new version: a; possibly out of service: \
                  the server b",
        ..ONE
    },
    Phase {
        what: "a failed one is undone",
        blocked: Some("b"),
        holds: &["back b"],
        at: "back b",
        moves: &["out a", "back a", "out b", "back b"],
        versions: [0, 1, 0],
        message: "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b",
        ..ONE
    },
    Phase {
        what: "a failed one is left as it is, and a server stays out",
        half: true,
        rolls_back: false,
        blocked: Some("c"),
        holds: &["back c"],
        at: "back c",
        moves: &["out a", "back a", "out b", "out c", "back c"],
        versions: [1, 1, 1],
        message: "the server stopped while it was deploying; left with the new version: a, b; out of service: the \
                  server b; possibly out of service: the server c",
        ..ONE
    },
    Phase {
        what: "cancelled between two servers",
        holds: &["out b"],
        at: "out b",
        cancelled: true,
        moves: &["out a", "back a", "out b"],
        message: "the server stopped while the cancelled deployment was being undone; rolled back: a; possibly out of \
                  service: the server b",
        ..ONE
    },
    Phase {
        what: "cancelled while a failed one is undone",
        blocked: Some("b"),
        holds: &["back b"],
        at: "back b",
        cancelled: true,
        moves: &["out a", "back a", "out b", "back b"],
        versions: [0, 1, 0],
        message: "the server stopped while the cancelled deployment was being undone; rolled back: a; possibly out of \
                  service: the server b",
        ..ONE
    },
    Phase {
        what: "while it recovers",
        half: true,
        holds: &["out c", "back b"],
        at: "out c",
        again_at: Some("back b"),
        moves: &["out a", "back a", "out b", "out c", "back b"],
        message: "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b, \
                  the server c",
        ..ONE
    },
];

async fn a_killed_deployment_ends_and_says_what_is_where(mut stage: Stage) {
    let mut recorded = Vec::new();
    for (at, phase) in PHASES.iter().enumerate() {
        let strategy = if phase.half { "HALF" } else { "ONE_BY_ONE" };
        let more = json!({ "serverStrategy": strategy, "rollbackEnabled": phase.rolls_back });
        let place = stage.place(&format!("p{at}"), more).await;
        if let Some(server) = phase.blocked {
            stage.block(&place, server);
        }
        place.hold(phase.holds);
        let id = stage.start(None, &place, &stage.revisions).await;
        place.reached(phase.at);
        if phase.cancelled {
            let path = format!("/deployments/{id}/cancel");
            stage.ask(None, Method::POST, &path, None).await.expect(200);
        }
        stage.server.kill();
        if let Some(again) = phase.again_at {
            place.let_go(&[phase.at]);
            stage.restart().await;
            place.reached(again);
            stage.server.kill();
            place.let_go(&[again]);
        } else {
            place.let_go(phase.holds);
        }
        stage.restart().await;
        let found = stage.ended(id).await;
        assert_eq!(place.moves(), phase.moves, "{}: {found:#}", phase.what);
        assert_eq!(stage.versions(&place), phase.versions, "{}: {found:#}", phase.what);
        place.recovered(&found, phase.message);
        let applied = tasks(&found)
            .iter()
            .any(|task| task["deploymentExecutionType"] == "VQL" && task["state"] != "SKIPPED");
        recorded.push((id, applied.then_some(false)));
        recorded.push((stage.goes_on(&place).await, Some(true)));
    }
    assert!(
        recorded.iter().any(|(_, success)| success.is_none()),
        "one was killed before anything was applied"
    );
    stage.are_recorded(&recorded).await;
}

async fn a_script_of_a_killed_server_ends_when_it_starts_again(mut stage: Stage) {
    let place = stage.place("script", json!({})).await;
    place.hold(&["out b"]);
    let id = stage.start(None, &place, &stage.revisions).await;
    place.reached("out b");
    let process = fs::read_to_string(place.folder.join("process out b")).unwrap();
    let process = PathBuf::from("/proc").join(process.trim());
    stage.server.kill();
    assert!(is_alive(&process), "no server has ended it");
    // It would wait for ever, and take the server out of service at any time.
    stage.restart().await;
    let found = stage.ended(id).await;
    let message =
        "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b";
    place.recovered(&found, message);
    assert!(!is_alive(&process));
    place.let_go(&["out b"]);
    let next = stage.goes_on(&place).await;
    stage.are_recorded(&[(id, Some(false)), (next, Some(true))]).await;
}

/// In some containers no process waits for an orphan: it stays as a zombie.
fn is_alive(process: &Path) -> bool {
    let text = fs::read_to_string(process.join("stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}

async fn a_deployment_that_waits_for_approval_still_does(mut stage: Stage) {
    let place = stage.place("held", json!({ "approvalsRequired": 1 })).await;
    let id = stage.start(None, &place, &stage.revisions).await;
    for _ in 0..2 {
        let found = stage.progress(id).await;
        assert_eq!((&found["state"], &found["progress"]), (&json!("PENDING"), &json!(0)));
        assert!(tasks(&found).iter().all(|task| task["state"] == "PENDING"), "{found:#}");
        stage.server.kill();
        stage.restart().await;
    }
    assert!(place.moves().is_empty());
    stage.server.say(&["promotion", "approve", &id.to_string()]);
    assert_eq!(stage.ended(id).await["state"], "OK");
    assert_eq!(stage.versions(&place), [1; 3]);
    assert_eq!(place.moves(), ["out a", "back a", "out b", "back b", "out c", "back c"]);
    stage.are_recorded(&[(id, Some(true))]).await;
}

async fn a_queued_deployment_starts_when_the_one_before_is_undone(stage: Stage) {
    queued(stage, None).await;
}

/// Users have their turns, but not with an environment that is half deployed.
async fn that_of_another_user_too(stage: Stage) {
    promoter(&stage);
    queued(stage, Some("bob")).await;
}

/// A user who may deploy everywhere.
fn promoter(stage: &Stage) {
    let arguments =
        ["user", "create", "bob", "--role", "solution_manager_promotion_admin", "--password-stdin"];
    let made = stage.server.cli_with_input(&arguments, &format!("{PASSWORD}\n"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

async fn queued(mut stage: Stage, user: Option<&str>) {
    let place = stage.place("queue", json!({ "queueDeploymentsEnabled": true })).await;
    place.hold(&["out b"]);
    let first = stage.start(user, &place, &stage.revisions).await;
    place.reached("out b");
    let second = stage.start(None, &place, &stage.revisions).await;
    assert_eq!(stage.progress(second).await["state"], "QUEUED");
    stage.server.kill();
    place.let_go(&["out b"]);
    stage.restart().await;
    let (undone, done) = (stage.ended(first).await, stage.ended(second).await);
    assert_eq!(done["state"], "OK", "{undone:#}\n{done:#}");
    let message =
        "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b";
    place.recovered(&undone, message);
    assert_eq!(stage.versions(&place), [2, 1, 1], "the first version of a is the one that was undone");
    let moves = ["out a", "back a", "out b", "out a", "back a", "out b", "back b", "out c", "back c"];
    assert_eq!(place.moves(), moves);
    stage.are_recorded(&[(first, Some(false)), (second, Some(true))]).await;
}

async fn a_disabled_submitter_does_not_prevent_the_undoing(mut stage: Stage) {
    promoter(&stage);
    let place = stage.place("disabled", json!({})).await;
    place.hold(&["out b"]);
    let id = stage.start(Some("bob"), &place, &stage.revisions).await;
    place.reached("out b");
    stage.server.kill();
    stage.server.say(&["user", "disable", "bob"]);
    place.let_go(&["out b"]);
    stage.restart().await;
    let found = stage.ended(id).await;
    assert_eq!(found["state"], "ERROR");
    assert_eq!(stage.versions(&place), [0; 3], "{found:#}");
    assert!(place.message(&found).contains("rolled back: a"), "{found:#}");
    let next = stage.goes_on(&place).await;
    stage.are_recorded(&[(id, Some(false)), (next, Some(true))]).await;
}

async fn a_stopping_server_lets_a_deployment_end(mut stage: Stage) {
    let place = stage.place("drain", json!({})).await;
    place.hold(&["out a"]);
    let id = stage.start(None, &place, &stage.revisions).await;
    place.reached("out a");
    stage.server.signal("-TERM");
    place.let_go(&["out a"]);
    assert!(stage.server.wait().success());
    stage.restart().await;
    let found = stage.ended(id).await;
    assert_eq!(found["state"], "OK", "{found:#}");
    assert_eq!((stage.versions(&place), tasks(&found).len()), ([1; 3], 12));
    assert_eq!(place.moves(), ["out a", "back a", "out b", "back b", "out c", "back c"]);
    stage.are_recorded(&[(id, Some(true))]).await;
}

async fn a_deployment_that_does_not_end_in_time_is_undone_by_the_next_start(mut stage: Stage) {
    let place = stage.place("late", json!({})).await;
    place.hold(&["out b"]);
    let id = stage.start(None, &place, &stage.revisions).await;
    place.reached("out b");
    stage.server.signal("-TERM");
    assert!(stage.server.wait().success());
    place.let_go(&["out b"]);
    stage.restart().await;
    let found = stage.ended(id).await;
    let message =
        "the server stopped while it was deploying; rolled back: a; possibly out of service: the server b";
    place.recovered(&found, message);
    assert_eq!((stage.versions(&place), place.moves().len()), ([0; 3], 3), "{:?}", place.moves());
    let next = stage.goes_on(&place).await;
    stage.are_recorded(&[(id, Some(false)), (next, Some(true))]).await;
}
