//! The command line: every command as users type it, with and without a running server.

use serde_json::Value;

use crate::support::{PROGRAM, Server, postgres_database, run, said};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn usage_errors_exit_with_2_and_failures_with_1() {
    let estate = Server::stopped();
    for (arguments, status) in [
        (vec!["key", "create", "--api", "nosuch", "--name", "x"], 2),
        (vec!["key", "create", "--api", "cluvio", "--name", "x"], 2),
        (vec!["key", "create", "--api", "clumio"], 2),
        (vec!["key", "create", "--api", "dx", "--name", "x", "--permission", "Manage Datasources"], 2),
        (vec!["nonsense"], 2),
        (vec!["run", "show", "word"], 2),
        (vec!["settings", "set", "week_start"], 2),
        (vec!["run", "show", "99"], 1),
        (vec!["key", "delete", "99"], 1),
        (vec!["user", "disable", "nosuch"], 1),
    ] {
        let ended = estate.cli(&arguments);
        assert_eq!(ended.status.code(), Some(status), "{arguments:?} {ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn manages_users_groups_units_and_roles() {
    let server = Server::start();
    let unit = server.say(&["ou", "create", "Sales", "--description", "The sales team"]);
    let with_password =
        ["user", "create", "ada", "--password-stdin", "--full-name", "Ada L.", "--role", "Analyst"];
    said(&server.cli_with_input(&with_password, "a long password\n"));
    server.say(&["user", "create", "bob", "--role", "viewer", "--ou", &unit]);
    let twice = server.cli(&["user", "create", "bob"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("name is already taken"), "{twice:?}");
    let short = server.cli_with_input(&["user", "password", "ada"], "short\n");
    assert!(String::from_utf8_lossy(&short.stderr).contains("8 to 256"), "{short:?}");
    server.say(&["group", "create", "Editors", "--role", "Analyst"]);
    server.say(&["group", "add", "Editors", "bob"]);
    let groups = json(&server.say(&["group", "list", "--format", "json"]));
    assert_eq!(groups[1]["members"], 1);
    let everyone = server.cli(&["group", "add", "Everyone", "bob"]);
    assert_eq!(everyone.status.code(), Some(1));
    server.say(&["user", "grant", "bob", "Viewer"]);
    server.say(&["group", "grant", "Editors", "viewer", "--ou", &unit]);
    server.say(&["user", "grant", "bob", "--role", "Analyst"]);
    for revoked in [
        vec!["user", "revoke", "bob", "viewer"],
        vec!["user", "revoke", "bob", "Viewer", "--ou", &unit],
        vec!["user", "revoke", "bob", "Analyst"],
        vec!["group", "revoke", "Editors", "Viewer", "--ou", &unit],
    ] {
        server.say(&revoked);
        let again = server.cli(&revoked);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.code() == Some(1) && said.contains("is not granted in this unit"), "{said}");
        let trail = json(&server.say(&["audit", "list", "--format", "json"]));
        // The server may have started a run of its own meanwhile.
        let last = trail.as_array().unwrap().iter().find(|event| event["noun"] == "role").unwrap();
        assert_eq!(last["action"], "revoked");
    }
    for wrong in [
        vec!["user", "revoke", "bob"],
        vec!["user", "grant", "bob"],
        vec!["user", "grant", "bob", "Viewer", "--role", "Viewer"],
        vec!["group", "grant", "Editors", "Nonsense"],
    ] {
        assert_eq!(server.cli(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(server.cli(&["group", "revoke", "Missing", "Viewer"]).status.code(), Some(1));
    let last = server.cli(&["user", "revoke", "admin", "Administrator"]);
    assert!(String::from_utf8_lossy(&last.stderr).contains("at least one administrator"), "{last:?}");
    let roles = json(&server.say(&["user", "roles", "--format", "json"]));
    let described = |role: &Value| role["description"].as_str().is_some_and(|text| !text.is_empty());
    assert!(roles.as_array().unwrap().iter().all(described), "{roles}");
    server.say(&["group", "remove", "Editors", "bob"]);
    server.say(&["group", "delete", "Editors"]);
    server.say(&["user", "disable", "ada"]);
    let users = json(&server.say(&["user", "list", "--format", "json"]));
    assert_eq!((&users[1]["name"], &users[1]["enabled"]), (&Value::from("ada"), &Value::from(false)));
    let trail = json(&server.say(&["audit", "list", "--format", "json"]));
    assert_eq!(
        (&trail[0]["action"], &trail[0]["noun"], &trail[0]["detail"]),
        (&Value::from("updated"), &Value::from("user"), &Value::from("disabled"))
    );
    let last = server.cli(&["user", "disable", "admin"]);
    assert!(String::from_utf8_lossy(&last.stderr).contains("at least one administrator"), "{last:?}");
    let units = server.say(&["ou", "list", "--format", "csv"]);
    assert!(units.contains("Sales") && units.starts_with("uuid,name,path,description"), "{units}");
}

#[tokio::test]
async fn disabled_keys_are_refused_once_the_command_returns() {
    let server = Server::start();
    let client = server.client(&server.key());
    assert_eq!(client.get("/cluvio/datasources").await.status, 200);
    let keys = json(&server.say(&["key", "list", "--format", "json"]));
    let id = keys[0]["id"].to_string();
    assert!(keys[0].get("secret").is_none());
    server.say(&["key", "disable", &id]);
    assert_eq!(client.get("/cluvio/datasources").await.status, 401);
    server.say(&["key", "enable", &id]);
    assert_eq!(client.get("/cluvio/datasources").await.status, 200);
    server.say(&["key", "delete", &id]);
    assert_eq!(client.get("/cluvio/datasources").await.status, 401);
}

#[test]
fn runs_work_with_and_without_a_server() {
    let estate = Server::stopped();
    let probed = estate.say(&["run", "probe", "--seconds", "0.1"]);
    assert!(probed.starts_with("run ") && probed.ends_with(" succeeded"), "{probed}");
    let failed = estate.cli(&["run", "probe", "--seconds", "0", "--fail"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("failed as requested"), "{failed:?}");
    let newest = json(&estate.say(&["run", "list", "--limit", "1", "--format", "json"]))[0]["id"].to_string();
    let log = estate.say(&["run", "log", &newest, "--follow"]);
    assert!(log.contains("error failing as requested"), "{log:?}");

    let server = Server::start();
    let id = server.say(&["run", "probe", "--seconds", "3000", "--no-wait"]);
    server.say(&["run", "cancel", &id]);
    let mut state = String::new();
    for _ in 0..200 {
        state = json(&server.say(&["run", "show", &id, "--format", "json"]))[0]["state"]
            .as_str()
            .unwrap()
            .to_owned();
        if state == "cancelled" {
            break;
        }
    }
    assert_eq!(state, "cancelled");
    let again = server.cli(&["run", "cancel", &id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("has already ended"), "{again:?}");
    assert!(server.say(&["run", "list", "--format", "csv"]).contains("probe,cancelled"));
}

/// Starts a command that waits for a run of 600 seconds; returns once the store shows the run.
fn probing(estate: &Server) -> std::process::Child {
    let child = std::process::Command::new(PROGRAM)
        .args(["run", "probe", "--seconds", "600", "--data-dir"])
        .arg(&estate.data_dir)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..400 {
        if newest_probe(estate).contains(",probe,running") {
            break;
        }
    }
    child
}

fn newest_probe(estate: &Server) -> String {
    let listed = estate.say(&["run", "list", "--format", "csv"]);
    listed.lines().find(|line| line.contains(",probe,")).unwrap_or_default().to_owned()
}

#[test]
fn interrupted_commands_cancel_their_run() {
    let stopped = Server::stopped();
    for estate in [stopped, Server::start()] {
        for signal in ["-INT", "-TERM", "-HUP"] {
            let mut child = probing(&estate);
            std::process::Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{signal}");
            assert!(
                newest_probe(&estate).contains(",probe,cancelled"),
                "{signal}: {}",
                newest_probe(&estate)
            );
        }
    }
}

/// Nothing waits for such a run any more.
#[test]
fn killed_commands_cancel_their_run() {
    let server = Server::start();
    let mut child = probing(&server);
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..400 {
        if newest_probe(&server).contains(",probe,cancelled") {
            return;
        }
    }
    panic!("it goes on: {}", newest_probe(&server));
}

#[test]
fn queries_print_tables_csv_json_and_parquet() {
    let server = Server::start();
    server.wait_for_sample();
    let sql = "select r_regionkey as id, r_name as name from region order by 1 limit 2";
    let table = server.say(&["query", sql]);
    assert_eq!(table.lines().map(str::trim).collect::<Vec<_>>(), ["id  name", "0   AFRICA", "1   AMERICA"]);
    assert_eq!(
        server.say(&["query", sql, "--format", "csv"]).lines().collect::<Vec<_>>(),
        ["id,name", "0,AFRICA", "1,AMERICA"]
    );
    let found = json(&server.say(&["query", sql, "--format", "json"]));
    assert_eq!(found["rows"], serde_json::json!([[0, "AFRICA"], [1, "AMERICA"]]));
    let file = server.data_dir.join("out.parquet");
    server.say(&["query", sql, "--format", "parquet", "--output", file.to_str().unwrap()]);
    assert_eq!(&std::fs::read(&file).unwrap()[..4], b"PAR1");
    let refused = server.cli(&["query", "delete from region"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("DELETE is not allowed"), "{refused:?}");
    let many = server.cli(&["query", "select * from lineitem"]);
    assert!(String::from_utf8_lossy(&many.stderr).contains("too many for a table"), "{many:?}");
}

#[test]
fn sets_settings_and_checks_the_configuration() {
    let server = Server::start();
    server.say(&["settings", "set", "time_zone=Europe/Berlin", "csv_separator=semicolon"]);
    let found = server.say(&["settings", "list", "--format", "csv"]);
    assert!(
        found.contains("time_zone,Europe/Berlin") && found.contains("csv_separator,semicolon"),
        "{found}"
    );
    let wrong = server.cli(&["settings", "set", "time_zone=Mars", "week_start=friday", "colour=blue"]);
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(["Mars", "monday or sunday", "colour"].iter().all(|needle| text.contains(needle)), "{text}");
    let file = server.data_dir.join("landreeve.toml");
    std::fs::write(&file, "[runs.pools]\nshort = 4\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(server.say(&["config", "check", "--config", file]), "the configuration is valid");
    std::fs::write(file, "[runs]\nworker = 4\n").unwrap();
    assert_eq!(server.cli(&["config", "check", "--config", file]).status.code(), Some(1));
    assert!(server.say(&["config", "default"]).contains("[outbound]"));
    assert!(server.say(&["doctor"]).contains("ok     store: SQLite"));
}

#[tokio::test]
async fn restores_backups_and_rotates_secrets() {
    let mut server = Server::start();
    let key = server.key();
    let client = server.client(&key);
    let attributes = serde_json::json!({
        "name": "kept", "database_type": "postgres", "host": "localhost", "password": "hunter2",
        "data_time_zone": "UTC", "update_schema_nightly": false,
    });
    let id = client.datasource(attributes).await;
    let folder = tempfile::tempdir().unwrap();
    let (copy, with_key) = (folder.path().join("copy"), folder.path().join("with-key"));
    server.say(&["estate", "backup", copy.to_str().unwrap()]);
    assert!(!copy.join("seal.key").exists());
    server.say(&["estate", "backup", with_key.to_str().unwrap(), "--with-key"]);
    let inside = server.data_dir.join("files/backup");
    let refused = server.cli(&["estate", "backup", inside.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("inside the data directory"), "{refused:?}");
    assert!(!inside.exists());
    let twice = server.cli(&["estate", "backup", copy.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(1));

    let running = server.cli(&["secrets", "rotate"]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("stop the server"), "{running:?}");
    server.signal("-TERM");
    server.wait();
    assert!(server.say(&["secrets", "rotate"]).starts_with("re-encrypted"));
    server.restart();
    let path = format!("/cluvio/datasources/{id}");
    let again = server.client(&key).get(&path).await.expect(200);
    assert_eq!(again["data"]["attributes"]["password"], "hunter2");

    let restored = folder.path().join("restored");
    said(&run(&restored, &["estate", "restore", with_key.to_str().unwrap()], None));
    let other = Server::on(restored.clone(), Vec::new());
    let found = other.client(&key).get(&path).await.expect(200);
    assert_eq!(found["data"]["attributes"]["password"], "hunter2", "ids and secrets come back");
    let full = run(&restored, &["estate", "restore", with_key.to_str().unwrap()], None);
    assert!(String::from_utf8_lossy(&full.stderr).contains("not empty"), "{full:?}");
}

#[test]
fn damaged_backups_are_detected_and_not_restored() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    server.say(&["estate", "backup", copy.to_str().unwrap(), "--with-key"]);
    assert!(server.say(&["estate", "verify", copy.to_str().unwrap()]).contains("is intact"));
    let whole = std::fs::read(copy.join("estate.db")).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(copy.join("estate.db"), damaged).unwrap();
    for command in ["verify", "restore"] {
        let place = folder.path().join(command);
        let refused = run(&place, &["estate", command, copy.to_str().unwrap()], None);
        assert_eq!(refused.status.code(), Some(1), "{command}");
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(error.contains("is damaged") && error.contains("estate.db"), "{command}: {error}");
        assert!(!place.exists(), "nothing is created from it");
    }
    std::fs::write(copy.join("estate.db"), whole).unwrap();
    std::fs::remove_file(copy.join("seal.key")).unwrap();
    let refused = run(&folder.path().join("other"), &["estate", "verify", copy.to_str().unwrap()], None);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("seal.key"), "{refused:?}");
    assert!(server.say(&["doctor"]).contains("ok     store file: intact"));
}

/// From each store into each: keys, datasources and results survive and work.
#[tokio::test]
async fn backups_move_between_sqlite_and_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let (_, first) = postgres_database().await;
    for (from, extra) in [("sqlite", vec![]), ("postgres", vec!["--store", &first.url])] {
        let server = Server::start_with(&extra);
        server.wait_for_sample();
        let key = server.key();
        let client = server.client(&key);
        let sample = client.get("/cluvio/datasources").await.expect(200)["data"][0]["id"].clone();
        let sql = json_of("select l_orderkey, l_comment from lineitem order by 1, 2");
        let done = client.execute(sample.as_str().unwrap(), &sql).await;
        let id = done["data"]["id"].as_str().unwrap();
        let blobs = std::fs::read_dir(server.data_dir.join("blobs/results")).unwrap().count();
        assert_eq!(blobs, 1, "the result is stored in a blob");
        let copy = folder.path().join(from);
        server.say(&["estate", "backup", copy.to_str().unwrap(), "--with-key"]);
        let (_, second) = postgres_database().await;
        for (to, extra) in [("sqlite", vec![]), ("postgres", vec!["--store", &second.url])] {
            let data_dir = folder.path().join(format!("{from}-{to}"));
            let mut restore = vec!["estate", "restore", copy.to_str().unwrap()];
            restore.extend(&extra);
            said(&run(&data_dir, &restore, None));
            let other = Server::on(data_dir.clone(), extra.iter().map(|text| (*text).to_owned()).collect());
            let client = other.client(&key);
            let grant = client.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
            let (data, token) =
                (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
            let rows = client.data(data, token, "application/json").await.expect(200);
            assert_eq!(rows["row_count"], 60_175, "{from} to {to}");
            let stored = std::fs::read_to_string(data_dir.join("estate.toml")).unwrap();
            assert_eq!(stored.contains("postgres://"), to == "postgres");
        }
        let mut again = vec!["estate", "restore", copy.to_str().unwrap(), "--store", &second.url];
        let refused = run(&folder.path().join("again"), &again, None);
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("restore into an empty database"),
            "{refused:?}"
        );
        again.truncate(3);
        let refused = run(&folder.path().join(format!("{from}-sqlite")), &again, None);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("is not empty"), "{refused:?}");
        std::fs::remove_dir_all(folder.path().join("again")).unwrap();
    }
}

fn json_of(sql: &str) -> Value {
    serde_json::json!({ "sql_query": sql })
}

#[tokio::test]
async fn commands_create_no_estate_in_postgres() {
    let (_, database) = postgres_database().await;
    let folder = tempfile::tempdir().unwrap();
    let slip = folder.path().join("data");
    let ended = run(&slip, &["user", "list", "--store", &database.url], None);
    let error = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && error.contains("there is no estate in"), "{error}");
    assert!(!error.contains(&database.password), "{error}");
    assert!(!slip.exists());
    // RESTRICT fails if the schema contains a table.
    crate::support::postgres(&database.url, "DROP SCHEMA public RESTRICT").await;
}

#[test]
fn environment_sets_data_dir_and_configuration() {
    let estate = Server::stopped();
    let command = |arguments: &[&str], variable: &str, value: &std::path::Path| {
        std::process::Command::new(PROGRAM).args(arguments).env(variable, value).output().unwrap()
    };
    let listed = said(&command(&["user", "list", "--format", "csv"], "LANDREEVE_DATA_DIR", &estate.data_dir));
    assert!(listed.contains(",admin,"), "{listed}");
    let file = estate.data_dir.join("landreeve.toml");
    std::fs::write(&file, "[runs]\nworker = 4\n").unwrap();
    let wrong = command(&["config", "check"], "LANDREEVE_CONFIG", &file);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

/// Without the lock each would create its own key, and one of them would find the other's.
#[test]
fn servers_that_start_together_create_one_estate() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let start = || {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data_dir);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut started: Vec<_> = (0..6).map(|_| start()).collect();
    let mut listening = 0;
    for child in &mut started {
        use std::io::BufRead as _;
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        listening += usize::from(line.starts_with("listening on "));
    }
    for child in &mut started {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(listening, 1);
    let said = said(&run(&data_dir, &["doctor"], None));
    assert!(said.contains("seal.key decrypts the store"), "{said}");
}
