//! The life cycle of a server: start, lock, readiness, drain, reload, refusals.

use std::time::Duration;

use landreeve_testkit::Relay;

use crate::support::{PASSWORD, PROGRAM, Server, pause, postgres_database, reply, run};

#[tokio::test]
async fn serves_health_metrics_and_documents() {
    let server = Server::start();
    let http = reqwest::Client::new();
    for (path, needle) in [
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/metrics", "landreeve_promotion_leases{state=\"active\"} 0"),
        ("/docs", "Cluvio"),
        ("/", "Server REST API Catalog"),
        ("/cluvio/docs", "swagger"),
        ("/cluvio/openapi.json", "/datasources"),
        ("/cluvio-data/openapi.json", "/data/{"),
        ("/dx/openapi.json", "auth.info"),
        ("/solution-manager/openapi.json", "/login"),
        ("/license-manager/openapi.json", "/externalShutdown"),
        ("/clover/api/rest/v1/docs.html", "swagger"),
        ("/clumio/openapi.json", "/users"),
    ] {
        let found = reply(http.get(format!("{}{path}", server.address))).await;
        assert_eq!(found.status, 200, "{path}");
        let text = String::from_utf8_lossy(&found.body).to_lowercase();
        assert!(text.contains(&needle.to_lowercase()), "{path}: {text}");
    }
}

#[tokio::test]
async fn signs_in_and_out() {
    let server = Server::start();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = |password: &str| format!("name=admin&password={}", password.replace(' ', "+"));
    let enter = |body: String| http.post(format!("{}/sign-in", server.address)).body(body);
    let wrong = reply(enter(form("wrong password"))).await;
    assert_eq!(wrong.status, 401);
    let foreign = reply(enter(form(PASSWORD)).header("Sec-Fetch-Site", "cross-site")).await;
    assert_eq!(foreign.status, 403);
    let right = reply(enter(form(PASSWORD))).await;
    assert_eq!(right.status, 303);
    let cookie = right.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let home = || http.get(format!("{}/", server.address)).header("Cookie", &cookie);
    assert!(String::from_utf8_lossy(&reply(home()).await.body).contains("Signed in as admin"));
    let out = reply(http.post(format!("{}/sign-out", server.address)).header("Cookie", &cookie)).await;
    assert_eq!(out.status, 303);
    assert!(!String::from_utf8_lossy(&reply(home()).await.body).contains("Signed in"), "the session is over");
}

#[test]
fn one_server_per_data_directory() {
    let server = Server::start();
    let second = run(&server.data_dir, &["serve", "--listen", "127.0.0.1:0"], None);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another server is running"));
}

#[test]
fn refuses_other_machines_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run(folder.path(), &["serve", "--listen", "0.0.0.0:0"], None);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--plain-http"));
}

