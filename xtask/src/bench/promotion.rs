//! The promotion plane: many views deployed to ten servers against one `vql run`, filters of properties, the progress of
//! many tasks, the start of a deployment, and Kerberos tickets against cookies.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Bench, Sizes, virtual_views};
use crate::databases;
use crate::measure::http::{Client, quoted};
use crate::measure::report::{Report, median, spread};
use crate::measure::server::Server;

/// Limits: a ratio, then milliseconds.
const DEPLOYMENT: f64 = 12.0;
const FILTER: f64 = 20.0;
const PROGRESS: f64 = 20.0;
const COMMITS: f64 = 3.0;
const START: f64 = 50.0;
const TICKET: f64 = 10.0;

const CLUSTERS: usize = 5;
const SERVERS: usize = 2;
/// Of properties in one request.
const BATCH: usize = 10_000;
/// How many matches a filter has, at most.
const MATCHES: usize = 100;
/// How often a progress is asked for.
const LOOK: Duration = Duration::from_millis(10);
/// Of requests, not measured.
const WARM_UP: usize = 5;

/// `CREATE OR REPLACE DATABASE d;` and a line break.
const SMALL: &str = "Q1JFQVRFIE9SIFJFUExBQ0UgREFUQUJBU0UgZDsK";

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    bench.postgres.create_database("promotion")?;
    bench.postgres.create_database("promotion_commits")?;
    let file = bench.directory.join("promotion-commits.db").display().to_string();
    let stores = [
        ("SQLite", None, file),
        ("PostgreSQL", Some(bench.postgres.url("promotion")), bench.postgres.url("promotion_commits")),
    ];
    for (store, database, commits) in stores {
        let name = format!("promotion-{store}");
        let mut server = Server::new(&bench.programs, &bench.directory, &name, database);
        server.start(&mut bench.databases)?;
        let mut manager = Manager::new(&server)?;
        deploying(bench, sizes, &server, &mut manager, store, report)?;
        filters(sizes, &mut manager, store, report)?;
        progress(sizes, &mut manager, store, report)?;
        starts(bench, sizes, &mut manager, (store, &commits), report)?;
        server.stop()?;
    }
    match tickets(bench, sizes) {
        Ok((tickets, cookies)) => tell_tickets(&tickets, &cookies, report),
        // No KDC, no kinit, or a curl without Kerberos.
        Err(error) => report.note("`Negotiate` above a cookie", format!("skipped: {error:#}")),
    }
    Ok(())
}

/// A client of the Solution Manager, signed in.
struct Manager {
    client: Client,
}

impl Manager {
    fn new(server: &Server) -> Result<Manager> {
        let create = ["user", "create", "bench", "--role", "Administrator", "--password-stdin"];
        server.command_with_input(&create, "benchmark password\n")?;
        // `bench:benchmark password`
        let mut login = Client::connect(server.address()?, "Basic YmVuY2g6YmVuY2htYXJrIHBhc3N3b3Jk")?;
        let session = login.get("/solution-manager/login")?.expect(200)?.cookie;
        ensure!(!session.is_empty(), "no session");
        Ok(Manager { client: Client::connect(server.address()?, "")?.with_cookie(&session) })
    }

    /// The body of a GET that must succeed.
    fn get(&mut self, path: &str) -> Result<String> {
        Ok(self.client.get(&format!("/solution-manager{path}"))?.expect(200)?.body)
    }

    /// The id of what was created.
    fn made(&mut self, path: &str, body: &str, status: u16) -> Result<String> {
        let reply = self.client.post(&format!("/solution-manager{path}"), body)?.expect(status)?;
        Ok(reply.field("id")?.to_owned())
    }

