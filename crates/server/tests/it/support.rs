//! A server process with its own data directory, a client for it, and databases to point it at.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_landreeve");
pub const PASSWORD: &str = "correct horse battery";

pub struct Server {
    child: Child,
    pub address: String,
    pub data_dir: PathBuf,
    extra: Vec<String>,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    pub fn start_with(extra: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let extra = extra.iter().map(|text| (*text).to_owned()).collect();
        let mut server = Server::on(data_dir, extra);
        server._folder = Some(folder);
        server
    }

    /// An estate whose server has stopped.
    pub fn stopped() -> Server {
        let mut server = Server::start();
        server.signal("-TERM");
        server.wait();
        server
    }

    pub fn on(data_dir: PathBuf, extra: Vec<String>) -> Server {
        let (child, address) = spawn(&data_dir, "127.0.0.1:0", &extra);
        Server { child, address, data_dir, extra, _folder: None }
    }

    /// Runs in a separate mount namespace, in which the data directory is a small disk in memory.
    pub fn on_small_disk(data_dir: &Path, size: &str) -> Server {
        let script = format!(
            "mount -t tmpfs -o size={size} none \"$1\" && exec \"$2\" serve --listen 127.0.0.1:0 --data-dir \"$1\""
        );
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(data_dir).arg(PROGRAM);
        let (child, address) = listening(command);
        Server { child, address, data_dir: data_dir.to_path_buf(), extra: Vec::new(), _folder: None }
    }

    /// Starts from a shell with umask 0.
    pub fn with_umask_zero(data_dir: &Path) -> Server {
        let mut command = umask_zero();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
        let (child, address) = listening(command);
        Server { child, address, data_dir: data_dir.to_path_buf(), extra: Vec::new(), _folder: None }
    }

    /// Starts with these variables in its environment.
    pub fn with_variables(data_dir: &Path, extra: &[&str], variables: &[(&str, &Path)]) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir).args(extra);
        command.envs(variables.iter().copied());
        let (child, address) = listening(command);
        let extra = extra.iter().map(|text| (*text).to_owned()).collect();
        Server { child, address, data_dir: data_dir.to_path_buf(), extra, _folder: None }
    }

    /// Runs a command in the server's mount namespace.
    pub fn say_inside(&self, arguments: &[&str]) -> String {
        said(&self.run_inside(arguments))
    }

    pub fn run_inside(&self, arguments: &[&str]) -> Output {
        let pid = self.pid().to_string();
        Command::new("nsenter")
            .args(["--user", "--preserve-credentials", "--mount", "--target", &pid, PROGRAM])
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .output()
            .unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, to simulate a power cut.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(signal).arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Waits at most 30 seconds for the process to end and returns its exit status.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        for _ in 0..3_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            pause(Duration::from_millis(10));
        }
        panic!("the server did not stop");
    }

    /// Starts a new process on the same data directory.
    pub fn restart(&mut self) {
        (self.child, self.address) = spawn(&self.data_dir, "127.0.0.1:0", &self.extra);
    }

    /// The same, at the address that it had.
    pub fn restart_there(&mut self) {
        let (_, place) = self.address.split_once("://").unwrap();
        (self.child, self.address) = spawn(&self.data_dir, place, &self.extra);
    }

    /// Waits until the sample exists; it is created in the background.
    pub fn wait_for_sample(&self) {
        for _ in 0..600 {
            let listed = self.say(&["run", "list", "--format", "csv"]);
            if listed.contains("sample_data,succeeded") {
                return;
            }
            pause(Duration::from_millis(50));
        }
        panic!("the sample was not created");
    }

    pub fn cli(&self, arguments: &[&str]) -> Output {
        run(&self.data_dir, arguments, None)
    }

    pub fn cli_with_input(&self, arguments: &[&str], input: &str) -> Output {
        run(&self.data_dir, arguments, Some(input))
    }

    /// Runs a command that must succeed; returns its output without the trailing newline.
    pub fn say(&self, arguments: &[&str]) -> String {
        said(&self.cli(arguments))
    }

    /// Creates a key with every permission that the dialect has.
    pub fn key(&self) -> String {
        self.key_with(&["Manage Datasources", "Manage Dashboards", "Manage Filters", "Manage SQL Snippets"])
    }

    pub fn key_with(&self, permissions: &[&str]) -> String {
        let mut arguments = vec!["key", "create", "--api", "cluvio", "--name", "test"];
        for permission in permissions {
            arguments.extend(["--permission", permission]);
        }
        self.say(&arguments)
    }

    pub fn client(&self, key: &str) -> Client {
        Client { http: reqwest::Client::new(), address: self.address.clone(), key: key.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn said(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    out.trim_end().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "polls another process; nothing is timed by it")]
pub fn pause(time: Duration) {
    std::thread::sleep(time); // tidy: allow sleep: it is another process
}

/// The program under umask 0; the caller adds the arguments.
pub fn umask_zero() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0 && exec \"$@\"", "sh", PROGRAM]);
    command
}