#[test]
fn refuses_a_store_without_its_key() {
    let mut server = Server::start();
    server.kill();
    let key = server.data_dir.join("seal.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = run(&server.data_dir, &["serve", "--listen", "127.0.0.1:0"], None);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("seal.key is missing"), "{refused:?}");
    assert!(!key.exists(), "no new key for an existing store");
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    server.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn drains_and_exits_cleanly() {
    let mut server = Server::start();
    let client = server.client(&server.key());
    let source = server.say(&["datasource", "list", "--format", "json"]);
    let id =
        serde_json::from_str::<serde_json::Value>(&source).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let body = serde_json::json!({ "sql_query": SLOW });
    let waiting = tokio::spawn(async move {
        client.post(&format!("/cluvio/datasources/{id}/executions?wait=3"), &body).await
    });
    // The request is in progress once its run exists.
    for _ in 0..500 {
        if server.say(&["run", "list", "--format", "csv"]).contains(",query,") {
            break;
        }
    }
    server.signal("-TERM");
    let answered = waiting.await.unwrap();
    assert_eq!(answered.status, 200, "requests in progress are answered");
    assert!(server.wait().success());
    let path = server.data_dir.join("control.sock");
    assert!(!path.exists(), "the control socket is gone");
}

/// Keeps SQLite busy for a long time.
pub const SLOW: &str =
    "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";

#[tokio::test]
async fn second_node_needs_shared_blobs() {
    let (_, address) = postgres_database().await;
    let first = Server::start_with(&["--store", &address.url]);
    let folder = tempfile::tempdir().unwrap();
    // The second node has the estate's key.
    std::fs::copy(first.data_dir.join("seal.key"), folder.path().join("seal.key")).unwrap();
    let second = std::process::Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--store", &address.url, "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("[blobs]"), "{second:?}");
}

#[tokio::test]
async fn works_on_postgres_after_a_restart() {
    let (_, address) = postgres_database().await;
    let mut server = Server::start_with(&["--store", &address.url]);
    let key = server.key();
    assert_eq!(server.client(&key).get("/cluvio/datasources").await.status, 200);
    let recorded = std::fs::read_to_string(server.data_dir.join("estate.toml")).unwrap();
    assert!(recorded.contains("postgres://") && !recorded.contains(&address.password), "{recorded}");
    server.kill();
    server.restart();
    assert_eq!(
        server.client(&key).get("/cluvio/datasources").await.status,
        200,
        "the key outlives the crash"
    );
}

/// Otherwise the writer would keep using the old file.
#[test]
fn stops_if_its_files_are_replaced_or_deleted() {
    for (name, replaced) in
        [("lock", false), ("lock", true), ("estate.db", false), ("estate.db", true), ("estate.db-wal", false)]
    {
        let mut server = Server::start();
        let path = server.data_dir.join(name);
        if replaced {
            std::fs::copy(&path, path.with_extension("other")).unwrap();
            std::fs::rename(path.with_extension("other"), &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(server.wait().code(), Some(1), "{name}, replaced: {replaced}");
    }
}

/// A copy or a moved data directory has its own store, and a store that is missing is not replaced by an empty one.
#[test]
fn a_data_directory_contains_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::stopped();
    let copy = folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").args([&server.data_dir, &copy]).status();
    assert!(copied.unwrap().success());
    let mut other = Server::on(copy.clone(), Vec::new());
    other.say(&["ou", "create", "Only here"]);
    assert!(!server.say(&["ou", "list"]).contains("Only here"));
    other.signal("-TERM");
    other.wait();
    for name in ["estate.db", "estate.db-wal", "estate.db-shm"] {
        let _ = std::fs::remove_file(copy.join(name));
    }
    let output = run(&copy, &["serve", "--listen", "127.0.0.1:0"], None);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("is missing"), "{error}");
    assert!(!copy.join("estate.db").exists());
    let elsewhere = copy.join("new.db");
    let server = Server::on(copy, vec!["--store".to_owned(), elsewhere.to_str().unwrap().to_owned()]);
    assert!(elsewhere.exists(), "a place that is named can be new");
    assert!(!server.say(&["ou", "list"]).contains("Only here"));
}

/// The database accepts connections but never responds: requests are still answered, and the server can stop.
#[tokio::test(flavor = "multi_thread")]
async fn silent_database_blocks_neither_requests_nor_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    for signals in [1, 2] {
        let (_, address) = postgres_database().await;
        let relay = Relay::to(&address.url).await;
        let text = format!("[store]\ndatabase = '{}'\nstatement_seconds = 2\n", relay.url(&address.url));
        std::fs::write(&file, text).unwrap();
        let mut server = Server::start_with(&["--config", file.to_str().unwrap()]);
        let key = server.say(&[
            "key",
            "create",
            "--api",
            "cluvio",
            "--name",
            "k",
            "--permission",
            "View Datasources",
            "--config",
            file.to_str().unwrap(),
        ]);
        let client = server.client(&key);
        assert_eq!(client.get("/cluvio/datasources").await.status, 200);
        relay.hold();
        let asked = tokio::time::timeout(Duration::from_secs(20), client.get("/cluvio/datasources"));
        assert_eq!(asked.await.expect("a request is answered").status, 503);
        for _ in 0..signals {
            server.signal("-TERM");
            // Two identical signals in quick succession arrive as one.
            pause(Duration::from_millis(200));
        }
        // `wait` takes at most 30 seconds; the second signal ends the server even if something hangs.
        let ended = tokio::task::spawn_blocking(move || server.wait());
        ended.await.unwrap();
        relay.pass();
    }
}

