//! The control socket, through which a command on this machine reaches the server that uses its data directory.
//! Requests and responses are one JSON line each. Access to the socket (0600) makes the caller the operator.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use landreeve_analytics::executions::{self, NewExecution};
use landreeve_analytics::lang::InputParameters;
use landreeve_core::ids::{DatasourceId, RunId};
use landreeve_core::{Error, ErrorKind, PoolName, RunState};
use landreeve_estate::ops::runs::{self, RunRef};
use landreeve_estate::ops::{self, Run};
use landreeve_estate::store::Notice;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::open::Opened;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// A command changed identity, grants or datasources.
    Changed,
    /// `detached`: the run continues if the client goes away.
    Probe {
        millis: u64,
        fail: bool,
        detached: bool,
    },
    Query {
        datasource: i64,
        sql: String,
    },
    Cancel {
        run: i64,
    },
    Wait {
        run: i64,
        millis: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Done,
    Run { id: i64, state: String, progress: u8, note: String, error: Option<String> },
    Failed { kind: String, message: String },
}

impl Answer {
    fn run(run: &Run) -> Answer {
        Answer::Run {
            id: run.id.0,
            state: run.state.as_str().to_owned(),
            progress: run.progress,
            note: run.progress_note.clone(),
            error: run.error.as_ref().map(|error| error.message.clone()),
        }
    }
}

const MAX_LINE_BYTES: u64 = 4 * 1_024 * 1_024;
const ANSWER_TIME: Duration = Duration::from_secs(120);

pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Listens until stopped. The caller has locked the data directory, so an existing socket is stale.
pub async fn serve(opened: &Opened, tasks: &TaskTracker, stop: CancellationToken) -> anyhow::Result<()> {
    let path = path(&opened.data_dir);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("could not open the control socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (analytics, children) = (opened.analytics.clone(), tasks.clone());
    tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Most likely out of descriptors: an immediate retry would only spin.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let (analytics, stop) = (analytics.clone(), stop.clone());
            children.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = converse(stream, analytics) => {}
                }
            });
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn converse(stream: UnixStream, analytics: landreeve_analytics::Analytics) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(MAX_LINE_BYTES)).lines();
    let mut followed = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => {
                let follows = matches!(ask, Ask::Query { .. } | Ask::Probe { detached: false, .. });
                let answer = obey(&analytics, ask).await.unwrap_or_else(|error| Answer::Failed {
                    kind: error.kind.as_str().to_owned(),
                    message: error.message,
                });
                if let (true, Answer::Run { id, .. }) = (follows, &answer) {
                    followed = Some(*id);
                }
                answer
            }
            Err(error) => Answer::Failed { kind: "invalid".to_owned(), message: error.to_string() },
        };
        if let Answer::Run { id, state, .. } = &answer
            && followed == Some(*id)
            && RunState::parse(state).is_some_and(RunState::is_final)
        {
            followed = None;
        }
        let Ok(mut text) = serde_json::to_string(&answer) else { break };
        text.push('\n');
        if write.write_all(text.as_bytes()).await.is_err() {
            break;
        }
    }
    if let Some(run) = followed {
        abandon(&analytics, run).await;
    }
}

/// The client that waited for a run was killed: cancel the run, as Ctrl-C would have.
async fn abandon(analytics: &landreeve_analytics::Analytics, run: i64) {
    let estate = analytics.estate();
    let ctx = ops::sign_in::operator(estate);
    match runs::run_cancel(estate, &ctx, RunRef::Id(RunId(run)), &[]).await {
        Ok(_) => tracing::info!(run, "cancelled a run whose command went away"),
        // It ended in the meantime.
        Err(error) if error.kind == ErrorKind::Conflict => {}
        Err(error) => tracing::warn!(run, %error, "could not cancel a run whose command went away"),
    }
}

async fn obey(analytics: &landreeve_analytics::Analytics, ask: Ask) -> Result<Answer, Error> {
    let estate = analytics.estate();
    let ctx = ops::sign_in::operator(estate);
    match ask {
        Ask::Changed => {
            for notice in [
                Notice::Authority,
                Notice::Outbox,
                Notice::Schedule,
                Notice::Held,
                Notice::Queue(PoolName::SHORT),
                Notice::Queue(PoolName::LONG),
            ] {
                estate.store().notices().tell(notice);
            }
            Ok(Answer::Done)
        }
        Ask::Probe { millis, fail, .. } => {
            let run = runs::probe_submit(estate, &ctx, Duration::from_millis(millis), fail).await?;
            Ok(Answer::run(&run))
        }
        Ask::Query { datasource, sql } => {
            let asked = NewExecution { sql, inputs: InputParameters::default() };
            let run = executions::execution_run(analytics, &ctx, DatasourceId(datasource), asked).await?;
            Ok(Answer::run(&run.run))
        }
        Ask::Cancel { run } => {
            Ok(Answer::run(&runs::run_cancel(estate, &ctx, RunRef::Id(RunId(run)), &[]).await?))
        }
        Ask::Wait { run, millis } => {
            let most = Duration::from_millis(millis.min(60_000));
            Ok(Answer::run(&runs::run_wait(estate, &ctx, RunRef::Id(RunId(run)), &[], most).await?))
        }
    }
}

/// A connection to the server that uses this data directory.
pub struct Control(BufReader<UnixStream>);

/// `None`: no server is running.
pub async fn connect(data_dir: &Path) -> Option<Control> {
    UnixStream::connect(path(data_dir)).await.ok().map(|stream| Control(BufReader::new(stream)))
}

impl Control {
    pub async fn ask(&mut self, ask: &Ask) -> anyhow::Result<Answer> {
        let mut text = serde_json::to_string(ask)?;
        text.push('\n');
        let exchange = async {
            self.0.get_mut().write_all(text.as_bytes()).await?;
            let mut line = String::new();
            self.0.read_line(&mut line).await?;
            anyhow::Ok(line)
        };
        let line =
            tokio::time::timeout(ANSWER_TIME, exchange).await.context("the server did not respond")??;
        let answer: Answer = serde_json::from_str(&line).context("could not parse the server's response")?;
        match answer {
            Answer::Failed { kind, message } => {
                let kind = ErrorKind::parse(&kind).unwrap_or(ErrorKind::Internal);
                Err(Error::new(kind, "server", message).into())
            }
            answer => Ok(answer),
        }
    }
}