    /// An environment of so many clusters, each with so many embedded servers.
    fn environment(&mut self, name: &str, clusters: usize, servers: usize) -> Result<String> {
        let id = self.made("/environments", &format!(r#"{{"name":"{name}"}}"#), 201)?;
        for cluster in 0..clusters {
            let body = format!(r#"{{"name":"c{cluster}","environmentId":{id}}}"#);
            let of = self.made("/clusters", &body, 201)?;
            for server in 0..servers {
                let server = format!("{name}-{cluster}-{server}");
                let body = format!(r#"{{"name":"{server}","urlIP":"embedded","clusterId":{of}}}"#);
                self.made("/servers", &body, 201)?;
            }
        }
        Ok(id)
    }

    fn revision(&mut self, name: &str) -> Result<String> {
        let body = format!(r#"{{"name":"{name}","content":"{SMALL}"}}"#);
        self.made("/revisions/loadFromVQL", &body, 200)
    }

    /// Starts a deployment and returns its id.
    fn submit(&mut self, environment: &str, revisions: &[String]) -> Result<String> {
        let body = format!(r#"{{"revisionIds":[{}],"environmentId":{environment}}}"#, revisions.join(","));
        let reply = self.client.post("/solution-manager/deployments", &body)?.expect(200)?;
        Ok(reply.field("deploymentId")?.to_owned())
    }

    /// Waits until a deployment has succeeded.
    fn ended(&mut self, id: &str) -> Result<()> {
        loop {
            let shown = self.client.get(&format!("/solution-manager/deployments/{id}/progress"))?;
            let shown = shown.expect(200)?;
            match shown.field("state")? {
                "IN_PROGRESS" => std::thread::sleep(LOOK),
                "OK" => return Ok(()),
                _ => bail!("the deployment failed: {}", shown.body),
            }
        }
    }
}

fn deploying(
    bench: &Bench,
    sizes: &Sizes,
    server: &Server,
    manager: &mut Manager,
    store: &str,
    report: &mut Report,
) -> Result<()> {
    let file = bench.directory.join(format!("promotion-{store}.vql"));
    fs::write(&file, virtual_views::script(sizes.views, false))?;
    let file = file.to_string_lossy();
    server.command(&["revision", "create", "Views", "--vql", &file])?;
    let newest = manager.get("/revisions?count=1")?;
    let (_, rest) = newest.split_once("\"id\":").context("no revision")?;
    let revision = rest.split(',').next().unwrap_or_default().to_owned();
    let (mut alone, mut deployed) = (Vec::new(), Vec::new());
    for pair in 0..sizes.pairs.min(3) {
        // Each on nodes of its own, so that every view is new.
        let node = format!("alone-{pair}");
        server.command(&["vql", "node", "create", &node])?;
        let begun = Instant::now();
        server.command(&["vql", "run", &file, "--node", &node])?;
        alone.push(begun.elapsed().as_secs_f64());
        let environment = manager.environment(&format!("views-{pair}"), CLUSTERS, SERVERS)?;
        let begun = Instant::now();
        let id = manager.submit(&environment, std::slice::from_ref(&revision))?;
        manager.ended(&id)?;
        deployed.push(begun.elapsed().as_secs_f64());
    }
    let (above, below) = (median(&deployed), median(&alone));
    report.judge(
        format!(
            "metadata in {store}: {} views to {} servers in {CLUSTERS} clusters, over `vql run` on one",
            sizes.views,
            CLUSTERS * SERVERS
        ),
        format!("{:.2} ({above:.2} s / {below:.2} s)", above / below),
        format!("at most {DEPLOYMENT}"),
        above / below <= DEPLOYMENT,
    );
    Ok(())
}

/// A name for each number: 100 of each database, four of each data source, and every so often one of a view.
fn property(number: usize, all: usize) -> String {
    const PARAMETERS: [&str; 4] = ["DATABASEURI", "USERNAME", "CATALOGNAME", "SCHEMANAME"];
    let database = number / MATCHES;
    if number.is_multiple_of(all / MATCHES) {
        return format!("databases.db{database}.views.ldap.shared.SCHEMANAME");
    }
    let (source, parameter) = (number / PARAMETERS.len(), PARAMETERS[number % PARAMETERS.len()]);
    format!("databases.db{database}.datasources.jdbc.ds{source}.{parameter}")
}

fn filters(sizes: &Sizes, manager: &mut Manager, store: &str, report: &mut Report) -> Result<()> {
    let environment = manager.environment("properties", 0, 0)?;
    let path = format!("/solution-manager/environments/{environment}/vdpProperties");
    let all: Vec<String> = (0..sizes.properties).map(|number| property(number, sizes.properties)).collect();
    for names in all.chunks(BATCH) {
        let each: Vec<String> =
            names.iter().map(|name| format!(r#"{{"name":{},"value":"v"}}"#, quoted(name))).collect();
        manager.client.post(&path, &format!("[{}]", each.join(",")))?.expect(200)?;
    }
    let last = all.last().context("no properties")?;
    let filters = [
        ("propertyName", format!("propertyName={last}"), 1),
        ("databaseName", "databaseName=db7".to_owned(), MATCHES),
        ("elementType", "elementType=views".to_owned(), MATCHES),
        ("elementTypeName", "elementTypeName=ldap".to_owned(), MATCHES),
        ("elementName", "elementName=shared".to_owned(), MATCHES),
        (
            "all but the name",
            "databaseName=db0&elementType=view&elementTypeName=LDAP&elementName=shared".to_owned(),
            1,
        ),
        ("no match", "elementName=none".to_owned(), 0),
    ];
    let mut worst = ("", Vec::new());
    for (name, query, matches) in &filters {
        let mut times = Vec::new();
        for done in 0..WARM_UP + sizes.executions / 3 {
            let begun = Instant::now();
            let found = manager.client.get(&format!("{path}?{query}"))?.expect(200)?;
            if done >= WARM_UP {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            let count = found.body.matches("\"propertyType\"").count();
            ensure!(count == *matches, "{name}: {count} properties and not {matches}");
        }
        if worst.1.is_empty() || median(&times) > median(&worst.1) {
            worst = (*name, times);
        }
    }
    let (name, times) = worst;
    report.judge(
        format!(
            "metadata in {store}: up to {MATCHES} of {} properties, the slowest of {} filters",
            sizes.properties,
            filters.len()
        ),
        format!("{} ({name})", spread(&times)),
        format!("median at most {FILTER} ms"),
        median(&times) <= FILTER,
    );
    Ok(())
}

fn progress(sizes: &Sizes, manager: &mut Manager, store: &str, report: &mut Report) -> Result<()> {
    let environment = manager.environment("tasks", CLUSTERS, SERVERS)?;
    let mut revisions = Vec::new();
    for number in 0..sizes.tasks / (CLUSTERS * SERVERS) {
        revisions.push(manager.revision(&format!("small {number}"))?);
    }
    let id = manager.submit(&environment, &revisions)?;
    manager.ended(&id)?;
    let mut times = Vec::new();
    for done in 0..WARM_UP + sizes.executions / 3 {
        let begun = Instant::now();
        let shown = manager.get(&format!("/deployments/{id}/progress"))?;
        if done >= WARM_UP {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let count = shown.matches("\"deploymentExecutionType\"").count();
        ensure!(count == sizes.tasks, "{count} tasks and not {}", sizes.tasks);
    }
    report.judge(
        format!("metadata in {store}: the progress of a deployment with {} tasks", sizes.tasks),
        spread(&times),
        format!("median at most {PROGRESS} ms"),
        median(&times) <= PROGRESS,
    );
    Ok(())
}

/// From the request to the first response that shows that a task has begun.
fn starts(
    bench: &Bench,
    sizes: &Sizes,
    manager: &mut Manager,
    (store, commits): (&str, &str),
    report: &mut Report,
) -> Result<()> {
    let half = (sizes.executions / 2).to_string();
    let mut commit = bench.programs.milliseconds("commit", &[commits, &half])?;
    let environment = manager.environment("starts", 1, 1)?;
    let revisions = [manager.revision("small")?];
    let mut times = Vec::new();
    for done in 0..WARM_UP + sizes.starts * 3 {
        let begun = Instant::now();
        let id = manager.submit(&environment, &revisions)?;
        while !manager.get(&format!("/deployments/{id}/progress"))?.contains("\"startDate\"") {}
        if done >= WARM_UP {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        manager.ended(&id)?;
    }
    // Before and after, so that a change in disk speed affects both sides.
    commit.extend(bench.programs.milliseconds("commit", &[commits, &half])?);
    let limit = COMMITS * median(&commit) + START;
    report.judge(
        format!("metadata in {store}: `POST /deployments` to the first task"),
        format!("{} (a durable commit of one row: {:.2} ms)", spread(&times), median(&commit)),
        format!("median at most {limit:.2} ms (3 commits + {START} ms)"),
        median(&times) <= limit,
    );
    Ok(())
}

/// Where the realm of the benchmark is.
struct Realm {
    config: PathBuf,
    cache: PathBuf,
}

impl Realm {
    /// Has alice sign in.
    fn new(bench: &mut Bench) -> Result<Realm> {
        bench.databases.add_kerberos()?;
        let config = PathBuf::from(bench.databases.export("LANDREEVE_TEST_KRB5_CONFIG")?);
        let realm = Realm { config, cache: bench.directory.join("alice.ticket") };
        let kinit = databases::program(&["kinit"]).context("kinit")?;
        let mut kinit = Command::new(kinit);
        kinit.env("KRB5_CONFIG", &realm.config).args(["-k", "-t"]).arg(realm.keytab("users.keytab"));
        let output = kinit.arg("-c").arg(&realm.cache).arg("alice").output().context("kinit")?;
        ensure!(output.status.success(), "kinit: {}", String::from_utf8_lossy(&output.stderr));
        Ok(realm)
    }

    fn keytab(&self, name: &str) -> PathBuf {
        self.config.with_file_name(name)
    }

    /// A token that curl would send and that no server has seen, as the value of `Authorization`.
    fn token(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://localhost:{}/", listener.local_addr()?.port());
        let mut curl = Command::new(databases::program(&["curl"]).context("curl")?);
        curl.args(["-sS", "--ipv4", "--max-time", "30", "--negotiate", "-u", ":", &url]);
        curl.env("KRB5_CONFIG", &self.config).env("KRB5CCNAME", &self.cache);
        let mut curl = curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let token = receive(&listener, &mut curl);
        let ended = curl.wait()?;
        let token = token?;
        ensure!(ended.success(), "curl ended with {ended}");
        Ok(token)
    }
}

/// Answers one request; returns its header `Authorization`.
fn receive(listener: &TcpListener, curl: &mut Child) -> Result<String> {
    listener.set_nonblocking(true)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // A curl without Kerberos ends without a request.
                if let Some(status) = curl.try_wait()? {
                    bail!("curl ended with {status}");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut head, mut part) = (Vec::new(), [0_u8; 4_096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut part)?;
        ensure!(read > 0, "curl closed the connection");
        head.extend_from_slice(&part[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let head = String::from_utf8(head)?;
    let line = head.lines().find_map(|line| line.strip_prefix("Authorization: "));
    let token = line.filter(|value| value.starts_with("Negotiate ")).context("curl has no ticket")?;
    Ok(token.to_owned())
}

/// Milliseconds of a GET with a ticket each, and with a cookie, alternately over one connection each.
fn tickets(bench: &mut Bench, sizes: &Sizes) -> Result<(Vec<f64>, Vec<f64>)> {
    const PATH: &str = "/solution-manager/environments";
    let realm = Realm::new(bench)?;
    let mut server = Server::new(&bench.programs, &bench.directory, "promotion-kerberos", None);
    server.configure(&configuration(&realm.keytab("service.keytab"))?)?;
    server.variable("KRB5_CONFIG", &realm.config.to_string_lossy());
    server.start(&mut bench.databases)?;
    server.command(&["user", "create", "alice", "--role", "developer"])?;
    let mut by_ticket = Client::connect(server.address()?, "")?;
    let login = realm.token()?;
    let session =
        Client::connect(server.address()?, &login)?.get("/solution-manager/login")?.expect(200)?.cookie;
    let mut by_cookie = Client::connect(server.address()?, "")?.with_cookie(&session);
    let (mut tickets, mut cookies) = (Vec::new(), Vec::new());
    for done in 0..WARM_UP + sizes.executions / 3 {
        let token = realm.token()?;
        let begun = Instant::now();
        by_ticket.drain(PATH, &token, "")?.expect(200)?;
        let ticket = begun.elapsed();
        let begun = Instant::now();
        by_cookie.get(PATH)?.expect(200)?;
        if done >= WARM_UP {
            tickets.push(ticket.as_secs_f64() * 1e3);
            cookies.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    server.stop()?;
    Ok((tickets, cookies))
}

fn configuration(keytab: &Path) -> Result<String> {
    let mut text = String::from("[kerberos]\nrealms = { \"EXAMPLE.COM\" = \"\" }\n");
    writeln!(text, "keytab = {keytab:?}")?;
    Ok(text)
}

fn tell_tickets(tickets: &[f64], cookies: &[f64], report: &mut Report) {
    let above = median(tickets) - median(cookies);
    report.judge(
        "`Negotiate` above a cookie: median of a GET",
        format!("{above:.2} ms (ticket: {}; cookie: {})", spread(tickets), spread(cookies)),
        format!("at most {TICKET} ms"),
        above <= TICKET,
    );
}