#[test]
fn restarts_on_an_existing_store() {
    let mut server = Server::start();
    // The sample is created in the background; a restart must not find it half-finished.
    for _ in 0..600 {
        if server.data_dir.join("sample/tpch.db").exists() {
            break;
        }
        pause(Duration::from_millis(50));
    }
    server.signal("-TERM");
    server.wait();
    server.restart();
    // `cargo xtask bench` measures the time; here it only has to start.
    assert!(server.address.starts_with("http://127.0.0.1:"));
}

/// The data directory is on a separate file system of 40 MB, which the test fills.
#[tokio::test]
async fn writes_fail_and_reads_work_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let server = Server::on_small_disk(&data_dir, "40m");
    let key = server.say_inside(&[
        "key",
        "create",
        "--api",
        "cluvio",
        "--name",
        "k",
        "--permission",
        "Manage SQL Snippets",
    ]);
    let client = server.client(&key);
    let snippet = |name: String| {
        let sql = "x".repeat(200_000);
        serde_json::json!({ "data": { "attributes": { "name": name, "sql": sql } } })
    };
    let mut kept = 0;
    let mut refused = None;
    for number in 0..300 {
        let answer = client.post("/cluvio/sql_snippets", &snippet(format!("s{number}"))).await;
        if answer.status == 201 {
            kept += 1;
        } else {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is never full").expect(503);
    assert!(refused["errors"][0]["detail"].as_str().unwrap().contains("store"), "{refused}");
    let found = client.get("/cluvio/sql_snippets").await.expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), kept, "acknowledged writes can be read");
}

/// The fixtures are untrusted certificates; what matters is which one is served.
fn certificate(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../http/tests/fixtures").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_tls_and_reloads_certificate_limits_and_log_level() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key, file) =
        (folder.path().join("c.pem"), folder.path().join("k.pem"), folder.path().join("l.toml"));
    let put = |name: &str| {
        std::fs::copy(certificate(&format!("{name}.pem")), &cert).unwrap();
        std::fs::copy(certificate(&format!("{name}.key")), &key).unwrap();
    };
    let configure = |body: usize| {
        let text = format!(
            "[tls]\ncertificate = {:?}\nkey = {:?}\n[limits]\nbody_bytes = {body}\n[listeners.cluvio]\nlisten = \"127.0.0.1:0\"\n",
            cert.display().to_string(),
            key.display().to_string()
        );
        std::fs::write(&file, text).unwrap();
    };
    put("one");
    configure(8_000_000);
    let server = Server::start_with(&["--config", file.to_str().unwrap()]);
    assert!(server.address.starts_with("https://127.0.0.1:"), "{}", server.address);
    let trusting = |name: &str| {
        let pem = std::fs::read(certificate(&format!("{name}.pem"))).unwrap();
        let root = reqwest::Certificate::from_pem(&pem).unwrap();
        let builder = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(root);
        builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
    };
    let url = format!("https://localhost:{}/cluvio/sql_snippets", server.address.rsplit(':').next().unwrap());
    let key = server.key();
    let large = || "x".repeat(100_000);
    let send = |client: reqwest::Client| {
        let request = client.post(&url).header("Authorization", format!("Api {key}"));
        request.header("Content-Type", "application/json").body(large()).send()
    };
    assert_eq!(send(trusting("one")).await.unwrap().status(), 400, "not too large, but not JSON");
    let form = format!("name=admin&password={}", PASSWORD.replace(' ', "+"));
    let entered = trusting("one").post(url.replace("/cluvio/sql_snippets", "/sign-in")).body(form);
    let entered = reply(entered).await;
    let cookies: Vec<_> = entered.headers.get_all("set-cookie").iter().collect();
    assert!(
        !cookies.is_empty() && cookies.iter().all(|cookie| cookie.to_str().unwrap().contains("Secure")),
        "{cookies:?}"
    );
    put("two");
    configure(50_000);
    server.signal("-HUP");
    let mut reloaded = false;
    for _ in 0..200 {
        if let Ok(answer) = send(trusting("two")).await {
            assert_eq!(answer.status(), 413, "the new limit applies together with the new certificate");
            reloaded = true;
            break;
        }
        pause(Duration::from_millis(20));
    }
    assert!(reloaded, "the new certificate is not served");
    assert!(send(trusting("one")).await.is_err(), "the old certificate is still served");
}

