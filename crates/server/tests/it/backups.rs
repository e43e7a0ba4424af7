//! `landreeve backup` and `landreeve restore`: with a server and without one, and killed in the middle.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{self, Server, pause};

/// An estate with the sample's file as a datasource of its own.
fn shop() -> (Server, tempfile::TempDir) {
    let server = Server::start();
    server.wait_for_sample();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    std::fs::copy(server.data_dir.join("sample/tpch.db"), &file).unwrap();
    server.say(&["datasource", "add", "shop", "--type", "sqlite", "--database", file.to_str().unwrap()]);
    (server, folder)
}

fn listed(server: &Server) -> Vec<Value> {
    let text = server.say(&["backup", "list", "--format", "json"]);
    serde_json::from_str(&text).unwrap()
}

fn id(backup: &Value) -> &str {
    backup["id"].as_str().unwrap()
}

fn same(a: &Path, b: &Path) -> bool {
    let query = "SELECT (SELECT count(*) FROM lineitem) || (SELECT sum(o_totalprice) FROM orders)";
    let answer = |path: &Path| {
        let open = rusqlite::Connection::open(path).unwrap();
        open.query_row(query, [], |row| row.get::<_, String>(0)).unwrap()
    };
    answer(a) == answer(b)
}

#[test]
fn a_backup_is_made_and_restored_with_and_without_a_server() {
    let (mut server, folder) = shop();
    let new = |name: &str| folder.path().join(name);
    for (running, name) in [(true, "a.db"), (false, "b.db")] {
        if !running {
            server.signal("-TERM");
            server.wait();
        }
        let made: Vec<Value> =
            serde_json::from_str(&server.say(&["backup", "run", "shop", "--keep", "2h", "--format", "json"]))
                .unwrap();
        let made = &made[0];
        assert_eq!((made["status"].as_str(), made["asset"].as_str()), (Some("success"), Some("shop")));
        assert!(made["rows"].as_u64().unwrap() > 10_000, "{made}");
        assert_eq!(id(&listed(&server)[0]), id(made));
        let verified = server.say(&["backup", "verify", id(made), "--format", "json"]);
        let verified: Vec<Value> = serde_json::from_str(&verified).unwrap();
        assert!(verified[0]["verified_timestamp"].is_string());
        let file = new(name);
        let target = file.to_str().unwrap();
        let plan = server.say(&["restore", id(made), "--database", target, "--plan"]);
        assert!(plan.contains("would restore") && plan.contains(target) && !file.exists(), "{plan}");
        let said = server.say(&["restore", id(made), "--database", target, "--name", name, "--compare"]);
        assert!(said.contains("are equal") && said.contains("which is the datasource"), "{said}");
        assert!(same(&file, &new("shop.db")));
        let rows = server.say(&["query", "SELECT count(*) AS n FROM orders", "-d", name, "--format", "csv"]);
        assert_eq!(rows.lines().nth(1), Some("15000"), "{rows}");
        let again = server.cli(&["restore", id(made), "--database", target]);
        assert!(!again.status.success());
        assert!(String::from_utf8_lossy(&again.stderr).contains("exists"));
        let would = server.say(&["backup", "delete", id(made)]);
        assert!(would.starts_with("would delete"), "{would}");
        assert_eq!(listed(&server).len(), 1);
        server.say(&["backup", "delete", id(made), "--yes"]);
        assert!(listed(&server).is_empty());
    }
    let doctor = server.say(&["doctor"]);
    assert!(
        doctor.contains("repository default: ") && doctor.contains("on the same disk as the estate"),
        "{doctor}"
    );
}

#[test]
fn what_is_asked_wrongly_says_what_is_right() {
    let (server, _folder) = shop();
    for (arguments, part) in [
        (&["backup", "run", "nothing"][..], "no datasource \"nothing\""),
        (&["backup", "run", "shop", "--keep", "soon"], "must be a number from 1"),
        (&["backup", "run", "shop", "--repository", "x"], "there is no repository called x"),
        (&["backup", "run", "Cluvio Sample Data"], "it needs no backup"),
        (&["backup", "show", "x"], "\"x\" is not the id of a backup"),
        (&["backup", "show", "00000000-0000-4000-8000-000000000000"], "there is no backup"),
        (&["backup", "list", "--repository", "x"], "there is no repository called x"),
        (&["restore", "x", "--database", "y"], "\"x\" is not the id of a backup"),
    ] {
        let output = server.cli(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(part), "{arguments:?}: {error}");
    }
    assert!(listed(&server).is_empty());
}

