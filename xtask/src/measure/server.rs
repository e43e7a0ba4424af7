//! The programs that are measured: the server with its own data directory, and the bare handler.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::http::{self, Client, Reply};
use crate::databases::Databases;

/// Where the programs are: a `release` folder.
pub struct Programs(pub PathBuf);

impl Programs {
    /// A folder that the user named.
    pub fn given(folder: &Path) -> Result<Self> {
        Ok(Self(folder.canonicalize().with_context(|| format!("{}", folder.display()))?))
    }

    pub fn server(&self) -> PathBuf {
        self.0.join("landreeve")
    }

    pub fn example(&self, name: &str) -> PathBuf {
        self.0.join("examples").join(name)
    }

    /// Runs an example that prints microseconds, one number per line; returns milliseconds.
    pub fn milliseconds(&self, example: &str, args: &[&str]) -> Result<Vec<f64>> {
        let output =
            Command::new(self.example(example)).args(args).output().with_context(|| example.to_owned())?;
        ensure!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let number = |line: &str| line.trim().parse::<f64>().map(|micros| micros / 1000.0);
        text.lines().map(number).collect::<Result<_, _>>().with_context(|| format!("{example}: {text}"))
    }
}

impl Programs {
    /// Runs an example that prints `NAME: FIGURE FIGURE …` on each line.
    pub fn figures(&self, example: &str, args: &[&str]) -> Result<Vec<(String, Vec<f64>)>> {
        let output =
            Command::new(self.example(example)).args(args).output().with_context(|| example.to_owned())?;
        ensure!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let line = |line: &str| {
            let (name, figures) = line.split_once(": ").context("no name")?;
            let figures = figures.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            Ok((name.to_owned(), figures))
        };
        text.lines().map(line).collect::<Result<_>>().with_context(|| format!("{example}: {text}"))
    }
}

/// A program that prints its address; killed when dropped.
pub struct Listening {
    child: Child,
    /// `http://HOST:PORT`
    pub address: String,
    /// Time from its start to that line.
    pub ready: Duration,
    /// Kept open so that the program can keep printing.
    _said: BufReader<ChildStdout>,
}

impl Listening {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .spawn()
            .with_context(|| program.clone())?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        let read = said.read_line(&mut line);
        let ready = begun.elapsed();
        let Some(address) = line.trim().strip_prefix("listening on ").filter(|_| read.is_ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            bail!(
                "{program} printed {line:?}; its log: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
        };
        let address = address.to_owned();
        Ok(Self { child, address, ready, _said: said })
    }