/// HAL links carry the prefix under which the dialect is mounted; on its own listener that is the root.
#[tokio::test(flavor = "multi_thread")]
async fn links_carry_the_prefix_of_their_listener() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder.path().join("landreeve.toml");
    std::fs::write(&file, format!("[listeners.clumio]\nlisten = \"{free}\"\n")).unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]);
    server.wait_for_sample();
    let key = server.say(&["key", "create", "--api", "clumio", "--name", "links", "--user", "admin"]);
    let http = reqwest::Client::new();
    for (base, prefix) in [(format!("{}/clumio", server.address), "/clumio"), (format!("http://{free}"), "")]
    {
        let get = |path: &str| reply(http.get(format!("{base}{path}")).bearer_auth(&key));
        let list = get("/tasks?limit=1").await.expect(200);
        let own = list["_links"]["_self"]["href"].as_str().unwrap().to_owned();
        assert!(own.starts_with(&format!("{prefix}/tasks")), "{own}");
        let task = list["_embedded"]["items"][0]["_links"]["_self"]["href"].as_str().unwrap().to_owned();
        assert!(task.starts_with(&format!("{prefix}/tasks/")), "{task}");
        let followed = format!("{}{task}", base.strip_suffix(prefix).unwrap());
        let found = reply(http.get(followed).bearer_auth(&key)).await.expect(200);
        assert_eq!(found["_links"]["_self"]["href"], task.as_str(), "the link can be followed");
    }
}

/// The License Manager has a prefix and, if configured, a listener; the address of the connection decides.
#[tokio::test]
async fn the_license_manager_trusts_the_configured_networks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    for (section, status) in
        [("", 200), ("[license_manager]\ntrusted_networks = ['192.0.2.0/24', '::1/128']\n", 403)]
    {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = format!("[listeners.license-manager]\nlisten = \"{free}\"\n{section}");
        std::fs::write(&file, listener).unwrap();
        let server = Server::start_with(&["--config", file.to_str().unwrap()]);
        let http = reqwest::Client::new();
        for base in [format!("{}/license-manager", server.address), format!("http://{free}")] {
            let ping = reply(http.get(format!("{base}/pingLicenseManager"))).await;
            assert_eq!(ping.status, 200, "{base}");
            assert_eq!(ping.body, b"OK", "{base}");
            let release = format!("{base}/externalShutdown?hostDomainName=h&port=9999&product=VDP");
            let answer = reply(http.get(release)).await.expect(status);
            let word = if status == 200 { &answer["result"] } else { &answer["status"] };
            assert!(*word == "ERROR" || *word == 403, "{base}: {answer}");
        }
    }
}

