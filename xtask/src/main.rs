//! Chores of the repository: the test databases, the test run, the benchmark and the checks of its architecture.
//!
//! `cargo xtask` alone lists them. This program is never shipped, so it may print, read the environment and
//! wait on the wall clock, which the product's crates may not.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on standard output")]
#![expect(clippy::print_stderr, reason = "progress and faults go to standard error")]
#![expect(clippy::disallowed_methods, reason = "no clock port here: it waits for real servers to start")]

mod bench;
mod databases;
mod documents;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  databases [--keep]        start PostgreSQL and two MariaDB servers of our own, print `export` lines for the
                            tests, and keep them until Ctrl-C, SIGTERM or the end of standard input;
                            --keep leaves their directories (data and logs) behind
  databases --detach FILE   start them, write the `export` lines to FILE (`source` it) and return
  databases --stop FILE     stop what `--detach FILE` started
  test [-- ARGS…]           check the OpenAPI documents, then run every test with such databases (or with those
                            that LANDREEVE_TEST_* name); ARGS go to `cargo nextest run`
  faults [KILLS]            kill a server under mixed load, 200 times on each store unless KILLS says how often:
                            nothing that was acknowledged may be lost, and every run must have an end
  bench [PART…] [OPTIONS]   measure speed and size against their limits; PART is transfer, latency, reads,
                            size or delivery, none means all five
      --quick               smaller and fewer: to try the benchmark itself
      --markdown FILE       write the table as Markdown too
      --programs DIR        use the programs in DIR (a `release` folder) and build nothing
  bench build [--target-dir DIR]
                            time a clean release build of the server, into DIR (which must not exist yet)
  tidy                      check the rules of the architecture and list every violation
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
        "faults" => test::faults(rest),
        "tidy" => tidy::command(rest),
        databases::GUARD => databases::guard(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: there is no command `{other}`\n\n{USAGE}");
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
    // Set by `cargo run`; the place where this was built may be another clone.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    Ok(manifest.parent().context("xtask/ has no parent folder")?.to_owned())
}