/// Whatever moment the server is killed at: what is listed is whole, what is not listed is not there, and the next one works.
#[test]
fn a_killed_server_loses_no_backup() {
    let (mut server, folder) = shop();
    server.say(&["backup", "run", "shop"]);
    let mut verified = HashSet::new();
    for moment in 0..8 {
        // What was killed is tried again, and another one is refused meanwhile.
        await_runs(&server);
        // Something new to store each time.
        let open = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
        open.execute_batch(
            "CREATE TABLE IF NOT EXISTS more (b BLOB); INSERT INTO more VALUES (randomblob(3000000))",
        )
        .unwrap();
        drop(open);
        let mut command = started(&server.data_dir, &["backup", "run", "shop"]);
        pause(Duration::from_millis(60 * moment));
        server.kill();
        command.wait().unwrap();
        server.restart();
        assert!(std::fs::read_dir(server.data_dir.join("scratch")).map_or(0, Iterator::count) <= 1);
        for backup in listed(&server) {
            if verified.insert(id(&backup).to_owned()) {
                server.say(&["backup", "verify", id(&backup)]);
            }
        }
    }
    await_runs(&server);
    server.say(&["backup", "run", "shop"]);
    server.say(&["repository", "prune", "default"]);
    server.say(&["repository", "check", "default", "--read-data"]);
    let key = server.say(&["repository", "key", "default"]);
    let restic = Command::new("restic")
        .args([
            "-r",
            server.data_dir.join("repository").to_str().unwrap(),
            "--no-cache",
            "check",
            "--read-data",
        ])
        .env("RESTIC_PASSWORD", key)
        .output()
        .unwrap();
    assert!(restic.status.success(), "{}", String::from_utf8_lossy(&restic.stderr));
}

/// A file that is restored is there as a whole or not at all, and the next server finishes what was begun.
#[test]
fn a_killed_server_finishes_its_restores() {
    let (mut server, folder) = shop();
    server.say(&["backup", "run", "shop"]);
    let backup = id(&listed(&server)[0]).to_owned();
    for moment in 0..6 {
        let name = format!("r{moment}.db");
        let file = folder.path().join(&name);
        let arguments = ["restore", &backup, "--database", file.to_str().unwrap(), "--name", &name];
        let mut command = started(&server.data_dir, &arguments);
        pause(Duration::from_millis(80 * moment));
        server.kill();
        command.wait().unwrap();
        server.restart();
        await_runs(&server);
        let partial = |path: PathBuf| path.extension().is_some_and(|end| end == "partial");
        let all = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        assert!(!all.into_iter().any(partial), "{moment}: a file that is not complete is left");
        let known = server.say(&["datasource", "list", "--format", "csv"]).contains(&name);
        assert_eq!(known, file.exists(), "{moment}");
        assert!(!known || same(&file, &folder.path().join("shop.db")));
    }
}

/// What a policy wants is made once, wherever the server was killed after the policy had been assigned.
#[test]
fn a_killed_server_goes_on_with_its_policies() {
    let (mut server, folder) = shop();
    server.say(&["policy", "create", "daily", "--sla", "1d:7d"]);
    for moment in 0..5_u64 {
        let name = format!("p{moment}");
        let file = folder.path().join(format!("{name}.db"));
        std::fs::copy(folder.path().join("shop.db"), &file).unwrap();
        let path = file.to_str().unwrap();
        server.say(&["datasource", "add", &name, "--type", "sqlite", "--database", path]);
        server.say(&["policy", "assign", "daily", &name]);
        pause(Duration::from_millis(60 * moment));
        server.kill();
        server.restart();
        let of_asset = |backup: &Value| backup["asset"] == name.as_str();
        let mut made = Vec::new();
        for _ in 0..300 {
            made = listed(&server).into_iter().filter(of_asset).collect();
            if !made.is_empty() {
                break;
            }
            pause(Duration::from_millis(100));
        }
        await_runs(&server);
        assert_eq!(made.len(), 1, "{moment}");
        assert_eq!(listed(&server).into_iter().filter(of_asset).count(), 1, "{moment}: it was made twice");
    }
    // What was interrupted is no violation if it was made in the end.
    let alerts = server.say(&["alert", "list", "--format", "csv"]);
    assert_eq!(alerts.lines().count(), 1, "{alerts}");
}

