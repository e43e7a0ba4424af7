//! `landreeve run …`. Commands that submit or cancel go through the server on this data directory, if one is running;
//! otherwise this process executes the run itself. Ctrl-C, SIGTERM and closing the terminal cancel the run.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::FutureExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use landreeve_core::ids::RunId;
use landreeve_core::{Page, RunState};
use landreeve_estate::ops::runs::{self, RunRef};
use landreeve_estate::ops::{Run, RunFilter};
use landreeve_estate::runs::Role;
use serde_json::json;
use uuid::Uuid;

use super::{Place, Session};
use crate::control::{self, Answer, Ask, Control};
use crate::output::{self, Format};
use crate::signals::Interrupts;

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// List the newest runs
    #[command(after_help = "Example:\n  landreeve run list --limit 10")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        /// Number of runs to list, newest first
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one run
    #[command(after_help = "Example:\n  landreeve run show 28")]
    Show {
        #[command(flatten)]
        place: Place,
        /// Number or UUID of the run
        run: String,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Cancel a run and its children
    #[command(after_help = "Example:\n  landreeve run cancel 28")]
    Cancel {
        #[command(flatten)]
        place: Place,
        /// Number or UUID of the run
        run: String,
    },
    /// Print the log of a run
    #[command(after_help = "Example:\n  landreeve run log 28 --follow")]
    Log {
        #[command(flatten)]
        place: Place,
        /// Number or UUID of the run
        run: String,
        /// Keep printing until the run has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Test that runs work, with one that only waits and reports progress
    #[command(after_help = "Example:\n  landreeve run probe --seconds 5")]
    Probe(Probe),
}

#[derive(Debug, Args)]
pub struct Probe {
    #[command(flatten)]
    place: Place,
    /// Seconds to wait, 0 to 3600
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Make the run fail at the end
    #[arg(long)]
    fail: bool,
    /// Print the run's number without waiting for its end; needs a running server
    #[arg(long)]
    no_wait: bool,
}

pub async fn run(command: RunCommand) -> anyhow::Result<()> {
    match command {
        RunCommand::List { place, format, limit } => {
            let session = Session::open(&place).await?;
            let filter = RunFilter::default();
            let page =
                runs::run_list(&session.opened.estate, &session.ctx, &filter, Page::first(limit)).await?;
            session.close().await;
            output::listing(format, &COLUMNS, page.items.iter().map(row).collect());
            Ok(())
        }
        RunCommand::Show { place, run, format } => {
            let session = Session::open(&place).await?;
            let found = runs::run_get(&session.opened.estate, &session.ctx, reference(&run)?, &[]).await;
            session.close().await;
            output::listing(format, &COLUMNS, vec![row(&found?)]);
            Ok(())
        }
        RunCommand::Cancel { place, run } => cancel(&place, &run).await,
        RunCommand::Log { place, run, follow } => print_log(&place, &run, follow).await,
        RunCommand::Probe(args) => probe(args).await,
    }
}

/// How often `--follow` polls the log.
const FOLLOWING: Duration = Duration::from_millis(500);

async fn print_log(place: &Place, run: &str, follow: bool) -> anyhow::Result<()> {
    let which = reference(run)?;
    let session = Session::open(place).await?;
    let mut interrupts = Interrupts::new()?;
    let (estate, ctx) = (&session.opened.estate, &session.ctx);
    let printed = async {
        let mut after = 0;
        loop {
            // Read before the lines, so that everything a run logs until its end is printed.
            let known = runs::run_get(estate, ctx, which, &[]).await?;
            let ended = known.state.is_final();
            let (lines, last) = runs::run_log(estate, ctx, which, &[], after).await?;
            for line in &lines {
                output::say(&format!("{} {:<5} {}", line.at, line.level.as_str(), line.text));
            }
            if last == after && (ended || !follow) {
                if let Some(error) = &known.error {
                    output::say(&format!("{} {:<5} {}", known.updated_at, "error", error.message));
                }
                return Ok(());
            }
            if last == after {
                runs::run_wait(estate, ctx, which, &[], FOLLOWING).await?;
            }
            after = last;
        }
    };
    let printed: anyhow::Result<()> = tokio::select! {
        printed = printed => printed,
        () = interrupts.next() => Ok(()),
    };
    session.close().await;
    printed
}

const COLUMNS: [&str; 11] =
    ["id", "uuid", "kind", "state", "progress", "by", "submitted", "started", "finished", "error", "parent"];

fn row(run: &Run) -> Vec<serde_json::Value> {
    let time = |at: Option<jiff::Timestamp>| json!(at.map(|at| at.to_string()));
    vec![
        json!(run.id.0),
        json!(run.uuid.to_string()),
        json!(run.kind.as_str()),
        json!(run.state.as_str()),
        json!(run.progress),
        json!(run.actor_name),
        time(Some(run.submitted_at)),
        time(run.started_at),
        time(run.finished_at),
        json!(run.error.as_ref().map(|error| error.message.clone())),
        json!(run.parent.map(|parent| parent.0)),
    ]
}

fn reference(text: &str) -> Result<RunRef, crate::Usage> {
    if let Ok(id) = text.parse() {
        return Ok(RunRef::Id(RunId(id)));
    }
    text.parse::<Uuid>()
        .map(RunRef::Uuid)
        .map_err(|_| crate::Usage(format!("{text:?} is not a run number or UUID")))
}

async fn cancel(place: &Place, run: &str) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let (estate, ctx) = (&session.opened.estate, &session.ctx);
    let which = reference(run)?;
    let found = runs::run_get(estate, ctx, which, &[]).await?;
    let ended = match control::connect(&place.data_dir).await {
        Some(mut control) => control.ask(&Ask::Cancel { run: found.id.0 }).await.map(drop),
        None => runs::run_cancel(estate, ctx, which, &[]).await.map(drop).map_err(Into::into),
    };
    session.close().await;
    ended
}