    /// Starts the bare handler, which returns these bytes.
    pub fn bare(programs: &Programs, directory: &Path, reply: &Reply) -> Result<Self> {
        let file = directory.join("bare-body");
        std::fs::write(&file, &reply.body)?;
        let mut command = Command::new(programs.example("bare"));
        command.arg(file).arg(&reply.content_type);
        Self::start(command, &directory.join("bare.log"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It has already ended or ends now, so errors do not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data directory, its metadata database, and the server on it while it runs.
pub struct Server {
    program: PathBuf,
    data: PathBuf,
    /// `None`: SQLite in the data directory.
    database: Option<String>,
    config: Option<PathBuf>,
    /// Of its environment, besides ours.
    variables: Vec<(&'static str, String)>,
    log: PathBuf,
    running: Option<Listening>,
}

impl Server {
    /// `name` is a folder to create in `directory`.
    pub fn new(programs: &Programs, directory: &Path, name: &str, database: Option<String>) -> Self {
        let (data, log) = (directory.join(name), directory.join(format!("{name}.log")));
        let program = programs.server();
        Self { program, data, database, config: None, variables: Vec::new(), log, running: None }
    }

    /// Sets the configuration for all later starts, as TOML.
    pub fn configure(&mut self, toml: &str) -> Result<()> {
        let file = self.data.with_extension("toml");
        std::fs::write(&file, toml).context("the configuration")?;
        self.config = Some(file);
        Ok(())
    }

    /// Sets a variable of its environment for all later starts.
    pub fn variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Starts it and waits until it has created the sample, so that it is idle.
    pub fn start(&mut self, databases: &mut Databases) -> Result<()> {
        self.launch()?;
        self.watch(databases)?;
        for _ in 0..600 {
            if self.command(&["run", "list", "--format", "csv"])?.contains("sample_data,succeeded") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the server did not create its sample within a minute")
    }

    /// Has it stopped with the databases, in case this command ends before it can.
    pub fn watch(&self, databases: &mut Databases) -> Result<()> {
        databases.watch(&self.running()?.child)
    }

    /// Starts it and returns as soon as it listens.
    pub fn launch(&mut self) -> Result<Duration> {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.place(&mut command);
        let listening = Listening::start(command, &self.log)?;
        let ready = listening.ready;
        self.running = Some(listening);
        Ok(ready)
    }

    /// Stops it and waits until it has ended.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut listening) = self.running.take() else { return Ok(()) };
        Command::new("sh").args(["-c", &format!("kill -s TERM {}", listening.pid())]).status()?;
        let status = listening.child.wait()?;
        ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(listening) = &mut self.running else { return Ok(None) };
        listening.child.try_wait().context("the server")
    }

    /// Ends it without waiting for anything that it is doing.
    pub fn kill(&mut self) {
        self.running = None;
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    fn place(&self, command: &mut Command) {
        command.arg("--data-dir").arg(&self.data);
        if let Some(database) = &self.database {
            command.args(["--store", database]);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
    }

    fn running(&self) -> Result<&Listening> {
        self.running.as_ref().context("the server is not running")
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.running()?.pid())
    }

    pub fn address(&self) -> Result<&str> {
        Ok(&self.running()?.address)
    }

    /// The metadata store, if it is a file.
    pub fn store_file(&self) -> String {
        self.data.join("estate.db").to_string_lossy().into_owned()
    }

    pub fn command(&self, args: &[&str]) -> Result<String> {
        self.command_with_input(args, "")
    }

    /// The input must be short: it is written before the output is read.
    pub fn command_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(args);
        self.place(&mut command);
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("landreeve")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).context("landreeve")?;
        }
        let output = child.wait_with_output().context("landreeve")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "landreeve {}: {error}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A file or folder of the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Creates a key for the Cluvio API; returns the header `Authorization`.
    pub fn cluvio_key(&self, name: &str) -> Result<String> {
        let permissions = ["--permission", "Manage Datasources", "--permission", "Manage Dashboards"];
        let mut arguments = vec!["key", "create", "--api", "cluvio", "--name", name];
        arguments.extend(permissions);
        Ok(format!("Api {}", self.command(&arguments)?))
    }

    /// Creates a datasource with these attributes, as members of a JSON object.
    pub fn datasource(&self, authorization: &str, attributes: &str) -> Result<Access> {
        let mut client = Client::connect(self.address()?, authorization)?;
        let body = format!(r#"{{"data":{{"type":"datasources","attributes":{{{attributes}}}}}}}"#);
        let datasource = client.post("/cluvio/datasources", &body)?.expect(201)?.field("id")?.to_owned();
        Ok(Access { authorization: authorization.to_owned(), datasource })
    }
}

/// What a client needs.
#[derive(Clone)]
pub struct Access {
    pub authorization: String,
    pub datasource: String,
}

impl Access {
    pub fn client(&self, server: &Server) -> Result<Client> {
        Client::connect(server.address()?, &self.authorization)
    }

    /// Submits a query; returns the execution as in the first response.
    pub fn submit(&self, client: &mut Client, sql: &str, wait: bool) -> Result<Reply> {
        let path = format!(
            "/cluvio/datasources/{}/executions{}",
            self.datasource,
            if wait { "?wait=60" } else { "" }
        );
        client.post(&path, &format!(r#"{{"sql_query":{}}}"#, http::quoted(sql)))?.expect(200)
    }

    /// Waits until an execution has completed; any other end is an error.
    pub fn complete(&self, client: &mut Client, mut shown: Reply) -> Result<String> {
        let id = shown.field("execution_id")?.to_owned();
        loop {
            match shown.field("execution_status")? {
                "completed" => return Ok(id),
                "queued" | "starting" | "running" => {}
                _ => bail!("the execution did not complete: {}", shown.body),
            }
            shown = client.get(&format!("/cluvio/executions/{id}?wait=60"))?.expect(200)?;
        }
    }

    /// Reads the whole result as JSON; returns its start and its length.
    pub fn data(&self, client: &mut Client, id: &str) -> Result<Reply> {
        let (path, authorization) = self.grant(client, id)?;
        client.drain(&path, &authorization, "")?.expect(200)
    }

    /// The path of the result's data and the header `Authorization` for it.
    pub fn grant(&self, client: &mut Client, id: &str) -> Result<(String, String)> {
        let grant = client.get(&format!("/cluvio/executions/{id}/data"))?.expect(200)?;
        let (key, token) = (grant.field("data_key")?, grant.field("data_access_token")?);
        Ok((format!("/cluvio-data/data/{key}"), format!("Data {token}")))
    }
}