/// A restore into a database that was interrupted says so, and leaves nothing in the way of the next one.
#[test]
fn a_killed_server_says_which_restore_was_interrupted() {
    let (mut server, folder) = shop();
    drop(folder);
    let address = support::address("LANDREEVE_TEST_POSTGRES");
    let psql = |database: &str, sql: &str| {
        let (user, password, host) = (&address.user, &address.password, &address.host);
        let to = format!("postgres://{user}:{password}@{host}:{}/{database}", address.port);
        let done = Command::new("psql").args(["-qAtX", "-d", &to, "-c", sql]).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let unique = std::process::id();
    let source = format!("lr_killed_{unique}");
    psql("postgres", &format!("CREATE DATABASE {source}"));
    psql(
        &source,
        "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 4) AS x FROM generate_series(1, 40000) AS i",
    );
    let port = address.port.to_string();
    let add = ["datasource", "add", "pg", "--type", "postgres", "--host", &address.host, "--port", &port];
    let add = [&add[..], &["--database", &source, "--username", &address.user, "--password-stdin"]].concat();
    let added = support::run(&server.data_dir, &add, Some(&format!("{}\n", address.password)));
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    server.say(&["backup", "run", "pg"]);
    let backup = id(&listed(&server)[0]).to_owned();
    let mut targets = vec![source.clone()];
    for moment in 0..5_u64 {
        let target = format!("{source}_{moment}");
        targets.push(target.clone());
        let mut command = started(&server.data_dir, &["restore", &backup, "--database", &target]);
        pause(Duration::from_millis(250 * moment));
        server.kill();
        command.wait().unwrap();
        server.restart();
        await_runs(&server);
        let known = server.say(&["datasource", "list", "--format", "csv"]).matches(&target).count();
        let exists =
            psql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{target}'"));
        if known > 0 {
            // It was complete.
            assert_eq!(psql(&target, "SELECT count(*) FROM t"), "40000");
        } else if exists == "1" {
            let runs = server.say(&["run", "list", "--limit", "20", "--format", "csv"]);
            assert!(runs.contains("restore") && runs.contains("failed"), "{moment}: {runs}");
            psql("postgres", &format!("DROP DATABASE {target} WITH (FORCE)"));
        }
    }
    let last = format!("{source}_last");
    server.say(&["restore", &backup, "--database", &last, "--compare"]);
    targets.push(last);
    for target in targets {
        psql("postgres", &format!("DROP DATABASE IF EXISTS {target} WITH (FORCE)"));
    }
}

fn started(data_dir: &Path, arguments: &[&str]) -> std::process::Child {
    support::command(data_dir, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until no run waits or executes.
fn await_runs(server: &Server) {
    for _ in 0..600 {
        let listed = server.say(&["run", "list", "--limit", "20", "--format", "csv"]);
        let open = [",held,", ",queued,", ",starting,", ",running,", ",cancelling,"];
        if !open.iter().any(|state| listed.contains(state)) {
            return;
        }
        pause(Duration::from_millis(100));
    }
    panic!("runs do not end");
}

/// The data directory, with the repository in it, is on a separate file system of 60 MB.
#[test]
fn a_full_disk_fails_a_backup_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let server = Server::on_small_disk(&data_dir, "60m");
    for (name, megabytes) in [("big", 38), ("small", 1)] {
        let file = folder.path().join(format!("{name}.db"));
        let open = rusqlite::Connection::open(&file).unwrap();
        open.execute_batch("CREATE TABLE t (b BLOB)").unwrap();
        for _ in 0..megabytes {
            open.execute("INSERT INTO t VALUES (randomblob(1000000))", []).unwrap();
        }
        server.say_inside(&[
            "datasource",
            "add",
            name,
            "--type",
            "sqlite",
            "--database",
            file.to_str().unwrap(),
        ]);
    }
    server.say_inside(&["backup", "run", "small"]);
    // What is staged fits, what is saved does not.
    let full = server.run_inside(&["backup", "run", "big"]);
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(!full.status.success() && told.contains("No space left"), "{told}");
    // Nothing of it is left but what the next one can use.
    server.say_inside(&["repository", "check", "default", "--read-data"]);
    server.say_inside(&["backup", "run", "small"]);
    let listed: Vec<Value> =
        serde_json::from_str(&server.say_inside(&["backup", "list", "--format", "json"])).unwrap();
    let names: Vec<_> = listed.iter().map(|backup| backup["asset"].as_str().unwrap()).collect();
    assert_eq!(names, ["small", "small"]);
}