async fn probe(args: Probe) -> anyhow::Result<()> {
    let wait = Duration::try_from_secs_f64(args.seconds)
        .map_err(|_| crate::Usage("--seconds must be from 0 to 3600".to_owned()))?;
    let mut interrupts = Interrupts::new()?;
    if let Some(control) = control::connect(&args.place.data_dir).await {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Probe { millis, fail: args.fail, detached: args.no_wait };
        return follow(control, &ask, args.no_wait, &mut interrupts).await.map(drop);
    }
    anyhow::ensure!(!args.no_wait, "--no-wait needs a running server on this data directory");
    let opened = crate::open::open(&args.place, Some(2)).await?;
    let _lock = crate::open::lock(&args.place.data_dir, false)?;
    opened.estate.start_runs(Role::Command).await?;
    let ctx = landreeve_estate::ops::sign_in::operator(&opened.estate);
    let run = runs::probe_submit(&opened.estate, &ctx, wait, args.fail).await?;
    let ended = watch(&opened.estate, &ctx, run, &mut interrupts).await;
    opened.close(Duration::from_secs(1)).await;
    report(&ended?)
}

/// How a run ended.
pub(super) struct Ended {
    pub id: i64,
    pub state: RunState,
    pub error: Option<String>,
}

impl Ended {
    /// An error unless it succeeded.
    pub fn succeeded(&self) -> anyhow::Result<()> {
        if self.state == RunState::Succeeded {
            return Ok(());
        }
        let (id, state) = (self.id, self.state.as_str());
        let why = self.error.as_deref().unwrap_or("no reason given");
        anyhow::bail!("run {id} ended {state}: {why}; see `landreeve run log {id}`")
    }
}

fn report(ended: &Ended) -> anyhow::Result<()> {
    if ended.state == RunState::Succeeded {
        output::say(&format!("run {} succeeded", ended.id));
        return Ok(());
    }
    let why = ended.error.as_deref().unwrap_or("no reason given");
    anyhow::bail!("run {} ended {}: {why}", ended.id, ended.state.as_str())
}

fn bar() -> ProgressBar {
    if !output::is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100);
    let style = ProgressStyle::with_template("{bar:30} {pos:>3} % {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Waits for a run in this process. An interrupt cancels it; a second one stops waiting.
pub(super) async fn watch(
    estate: &landreeve_estate::Estate,
    ctx: &landreeve_core::OpCtx,
    run: Run,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Ended> {
    let (bar, which) = (bar(), RunRef::Id(run.id));
    if run.state == RunState::Queued {
        // This process would never claim it.
        runs::run_cancel(estate, ctx, which, &[]).await?;
        anyhow::bail!(
            "other runs are queued before this one; start the server, which executes them in order"
        );
    }
    let mut asked = false;
    let mut run = run;
    while !run.state.is_final() {
        tokio::select! {
            waited = runs::run_wait(estate, ctx, which, &[], Duration::from_millis(500)) => {
                run = waited?;
                bar.set_position(u64::from(run.progress));
                bar.set_message(run.progress_note.clone());
            }
            () = interrupts.next() => {
                anyhow::ensure!(!asked, "interrupted");
                asked = true;
                runs::run_cancel(estate, ctx, which, &[]).await?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(Ended { id: run.id.0, state: run.state, error: run.error.map(|error| error.message) })
}

/// Submits a run through the server and waits for it. An interrupt cancels it; a second one stops waiting.
pub(super) async fn follow(
    mut control: Control,
    ask: &Ask,
    no_wait: bool,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Option<Ended>> {
    let Answer::Run { id, mut state, mut error, .. } = control.ask(ask).await? else {
        anyhow::bail!("the server did not return a run");
    };
    if no_wait {
        output::say(&id.to_string());
        return Ok(None);
    }
    let bar = bar();
    let mut asked = false;
    loop {
        let parsed = RunState::parse(&state).unwrap_or(RunState::Lost);
        if parsed.is_final() {
            bar.finish_and_clear();
            let ended = Ended { id, state: parsed, error };
            if matches!(ask, Ask::Probe { .. }) {
                report(&ended)?;
            }
            return Ok(Some(ended));
        }
        if interrupts.next().now_or_never().is_some() {
            anyhow::ensure!(!asked, "interrupted");
            asked = true;
            control.ask(&Ask::Cancel { run: id }).await?;
        }
        let answer = control.ask(&Ask::Wait { run: id, millis: 300 }).await?;
        if let Answer::Run { state: now, progress, note, error: why, .. } = answer {
            (state, error) = (now, why);
            bar.set_position(u64::from(progress));
            bar.set_message(note);
        }
    }
}