/// One node executes the run that creates the sample; every node needs the file in its own data directory.
#[tokio::test]
async fn every_node_has_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    std::fs::write(&file, "[blobs]\nshared = true\n").unwrap();
    let (_, database) = postgres_database().await;
    let extra = ["--config", file.to_str().unwrap(), "--store", &database.url].map(str::to_owned);
    let mut first = Server::on(folder.path().join("first"), extra.to_vec());
    first.wait_for_sample();
    let key = first.key();
    let second_dir = folder.path().join("second");
    std::fs::create_dir(&second_dir).unwrap();
    std::fs::copy(first.data_dir.join("seal.key"), second_dir.join("seal.key")).unwrap();
    let second = Server::on(second_dir, extra.to_vec());
    let mine = second.data_dir.join("sample/tpch.db");
    for _ in 0..1_200 {
        if mine.exists() {
            break;
        }
        pause(Duration::from_millis(50));
    }
    assert!(mine.exists(), "the second node has no sample");
    first.signal("-TERM");
    first.wait();
    let client = second.client(&key);
    let sample = client.get("/cluvio/datasources").await.expect(200)["data"][0]["id"].clone();
    let rows = client.query(sample.as_str().unwrap(), "select count(*) as n from region").await;
    assert_eq!(rows["rows"], serde_json::json!([[5]]));
}

#[tokio::test]
async fn public_url_makes_cookies_secure_and_urls_public() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    let text = "[server]\npublic_url = \"https://data.example.com\"\n";
    std::fs::write(&file, text).unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = format!("name=admin&password={}", PASSWORD.replace(' ', "+"));
    let console = reply(http.post(format!("{}/sign-in", server.address)).body(form)).await;
    let cookie = console.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure; Path=/"), "{cookie}");
    let login = http.get(format!("{}/solution-manager/login", server.address));
    let login = reply(login.basic_auth("admin", Some(PASSWORD))).await;
    let cookie = login.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with(";HttpOnly;SameSite=Lax;Secure"), "{cookie}");
    let runs = http.get(format!("{}/clover/api/rest/v1/executions", server.address));
    let runs =
        reply(runs.basic_auth("admin", Some(PASSWORD)).header("X-Requested-By", "t")).await.expect(200);
    assert_eq!(runs["@self"], "https://data.example.com/clover/api/rest/v1/executions");
}

/// Whatever the mode of the data directory and the umask are.
#[tokio::test]
async fn created_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, copy) = (folder.path().join("data"), folder.path().join("copy"));
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::with_umask_zero(&data_dir);
    server.wait_for_sample();
    let client = server.client(&server.key());
    let sample = client.get("/cluvio/datasources").await.expect(200)["data"][0]["id"].clone();
    let body = serde_json::json!({ "sql_query": "select l_orderkey, l_comment from lineitem" });
    client.execute(sample.as_str().unwrap(), &body).await;
    let backup = |target: &std::path::Path| {
        let mut command = crate::support::umask_zero();
        command.args(["estate", "backup", "--with-key", "--data-dir"]).arg(&data_dir).arg(target);
        command.output().unwrap()
    };
    crate::support::said(&backup(&copy));
    let restored = folder.path().join("restored");
    // Like a backup copied by a tool that does not preserve modes.
    std::fs::set_permissions(copy.join("estate.db"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = crate::support::umask_zero();
    command.args(["estate", "restore", "--data-dir"]).arg(&restored).arg(&copy);
    crate::support::said(&command.output().unwrap());
    std::fs::remove_file(copy.join("estate.db")).unwrap();
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let mut left = vec![copy, restored];
    left.extend(std::fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().path()));
    while let Some(path) = left.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
        if metadata.permissions().mode() & 0o077 != 0 {
            open.push(path);
        }
    }
    for name in
        ["estate.db", "estate.db-wal", "estate.db-shm", "seal.key", "control.sock", "blobs", "spill", "lock"]
    {
        assert!(seen.iter().any(|found| found == name), "there is no {name} in {seen:?}");
    }
    assert!(open.is_empty(), "open to others: {open:?}");
}
