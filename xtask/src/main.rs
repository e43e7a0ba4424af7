//! Development tasks: test databases, test runs, benchmarks, hostile statements and architecture checks.
//!
//! Run `cargo xtask` to list them. This program is never shipped. So, unlike the product's crates, it can print, read
//! the environment and wait on the wall clock.
#![expect(clippy::print_stdout, reason = "a command line tool prints to standard output")]
#![expect(clippy::print_stderr, reason = "progress and errors go to standard error")]
#![expect(clippy::disallowed_methods, reason = "no clock port here: it waits for real servers to start")]

mod bench;
mod databases;
mod documents;
mod hostile;
mod measure;
mod test;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  databases [--keep]        start PostgreSQL and two MariaDB servers, print `export` lines for the tests, and
                            run until Ctrl-C, SIGTERM or the end of standard input; with --keep their
                            directories (data and logs) are not removed
  databases --detach FILE   start the servers, write the `export` lines to FILE (`source` it) and return
  databases --stop FILE     stop the servers that `--detach FILE` started
  test [-- ARGS…]           check the OpenAPI documents, then run every test with such databases (or with those
                            set in LANDREEVE_TEST_*); ARGS are passed to `cargo nextest run`
  faults [KILLS]            kill a server under mixed load and check that no acknowledged write is lost and that
                            every run ends; KILLS is the number of kills on each store [default: 200]
  bench [PART…] [OPTIONS]   measure speed and size against their limits; PART is transfer, latency, reads,
                            size or delivery [default: all]
      --quick               use small sizes, to try the benchmark itself
      --markdown FILE       write the table as Markdown too
      --programs DIR        use the programs in DIR (a `release` folder) instead of building them
  bench build [--target-dir DIR]
                            time a clean release build of the server, into DIR (which must not exist yet)
  hostile bombs [OPTIONS]   run statements that try to use up the server's memory, under a limit on its address
                            space, and check that it survives, stays fast for others and gives the memory back:
                            `hostile bombs --programs target/release --only replace`
      --only TEXT           run only the bombs whose name contains TEXT
      --markdown FILE       write the tables as Markdown too
      --programs DIR        use the program in DIR (a `release` folder) instead of building it
  tidy                      check the architecture rules and list every violation
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match command.as_str() {
        "bench" => bench::command(rest),
        "databases" => databases::command(rest),
        "test" => test::command(rest),
        "hostile" => hostile::command(rest),
        "faults" => test::faults(rest),
        "tidy" => tidy::command(rest),
        databases::GUARD => databases::guard(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: unknown command `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// The root of the repository.
fn root() -> anyhow::Result<PathBuf> {
    // Set by `cargo run`; this program may have been built in another clone.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    Ok(manifest.parent().context("xtask/ has no parent folder")?.to_owned())
}
