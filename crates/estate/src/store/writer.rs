//! Writes as closures over a transaction, and the single writer of SQLite with group commit, on its own thread. Its
//! counterpart on PostgreSQL is in `group.rs`.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::append::{self, Append};
use super::conn::{Arg, Conn, check, unavailable};
use super::direct::Direct;
use super::group::GroupWriter;
use super::link::{Asked, Connector};
use super::mark::{self, Marked};
use super::notices::{Notice, Notices};
use super::{Dialect, closed};
use crate::args;

/// Maximum number of closures per commit, so that the first does not wait forever.
const GROUP: usize = 128;
/// How many writes can be queued before callers have to wait.
pub(super) const WAITING: usize = 1_024;
/// How long closing waits for the writer to end.
pub(super) const CLOSING: Duration = Duration::from_secs(20);

/// A notice to send once the transaction is durable.
pub(super) struct Told {
    pub notice: Notice,
    /// The query that decides whether it is sent, if its answer was not known at once.
    asked: Option<Asked>,
}

impl Told {
    pub fn is_due(&self) -> bool {
        self.asked.as_ref().is_none_or(Asked::found)
    }
}

/// A transaction, and the notices to send once it is durable.
pub struct Tx {
    conn: Conn,
    dialect: Dialect,
    notices: Vec<Told>,
    /// Rows to add at the end.
    appended: Vec<(&'static Append, Vec<Arg>)>,
}

impl Tx {
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Invalidates everything cached per epoch (authority, datasources, dashboards) once this transaction commits.
    pub async fn bump_epoch(&mut self) -> Result<()> {
        self.exec_later("UPDATE epochs SET value = value + 1 WHERE name = 'authority'", args![]).await?;
        self.notice(Notice::Authority).await
    }

    pub async fn run_changed(&mut self, run: RunId) -> Result<()> {
        self.notice(Notice::Run(run)).await
    }

    pub async fn run_ended(&mut self, run: RunId) -> Result<()> {
        self.notice(Notice::Ended(run)).await
    }

    /// Notifies this process after the commit and, on PostgreSQL, the other nodes with the commit.
    pub async fn notice(&mut self, notice: Notice) -> Result<()> {
        if self.notices.iter().any(|told| told.notice == notice && told.asked.is_none()) {
            return Ok(());
        }
        self.notices.push(Told { notice, asked: None });
        Ok(())
    }

    /// The same if a query finds a row. On PostgreSQL the closure does not wait for it.
    pub async fn notice_if(&mut self, notice: Notice, sql: &'static str, args: Vec<Arg>) -> Result<()> {
        if let Some(link) = self.conn.link().filter(|link| link.is_presuming()) {
            let asked = Some(link.ask(sql, args).await?);
            self.notices.push(Told { notice, asked });
        } else if self.opt(sql, args).await?.is_some() {
            self.notice(notice).await?;
        }
        Ok(())
    }

    /// Writes a row that was read earlier. The statement increments its `row_version` and matches the one that was
    /// read: if the row was changed or deleted in the meantime, that is a conflict.
    pub async fn update_row(&mut self, what: &str, sql: &'static str, args: Vec<Arg>) -> Result<()> {
        debug_assert!(sql.contains("row_version = row_version + 1") && sql.contains("AND row_version = $"));
        if !self.exec_one(sql, args).await? {
            let message = format!("the {what} was changed at the same time; try again");
            return Err(Error::conflict("changed", message));
        }
        Ok(())
    }

    /// Adds a row that nothing else in the transaction reads or refers to.
    pub async fn append(&mut self, to: &'static Append, row: Vec<Arg>) -> Result<()> {
        match self.dialect {
            Dialect::Sqlite => self.exec(to.one, row).await.map(drop),
            Dialect::Postgres => {
                check(to.one, &row)?;
                self.appended.push((to, row));
                Ok(())
            }
        }
    }

