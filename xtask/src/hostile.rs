//! `cargo xtask hostile bombs`: statements that try to use up the server's memory. Each must end in a result or in a clear
//! error, while the server's address space is limited, other callers stay fast and the memory is given back.

mod bombs;
mod caller;
mod downloads;
mod functions;
mod probe;
mod statements;
mod subject;
mod tally;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use crate::databases::Databases;
use crate::measure::report::Report;
use crate::measure::server::Programs;
use crate::measure::{build, machine};
use bombs::Bomb;
use subject::Subject;
use tally::Tally;

const USAGE: &str = "usage: hostile bombs [--only TEXT] [--markdown FILE] [--programs DIR]";

#[derive(Debug, Default, PartialEq)]
struct Options {
    only: Option<String>,
    markdown: Option<PathBuf>,
    programs: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let Some((first, rest)) = args.split_first() else { bail!(USAGE) };
        ensure!(first == "bombs", "unknown argument `{first}`; {USAGE}");
        let mut args = rest.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--only" => options.only = Some(value()?.to_lowercase()),
                "--markdown" => options.markdown = Some(value()?.into()),
                "--programs" => options.programs = Some(value()?.into()),
                other => bail!("unknown argument `{other}`; {USAGE}"),
            }
        }
        Ok(options)
    }
}

/// Exit status 1 also means that a limit was not met.
pub fn command(args: &[String]) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    let bombs = bombs::selected(options.only.as_deref())?;
    let root = crate::root()?;
    let mut report = Report::new("hostile");
    report.facts = machine::facts(&root);
    let programs = match &options.programs {
        Some(given) => Programs::given(given)?,
        None => build::server(&root)?,
    };
    let mut tally = Tally::default();
    let outcome = run(&programs, &bombs, &mut tally, &mut report);
    // What was measured before an error is still worth knowing.
    tally.judge(&mut report);
    println!("{}\n{}", tally.table(), report.table());
    if let Some(file) = &options.markdown {
        let text = format!("{}\n{}", report.markdown(), tally.markdown());
        fs::write(file, text).with_context(|| format!("{}", file.display()))?;
    }
    outcome?;
    Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(programs: &Programs, bombs: &[Bomb], tally: &mut Tally, report: &mut Report) -> Result<()> {
    eprintln!("hostile: starting the databases");
    let databases = Databases::start(false)?;
    let mut subject = Subject::start(programs, databases)?;
    tally.idle = subject.idle();
    report.facts.push(("address space", subject.space()));
    report
        .facts
        .push(("resident memory before the bombs", format!("{:.0} MB", subject.resident() * tally::MB)));
    for (number, bomb) in bombs.iter().enumerate() {
        let row = subject.drop_bomb(bomb)?;
        eprintln!("hostile: {}/{} {}", number + 1, bombs.len(), row.line());
        tally.add(bomb, row);
    }
    subject.stop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses_options() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let options = parse("bombs --only Replace --programs a/b").unwrap();
        assert_eq!(options.only.as_deref(), Some("replace"));
        assert_eq!(options.programs, Some("a/b".into()));
        assert_eq!(parse("bombs").unwrap(), Options::default());
        for refused in ["", "bomb", "bombs --only", "bombs --quick"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