fn spawn(data_dir: &Path, listen: &str, extra: &[String]) -> (Child, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--listen", listen, "--data-dir"]).arg(data_dir).args(extra);
    listening(command)
}

/// Starts a server and waits until it prints its address.
fn listening(mut command: Command) -> (Child, String) {
    let mut child = command
        .env("LANDREEVE_ADMIN_PASSWORD", PASSWORD)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}"));
    (child, address.to_owned())
}

/// A command of the program on a data directory.
pub fn command(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    // The data directory records where the metadata is, but not the password.
    if std::fs::read_to_string(data_dir.join("estate.toml")).is_ok_and(|text| text.contains("postgres://")) {
        command.env("PGPASSWORD", address("LANDREEVE_TEST_POSTGRES").password);
    }
    command.args(arguments).arg("--data-dir").arg(data_dir);
    command
}

pub fn run(data_dir: &Path, arguments: &[&str], input: Option<&str>) -> Output {
    use std::io::Write as _;
    let mut child = command(data_dir, arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap()
}

pub struct Client {
    http: reqwest::Client,
    pub address: String,
    key: String,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks the status and returns the body.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

impl Client {
    pub fn key(&self) -> &str {
        &self.key
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self
            .http
            .request(method, format!("{}{path}", self.address))
            .header("Authorization", format!("Api {}", self.key));
        let request = match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        };
        reply(request).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Returns status and body; `None`: the server is gone.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self
            .http
            .post(format!("{}{path}", self.address))
            .header("Authorization", format!("Api {}", self.key))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        Some((status, serde_json::from_slice(&body).ok()?))
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// Fetches from the data server, with a token.
    pub async fn data(&self, key: &str, token: &str, accept: &str) -> Reply {
        let request = self
            .http
            .get(format!("{}/cluvio-data/data/{key}", self.address))
            .header("Authorization", format!("Data {token}"))
            .header("Accept", accept);
        reply(request).await
    }

    /// Creates a datasource and returns its id.
    pub async fn datasource(&self, attributes: Value) -> String {
        let body = serde_json::json!({ "data": { "attributes": attributes } });
        let made = self.post("/cluvio/datasources", &body).await.expect(201);
        made["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs a statement to its end and returns the execution.
    pub async fn execute(&self, datasource: &str, body: &Value) -> Value {
        let path = format!("/cluvio/datasources/{datasource}/executions?wait=60");
        self.post(&path, body).await.expect(200)
    }

    /// Runs a statement and returns its result as JSON.
    pub async fn query(&self, datasource: &str, sql: &str) -> Value {
        self.query_with(datasource, &serde_json::json!({ "sql_query": sql })).await
    }

    pub async fn query_with(&self, datasource: &str, body: &Value) -> Value {
        let execution = self.execute(datasource, body).await;
        let attributes = &execution["data"]["attributes"];
        assert_eq!(attributes["execution_status"], "completed", "{execution}");
        let id = execution["data"]["id"].as_str().unwrap();
        let grant = self.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
        let (key, token) =
            (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
        self.data(key, token, "application/json").await.expect(200)
    }
}

pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

/// The parts of a database's address in a variable that `cargo xtask test` sets.
#[derive(Debug, Clone)]
pub struct Address {
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: u16,
    pub url: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests take the addresses of their databases from the environment"
)]
pub fn address(variable: &str) -> Address {
    let url =
        std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
    let rest = url.split_once("://").unwrap().1;
    let (credentials, rest) = rest.split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let (host, port) = rest.split('/').next().unwrap().split_once(':').unwrap();
    Address {
        user: user.to_owned(),
        password: password.to_owned(),
        host: host.to_owned(),
        port: port.parse().unwrap(),
        url: url.clone(),
    }
}

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Creates an empty PostgreSQL database; returns its name and address.
pub async fn postgres_database() -> (String, Address) {
    let mut address = address("LANDREEVE_TEST_POSTGRES");
    let name = format!("it_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    postgres(&address.url, &format!("CREATE DATABASE {name}")).await;
    address.url =
        format!("postgres://{}:{}@{}:{}/{name}", address.user, address.password, address.host, address.port);
    (name, address)
}

/// Creates an empty database on the MariaDB server; returns its name and address.
pub async fn mariadb_database() -> (String, Address) {
    let address = address("LANDREEVE_TEST_MARIADB");
    let name = format!("it_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    mariadb(&address.url, &[&format!("CREATE DATABASE {name}")]).await;
    (name, address)
}

pub async fn mariadb(url: &str, statements: &[&str]) {
    let options = mysql_async::OptsBuilder::from_opts(mysql_async::Opts::from_url(url).unwrap());
    let mut conn = mysql_async::Conn::new(options.prefer_socket(false)).await.unwrap();
    for sql in statements {
        mysql_async::prelude::Queryable::query_drop(&mut conn, *sql).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

pub async fn postgres(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    driving.await.unwrap().unwrap();
}
