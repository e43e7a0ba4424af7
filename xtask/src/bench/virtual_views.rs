//! Virtual databases: a join over two databases against reading its columns one after the other, rows by key with and without
//! pushdown, planning, and scripts of many views against the parser and planner that the engine is built on.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Bench, Sizes};
use crate::measure::process;
use crate::measure::report::{Report, median, spread};
use crate::measure::server::{Access, Server};

const JOIN: f64 = 1.5;
const MEMORY: f64 = 300.0;
const BY_KEY: f64 = 20.0;
/// So many times as often as the whole table, because their time varies more.
const FEW_ROWS: usize = 5;
const PLANNING: f64 = 10.0;
const SCRIPT: f64 = 5.0;
const LONGER: f64 = 5.0;
const REVERSED: f64 = 3.0;
const READINESS: f64 = 100.0;

/// What the two sides of the join are read with, one after the other.
const FACTS: &str = "SELECT customer, value, amount FROM facts";
const CUSTOMERS: &str = "SELECT id, grp FROM test.customers";
const JOINED: &str = "SELECT grp, COUNT(*) AS n, SUM(value) AS v, SUM(amount) AS a FROM sales GROUP BY grp";

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    fill(bench, sizes)?;
    let mut server = Server::new(&bench.programs, &bench.directory, "virtual", None);
    let sources = prepare(bench, &mut server, "true")?;
    join(bench, sizes, &server, &sources, report)?;
    let mut without = Server::new(&bench.programs, &bench.directory, "virtual-without", None);
    let unsent = prepare(bench, &mut without, "false")?;
    by_key(bench, sizes, (&server, &sources), (&without, &unsent), report)?;
    without.stop()?;
    planning(sizes, &server, &sources, report)?;
    server.stop()?;
    scripts(bench, sizes, report)
}

