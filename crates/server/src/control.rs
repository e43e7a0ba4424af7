//! The control socket, through which a command on this machine reaches the server that uses its data directory.
//! Requests and responses are one JSON line each. Access to the socket (0600) makes the caller the operator.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use landreeve_analytics::Analytics;
use landreeve_analytics::executions::{self, NewExecution};
use landreeve_analytics::lang::InputParameters;
use landreeve_core::ids::{DatasourceId, RunId};
use landreeve_core::{Error, ErrorKind, Input, PoolName, RunState};
use landreeve_estate::Estate;
use landreeve_estate::ops::runs::{self, RunRef};
use landreeve_estate::ops::{self, Run};
use landreeve_estate::store::Notice;
use landreeve_promotion::Promotion;
use landreeve_promotion::deployments::{NewDeployment, Started, Validation, deployment_start};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};
use landreeve_protection::Protection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::open::Opened;
use crate::orders::Order;

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
    /// Deploys revisions; the deployment is cancelled if the client goes away before it has ended.
    Deploy {
        /// UUID of the unit; `None`: the root.
        ou: Option<String>,
        environment: i64,
        revisions: Vec<i64>,
        description: String,
    },
    Protect {
        order: Order,
    },
    /// The client does not wait for this run any more, which continues.
    Release {
        run: i64,
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
    Run {
        id: i64,
        state: String,
        progress: u8,
        note: String,
        error: Option<String>,
    },
    /// Nothing was deployed.
    Refused(Refusal),
    Failed {
        kind: String,
        message: String,
    },
}

/// Why nothing was deployed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Which properties are missing or cannot be used, as the dialect's document.
    pub document: Value,
    /// The same as lines.
    pub lines: Vec<String>,
    pub message: String,
}

impl Refusal {
    /// `error`: what is in the way besides properties.
    pub fn new(validation: Validation, error: Option<Error>) -> Refusal {
        let mut lines = Vec::new();
        for problems in &validation.problems {
            let missing = problems.missing.iter().map(|name| format!("the property {name} has no value"));
            let each = missing.chain(problems.faults.iter().cloned());
            lines.extend(each.map(|problem| format!("{}: {problem}", problems.revision)));
        }
        let message = match error {
            Some(error) => error.message,
            None => "nothing was deployed: the revisions are not valid in this environment".to_owned(),
        };
        Refusal { document: landreeve_face_denodo::validation_document(validation, None), lines, message }
    }
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
    let planes = Planes {
        analytics: opened.analytics.clone(),
        promotion: opened.promotion.clone(),
        protection: opened.protection.clone(),
    };
    let children = tasks.clone();
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
            let (planes, stop) = (planes.clone(), stop.clone());
            children.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = converse(stream, &planes) => {}
                }
            });
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

/// What the clients' requests are carried out by.
#[derive(Clone)]
struct Planes {
    analytics: Analytics,
    promotion: Promotion,
    protection: Protection,
}

impl Planes {
    fn estate(&self) -> &Estate {
        self.analytics.estate()
    }
}

/// The next request. `None`: the client has gone away, or sends too much.
async fn next_line(read: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    read.take(MAX_LINE_BYTES).read_line(&mut line).await.ok()?;
    line.ends_with('\n').then_some(line)
}

async fn converse(stream: UnixStream, planes: &Planes) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut followed: Option<i64> = None;
    while let Some(line) = next_line(&mut read).await {
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => {
                let follows = matches!(
                    ask,
                    Ask::Query { .. }
                        | Ask::Probe { detached: false, .. }
                        | Ask::Deploy { .. }
                        | Ask::Protect { .. }
                );
                if matches!(ask, Ask::Release { run } if followed == Some(run)) {
                    followed = None;
                }
                let answer = obey(planes, ask).await.unwrap_or_else(|error| Answer::Failed {
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
        abandon(planes.estate(), run).await;
    }
}

/// The client that waited for a run was killed: cancel the run, as Ctrl-C would have.
async fn abandon(estate: &Estate, run: i64) {
    let ctx = ops::sign_in::operator(estate);
    match runs::run_cancel(estate, &ctx, RunRef::Id(RunId(run)), &[]).await {
        Ok(_) => tracing::info!(run, "cancelled a run whose command went away"),
        // It ended in the meantime.
        Err(error) if error.kind == ErrorKind::Conflict => {}
        Err(error) => tracing::warn!(run, %error, "could not cancel a run whose command went away"),
    }
}

async fn obey(planes: &Planes, ask: Ask) -> Result<Answer, Error> {
    let estate = planes.estate();
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
            let run =
                executions::execution_run(&planes.analytics, &ctx, DatasourceId(datasource), asked).await?;
            Ok(Answer::run(&run.run))
        }
        Ask::Deploy { ou, environment, revisions, description } => {
            let new = NewDeployment {
                environment: EnvironmentId(environment),
                revisions: revisions.into_iter().map(RevisionId).collect(),
                description,
                dry_run: false,
            };
            deploy(&planes.promotion, ou, new).await
        }
        Ask::Protect { order } => Ok(Answer::run(&order.start(&planes.protection, &ctx).await?)),
        Ask::Release { .. } => Ok(Answer::Done),
        Ask::Cancel { run } => {
            Ok(Answer::run(&runs::run_cancel(estate, &ctx, RunRef::Id(RunId(run)), &[]).await?))
        }
        Ask::Wait { run, millis } => {
            let most = Duration::from_millis(millis.min(60_000));
            Ok(Answer::run(&runs::run_wait(estate, &ctx, RunRef::Id(RunId(run)), &[], most).await?))
        }
    }
}

async fn deploy(promotion: &Promotion, ou: Option<String>, new: NewDeployment) -> Result<Answer, Error> {
    let estate = promotion.estate();
    let ctx = match ou {
        Some(ou) => {
            let ou: Uuid = ou.parse().map_err(|_| Error::fault("ou", "format", "must be a UUID"))?;
            ops::sign_in::operator_in(estate, ou).await?
        }
        None => ops::sign_in::operator(estate),
    };
    match deployment_start(promotion, &ctx, Input::of(new)).await? {
        Started::Run(run) => Ok(Answer::run(&run)),
        Started::Invalid(validation) => Ok(Answer::Refused(Refusal::new(*validation, None))),
        Started::Refused(error, validation) => Ok(Answer::Refused(Refusal::new(*validation, Some(error)))),
        Started::Planned(..) => Err(Error::internal("a deployment was planned and not started")),
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