    /// Sends the rows to add.
    pub(super) async fn send_appended(&mut self) -> Result<()> {
        let mut rows = std::mem::take(&mut self.appended);
        while let Some((to, _)) = rows.first() {
            let to = *to;
            let (same, others): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|(other, _)| std::ptr::eq(*other, to));
            rows = others;
            let mut same: Vec<Vec<Arg>> = same.into_iter().map(|(_, row)| row).collect();
            match (same.len(), same.pop()) {
                (1, Some(row)) => self.exec_later(to.one, row).await?,
                (_, last) => {
                    let columns = append::columns(same.into_iter().chain(last))?;
                    let Some(link) = self.conn.link() else { return Ok(()) };
                    link.append_later(to.many, columns).await?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the rows to add, but for so many.
    pub(super) fn keep_appended(&mut self, count: usize) {
        self.appended.truncate(count);
    }

    /// Runs work whose error is rolled back alone, so that the transaction can continue. The outer error is of the
    /// transaction itself.
    pub async fn savepoint<T, F>(&mut self, work: F) -> Result<Result<T>>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send,
    {
        self.exec("SAVEPOINT part", args![]).await?;
        let (told, appended) = (self.notices.len(), self.appended.len());
        let answer = work(self).await;
        if answer.is_err() {
            self.notices.truncate(told);
            self.keep_appended(appended);
            self.exec("ROLLBACK TO part", args![]).await?;
            self.conn.take_spoiled();
        }
        self.exec("RELEASE part", args![]).await?;
        Ok(answer)
    }

    pub(super) fn new(conn: Conn, dialect: Dialect) -> Tx {
        Tx { conn, dialect, notices: Vec::new(), appended: Vec::new() }
    }

    pub(super) fn take_notices(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.notices)
    }

    /// Runs a closure. A panic in it becomes an error of that closure: the writer and an open transaction must survive
    /// it.
    pub(super) async fn run(&mut self, job: &mut Job) -> Answer {
        self.conn.take_spoiled();
        let closure = job.closure;
        let guarded = AssertUnwindSafe(async {
            let work = (job.work)(self);
            Marked { closure, work }.await
        });
        let answer = guarded.catch_unwind().await;
        let answer =
            answer.unwrap_or_else(|_| Err(Error::internal("a write panicked; see the log for the place")));
        // PostgreSQL would silently roll the transaction back at its COMMIT.
        if answer.is_ok() && self.conn.take_spoiled() {
            return Err(Error::internal(format!(
                "the write {closure} continued after a statement had failed"
            )));
        }
        answer
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

pub(super) type Answer = Result<Box<dyn Any + Send>>;

/// What the writer sends back to the caller.
pub(super) struct Reply {
    pub answer: Answer,
    /// When other nodes no longer use an older epoch; the caller waits until then.
    pub settled_at: Option<Instant>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply { answer, settled_at: None }
    }
}
type Work = Box<dyn for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, Answer> + Send>;

/// A closure that waits for the writer. It can run more than once: PostgreSQL aborts one of two transactions that wait
/// for each other.
pub(super) struct Job {
    pub work: Work,
    /// The name of its type, which shows where it comes from.
    pub closure: &'static str,
    pub reply: oneshot::Sender<Reply>,
    pub notices: Notices,
    pub attempts: u32,
}

/// With which others a write shares a transaction on PostgreSQL. SQLite has only one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// With all that wait.
    All,
    /// With ends of runs: they keep a worker until they are written, and no submission may delay that.
    Ends,
    /// With none: it holds locks for a long time.
    Alone,
}

pub struct Writer {
    kind: Kind,
}

enum Kind {
    Sqlite {
        queue: Mutex<Option<mpsc::Sender<Job>>>,
        sender: mpsc::WeakSender<Job>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
    Postgres {
        grouped: GroupWriter,
        ends: GroupWriter,
        alone: GroupWriter,
    },
}

impl Writer {
    /// For a file that already has its schema.
    pub fn sqlite(path: &Path) -> Result<Writer> {
        let conn = Conn::direct(Direct::open(path)?);
        let (sender, receiver) = mpsc::channel(WAITING);
        let tx = Tx::new(conn, Dialect::Sqlite);
        let runtime = Handle::current();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || runtime.block_on(write_loop(tx, receiver)))
            .map_err(|error| Error::unavailable("store", format!("cannot start the writer: {error}")))?;
        let weak = sender.downgrade();
        Ok(Writer {
            kind: Kind::Sqlite {
                queue: Mutex::new(Some(sender)),
                sender: weak,
                thread: Mutex::new(Some(thread)),
            },
        })
    }

    pub fn postgres(connector: &Connector, limit: Option<Duration>) -> Writer {
        let alone = GroupWriter::start(connector.clone(), limit, None);
        let grouped = GroupWriter::start(connector.clone(), limit, Some(&alone));
        let ends = GroupWriter::start(connector.clone(), limit, Some(&alone));
        Writer { kind: Kind::Postgres { grouped, ends, alone } }
    }

    pub async fn submit<T, F>(
        &self,
        notices: Notices,
        closure: &'static str,
        sharing: Sharing,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        mark::outside("another write")?;
        let work: Work = Box::new(move |tx| {
            let work = work.clone();
            Box::pin(async move { Ok(Box::new(work(tx).await?) as Box<dyn Any + Send>) })
        });
        let (reply, replied) = oneshot::channel();
        let job = Job { work, closure, reply, notices, attempts: 0 };
        let sender = match &self.kind {
            Kind::Sqlite { sender, .. } => sender.upgrade(),
            Kind::Postgres { grouped, ends, alone } => match sharing {
                Sharing::All => grouped.sender(),
                Sharing::Ends => ends.sender(),
                Sharing::Alone => alone.sender(),
            },
        };
        // The writer continues without its caller, so that a caller that goes away does not leave half a transaction.
        sender.ok_or_else(closed)?.send(job).await.map_err(|_| closed())?;
        let reply = replied.await.map_err(|_| closed())?;
        let value = reply.answer?;
        if let Some(settled_at) = reply.settled_at {
            tokio::time::sleep_until(settled_at).await;
        }
        value.downcast().map(|value| *value).map_err(|_| Error::internal("a write returned another type"))
    }

    pub async fn close(&self) {
        match &self.kind {
            Kind::Sqlite { queue, thread, .. } => {
                queue.lock().await.take();
                if let Some(thread) = thread.lock().await.take() {
                    // The loop ends when the last sender is dropped; by then it has answered every job.
                    let ended = tokio::task::spawn_blocking(move || thread.join());
                    if !matches!(tokio::time::timeout(CLOSING, ended).await, Ok(Ok(Ok(())))) {
                        tracing::error!("the metadata writer did not end properly");
                    }
                }
            }
            Kind::Postgres { grouped, ends, alone } => {
                tokio::join!(grouped.close(), ends.close(), alone.close());
            }
        }
    }
}

const BEGIN: &str = "BEGIN IMMEDIATE";
const SAVE: &str = "SAVEPOINT job";
const KEEP: &str = "RELEASE job";
const UNDO: &str = "ROLLBACK TO job";
const COMMIT: &str = "COMMIT";

async fn write_loop(mut tx: Tx, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.recv().await {
        if let Err(error) = tx.exec(BEGIN, args![]).await {
            let _ = tx.exec("ROLLBACK", args![]).await;
            refuse(first, &error);
            continue;
        }
        let mut done = Vec::new();
        let mut next = Some(first);
        let mut broken = None;
        while let Some(mut job) = next.take() {
            let (answer, intact) = in_savepoint(&mut tx, &mut job).await;
            done.push((job.reply, answer, job.notices, tx.take_notices()));
            match intact {
                Ok(()) if done.len() < GROUP => next = jobs.try_recv().ok(),
                Ok(()) => {}
                Err(error) => broken = Some(error),
            }
        }
        metrics::histogram!("landreeve_store_group_size").record(done.len() as f64);
        let committed = match broken {
            None => tx.exec(COMMIT, args![]).await.map(drop),
            Some(error) => Err(error),
        };
        if committed.is_err() {
            // The failed commit is lost; a transaction that is still open must not absorb the next ones.
            let _ = tx.exec("ROLLBACK", args![]).await;
        }
        for (sender, answer, notices, told) in done {
            let answer = match &committed {
                Ok(()) => answer,
                Err(error) => Err(error.clone()),
            };
            if answer.is_ok() {
                told.into_iter().for_each(|told| notices.tell(told.notice));
            }
            // The requester may be gone; the write is done all the same.
            let _ = sender.send(answer.into());
        }
    }
}

/// The closure's result, and whether the surrounding transaction is still open, without what a failed closure did.
async fn in_savepoint(tx: &mut Tx, job: &mut Job) -> (Answer, Result<()>) {
    if let Err(error) = tx.exec(SAVE, args![]).await {
        return (Err(error.clone()), Err(error));
    }
    let answer = tx.run(job).await;
    let mut intact = Ok(0);
    if let Err(error) = &answer {
        tx.notices.clear();
        // SQLite may have rolled everything back by itself (a full disk): later statements would be committed
        // separately.
        intact = tx.exec(UNDO, args![]).await.map_err(|_| unavailable(error));
    }
    if intact.is_ok() {
        intact = tx.exec(KEEP, args![]).await;
    }
    (answer, intact.map(drop))
}

pub(super) fn refuse(job: Job, error: &Error) {
    // The requester may be gone.
    let _ = job.reply.send(Err(error.clone()).into());
}