fn fill(bench: &Bench, sizes: &Sizes) -> Result<()> {
    let (facts, groups) = (sizes.facts, sizes.groups);
    bench.postgres.run(
        "postgres",
        &format!(
            "CREATE TABLE facts AS SELECT i::int8 AS id, i::int8 * 7919 % {groups} + 1 AS customer, \
             sin(i) * 1e6 AS value, (i % 1000000 / 100.0)::numeric(12,2) AS amount FROM generate_series(1, {facts}) AS i"
        ),
    )?;
    bench.postgres.run("postgres", "CREATE UNIQUE INDEX ON facts (id)")?;
    bench.postgres.run("postgres", "VACUUM (FREEZE, ANALYZE) facts")?;
    bench.postgres.run("postgres", "CHECKPOINT")?;
    let address = bench.databases.address("LANDREEVE_TEST_MARIADB")?;
    let sql = format!(
        "CREATE DATABASE IF NOT EXISTS test; CREATE TABLE test.customers (id BIGINT PRIMARY KEY, grp VARCHAR(20)) \
         AS SELECT seq AS id, CONCAT('group ', seq % 50) AS grp FROM test.seq_1_to_{groups}; ANALYZE TABLE test.customers"
    );
    let output = Command::new(bench.databases.export("LANDREEVE_TEST_MARIADB_CLIENT")?)
        .args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-u", &address.user, "-P"])
        .args([&address.port.to_string(), "-e", &sql])
        .env("MYSQL_PWD", &address.password)
        .output()
        .context("mariadb")?;
    ensure!(output.status.success(), "mariadb: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Views over the two tables, two levels for rows by key and five for planning.
const VIEWS: &str = "CREATE OR REPLACE DATABASE d; CONNECT DATABASE d;
CREATE OR REPLACE DATASOURCE JDBC facts_ds DATABASEURI = 'jdbc:landreeve:Facts';
CREATE OR REPLACE DATASOURCE JDBC customers_ds DATABASEURI = 'jdbc:landreeve:Customers';
CREATE OR REPLACE WRAPPER JDBC facts_w DATASOURCENAME = facts_ds SCHEMANAME = 'public' RELATIONNAME = 'facts'
  OUTPUTSCHEMA (id = 'id' : 'java.lang.Long', customer = 'customer' : 'java.lang.Long', value = 'value' : 'java.lang.Double',
    amount = 'amount' : 'java.math.BigDecimal' (sourcetypesize='12', sourcetypedecimals='2'));
CREATE OR REPLACE TABLE facts (id:long, customer:long, value:double, amount:decimal)
  ADD SEARCHMETHOD facts_w (OUTPUTLIST (id, customer, value, amount) WRAPPER (jdbc facts_w));
CREATE OR REPLACE WRAPPER JDBC customers_w DATASOURCENAME = customers_ds RELATIONNAME = 'customers';
CREATE OR REPLACE TABLE customers (id:long, grp:text)
  ADD SEARCHMETHOD customers_w (OUTPUTLIST (id, grp) WRAPPER (jdbc customers_w));
CREATE OR REPLACE VIEW sales AS SELECT f.id, f.value, f.amount, c.grp FROM facts f INNER JOIN customers c ON f.customer = c.id;
CREATE OR REPLACE VIEW one AS SELECT id, customer, value * 2 AS twice FROM facts WHERE customer > 0;
CREATE OR REPLACE VIEW two AS SELECT id, twice, UPPER(CAST(customer AS text)) AS customer FROM one;
CREATE OR REPLACE VIEW three AS SELECT t.id, t.twice, t.customer, s.grp FROM two t INNER JOIN sales s ON t.id = s.id;
CREATE OR REPLACE VIEW four AS SELECT grp, COUNT(*) AS n, MAX(twice) AS m FROM three WHERE id < 1000 GROUP BY grp;
CREATE OR REPLACE VIEW five AS SELECT f.grp, f.n, f.m, CASE WHEN f.n > 10 THEN 'many' ELSE 'few' END AS size FROM four f;
";

/// Starts a server with the two datasources, their row counts, and the views.
fn prepare(bench: &mut Bench, server: &mut Server, pushdown: &str) -> Result<Access> {
    server.start(&mut bench.databases)?;
    server.stop()?;
    server.configure(&format!("[engine]\npushdown = {pushdown}\n"))?;
    server.launch()?;
    server.watch(&mut bench.databases)?;
    let key = server.cluvio_key("virtual")?;
    let mariadb = bench.databases.address("LANDREEVE_TEST_MARIADB")?;
    for (name, kind, port, user, password, database) in [
        ("Facts", "postgres", bench.postgres.port, "postgres", &bench.postgres.password, "postgres"),
        ("Customers", "mariadb", mariadb.port, mariadb.user.as_str(), &mariadb.password, "test"),
    ] {
        server.datasource(
            &key,
            &format!(
                r#""name":"{name}","database_type":"{kind}","host":"127.0.0.1","port":{port},"username":"{user}","password":"{password}","database":"{database}","data_time_zone":"UTC","update_schema_nightly":false"#
            ),
        )?;
    }
    for _ in 0..300 {
        let runs = server.command(&["run", "list", "--format", "csv"])?;
        if runs.matches("schema_refresh,succeeded").count() >= 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let script = server.file("views.vql");
    std::fs::write(&script, VIEWS)?;
    server.command(&["vql", "run", &script.to_string_lossy()])?;
    server.datasource(&key, r#""name":"Virtual","database_type":"virtual","database":"d""#)
}

/// Seconds from the request to the end of the execution.
fn execute(server: &Server, access: &Access, sql: &str) -> Result<f64> {
    let mut client = access.client(server)?;
    let begun = Instant::now();
    let shown = access.submit(&mut client, sql, true)?;
    access.complete(&mut client, shown)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The result as JSON.
fn rows(server: &Server, access: &Access, sql: &str) -> Result<String> {
    let mut client = access.client(server)?;
    let shown = access.submit(&mut client, sql, true)?;
    let id = access.complete(&mut client, shown)?;
    Ok(access.data(&mut client, &id)?.body)
}

fn join(bench: &Bench, sizes: &Sizes, server: &Server, access: &Access, report: &mut Report) -> Result<()> {
    let pid = server.pid()?;
    let idle = process::memory(pid)?.resident;
    let postgres = bench.postgres.url("postgres");
    let mariadb = bench.databases.export("LANDREEVE_TEST_MARIADB")?.to_owned();
    let (mut joined, mut read, mut memory) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..sizes.pairs {
        let facts = bench.programs.milliseconds("speed", &[&postgres, "read", FACTS])?;
        let customers =
            bench.programs.milliseconds("speed", &[&format!("{mariadb}test"), "read", CUSTOMERS])?;
        read.push((facts[0] + customers[0]) / 1000.0);
        process::forget_peak(pid)?;
        joined.push(execute(server, access, JOINED)?);
        memory = memory.max(process::peak(pid)? - idle);
    }
    let found = rows(
        server,
        access,
        "SELECT COUNT(*) AS g, SUM(n) AS n FROM (SELECT grp, COUNT(*) AS n FROM sales GROUP BY grp) x",
    )?;
    ensure!(found.contains(&format!("[50,{}]", sizes.facts)), "the join's groups: {found}");
    let ratio = median(&joined) / median(&read);
    report.judge(
        format!(
            "{} rows of PostgreSQL joined with {} of MariaDB, over reading both",
            sizes.facts, sizes.groups
        ),
        format!("{ratio:.2} ({:.2} s / {:.2} s)", median(&joined), median(&read)),
        format!("at most {JOIN}"),
        ratio <= JOIN,
    );
    report.judge(
        "the join: peak memory above idle",
        format!("{memory:.0} MiB"),
        format!("at most {MEMORY} MB"),
        memory * 1.048_576 <= MEMORY,
    );
    Ok(())
}

fn by_key(
    bench: &Bench,
    sizes: &Sizes,
    with: (&Server, &Access),
    without: (&Server, &Access),
    report: &mut Report,
) -> Result<()> {
    let from = sizes.facts / 2;
    let sql = format!("SELECT id, twice, customer FROM two WHERE id > {from} AND id <= {}", from + 1_000);
    execute(with.0, with.1, &sql)?;
    // Not alternately: what a whole table leaves to be freed would slow down the few rows after it.
    let mut sent = Vec::new();
    for _ in 0..sizes.pairs * FEW_ROWS {
        sent.push(execute(with.0, with.1, &sql)?);
    }
    let mut local = Vec::new();
    for _ in 0..sizes.pairs {
        local.push(execute(without.0, without.1, &sql)?);
    }
    let explained = rows(with.0, with.1, &format!("EXPLAIN {sql}"))?;
    let statement = explained.split_once("\"Facts\",\"").and_then(|(_, rest)| rest.split_once("\",null]"));
    let statement = statement.context("EXPLAIN")?.0.replace("\\\"", "\"");
    let left = bench.postgres.run("postgres", &format!("SELECT count(*) FROM ({statement}) AS sent"))?;
    report.judge(
        format!("1,000 of {} rows by key through two views: rows that leave the source", sizes.facts),
        left.clone(),
        "exactly 1000",
        left == "1000",
    );
    let ratio = median(&local) / median(&sent);
    report.judge(
        "the same: time without pushdown over time with it",
        format!("{ratio:.0} ({:.0} ms / {:.1} ms)", median(&local) * 1e3, median(&sent) * 1e3),
        format!("at least {BY_KEY}"),
        ratio >= BY_KEY,
    );
    Ok(())
}

/// EXPLAIN plans a statement and sends nothing; `dual()` shows what the execution itself takes.
fn planning(sizes: &Sizes, server: &Server, access: &Access, report: &mut Report) -> Result<()> {
    let (mut planned, mut bare) = (Vec::new(), Vec::new());
    for turn in 0..sizes.executions / 3 + 1 {
        let explained =
            execute(server, access, "EXPLAIN SELECT grp, n, m, size FROM five WHERE n > 3")? * 1e3;
        let nothing = execute(server, access, "EXPLAIN SELECT 1 AS x FROM dual()")? * 1e3;
        // The first ask the sources for their types.
        if turn > 0 {
            planned.push(explained);
            bare.push(nothing);
        }
    }
    let most = median(&planned) - median(&bare);
    report.judge(
        "planning over views 5 deep, above an execution that plans nothing: median",
        format!("{most:.1} ms (whole: {}; nothing: {})", spread(&planned), spread(&bare)),
        format!("at most {PLANNING} ms"),
        most <= PLANNING,
    );
    Ok(())
}

/// The SELECT of one view of a script: over the base view or the view before it, at most five deep.
fn select(number: usize) -> String {
    match number % 5 {
        0 => format!("SELECT id, n + {number} AS n, UPPER(t) AS t FROM base WHERE n > {number}"),
        1 => format!("SELECT id, n, t, CASE WHEN n > 5 THEN 'a' ELSE 'b' END AS k FROM v{}", number - 1),
        2 => format!(
            "SELECT a.id, a.n, b.t FROM v{} a INNER JOIN base b ON a.id = b.id WHERE a.k = 'a'",
            number - 1
        ),
        3 => format!(
            "SELECT id, n * 2 AS n, COALESCE(t, 'none') AS t FROM v{} WHERE n < 100 OR t = 'x'",
            number - 1
        ),
        _ => format!("SELECT t, COUNT(*) AS c, SUM(n) AS s, MAX(id) AS m FROM v{} GROUP BY t", number - 1),
    }
}

const BASE: &str = "CREATE OR REPLACE DATABASE many; CONNECT DATABASE many;
CREATE OR REPLACE DATASOURCE JDBC ds DATABASEURI = 'jdbc:postgresql://127.0.0.1:1/none' USERNAME = 'u' USERPASSWORD = 'p';
CREATE OR REPLACE WRAPPER JDBC w DATASOURCENAME = ds RELATIONNAME = 'base';
CREATE OR REPLACE TABLE base (id:long, n:long, t:text) ADD SEARCHMETHOD w (OUTPUTLIST (id, n, t) WRAPPER (jdbc w));
";

pub fn script(views: usize, reversed: bool) -> String {
    let mut statements: Vec<String> =
        (0..views).map(|number| format!("CREATE VIEW v{number} AS {};\n", select(number))).collect();
    if reversed {
        statements.reverse();
    }
    format!("{BASE}{}", statements.concat())
}

fn scripts(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::new(&bench.programs, &bench.directory, "virtual-scripts", None);
    server.start(&mut bench.databases)?;
    server.stop()?;
    let ready = |server: &mut Server| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..sizes.starts {
            times.push(server.launch()?.as_secs_f64() * 1e3);
            std::thread::sleep(std::time::Duration::from_millis(200));
            server.stop()?;
        }
        Ok(median(&times))
    };
    let before = ready(&mut server)?;
    let plain = bench.directory.join("views.txt");
    let mut lines = String::new();
    for number in 0..sizes.views {
        let _ = writeln!(lines, "v{number} {}", select(number));
    }
    std::fs::write(&plain, lines)?;
    let node = |number: usize| format!("n{number}");
    // Each on a node of its own, so that every view is new.
    let mut nodes = 0;
    let mut apply = |server: &Server, views: usize, reversed: bool| -> Result<f64> {
        nodes += 1;
        server.command(&["vql", "node", "create", &node(nodes)])?;
        let file = bench.directory.join("many.vql");
        std::fs::write(&file, script(views, reversed))?;
        let begun = Instant::now();
        server.command(&["vql", "run", &file.to_string_lossy(), "--node", &node(nodes)])?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let (mut ours, mut theirs, mut longer, mut reversed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.pairs.min(3) {
        let begun = Instant::now();
        let planned = Command::new(bench.programs.example("plan")).arg(&plain).status().context("plan")?;
        ensure!(planned.success(), "plan ended with {planned}");
        theirs.push(begun.elapsed().as_secs_f64());
        ours.push(apply(&server, sizes.views, false)?);
        longer.push(apply(&server, sizes.views * 4, false)?);
        reversed.push(apply(&server, sizes.views * 4, true)?);
    }
    let after = ready(&mut server)?;
    tell_scripts(sizes, [median(&ours), median(&theirs), median(&longer), median(&reversed)], report);
    report.judge(
        format!("ready with catalogs of {} views, above the same without", sizes.views * 4),
        format!("{:.0} ms ({after:.0} - {before:.0})", after - before),
        format!("at most {READINESS} ms"),
        after - before <= READINESS,
    );
    Ok(())
}

fn tell_scripts(sizes: &Sizes, [ours, theirs, longer, reversed]: [f64; 4], report: &mut Report) {
    for (what, above, below, limit) in [
        (format!("a script of {} views over DataFusion's parse and plan", sizes.views), ours, theirs, SCRIPT),
        (format!("{} views over {}", sizes.views * 4, sizes.views), longer, ours, LONGER),
        (format!("{} views in reverse order over in order", sizes.views * 4), reversed, longer, REVERSED),
    ] {
        let ratio = above / below;
        report.judge(
            what,
            format!("{ratio:.2} ({above:.2} s / {below:.2} s)"),
            format!("at most {limit}"),
            ratio <= limit,
        );
    }
}
