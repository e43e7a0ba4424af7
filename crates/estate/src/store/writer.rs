//! The one writer of SQLite with group commit, on a thread of its own, and its counterpart on PostgreSQL.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread::JoinHandle;

use futures_util::FutureExt as _;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Error, Result};
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::conn::{Conn, unavailable};
use super::direct::Direct;
use super::notices::{self, Notice, Notices};
use super::{Dialect, store_error};
use crate::args;

/// How many closures share one commit at most, so that the first of them does not wait for ever.
const GROUP: usize = 128;
/// How many may wait before a writer is asked to wait too.
const WAITING: usize = 1_024;

/// A transaction, and what to tell the process once it is durable.
pub struct Tx {
    conn: Conn,
    dialect: Dialect,
    notices: Vec<Notice>,
}

impl Tx {
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Every cached authority and datasource is stale once this transaction commits.
    pub async fn bump_epoch(&mut self) -> Result<()> {
        self.exec("UPDATE epochs SET value = value + 1 WHERE name = 'authority'", args![]).await?;
        self.notice(Notice::Authority).await
    }

    pub async fn run_changed(&mut self, run: RunId) -> Result<()> {
        self.notice(Notice::Run(run)).await
    }

    /// Tells this process after the commit, and on PostgreSQL the other nodes with it.
    pub async fn notice(&mut self, notice: Notice) -> Result<()> {
        if self.notices.contains(&notice) {
            return Ok(());
        }
        self.notices.push(notice);
        Ok(())
    }

    /// Work whose error is undone alone: the transaction goes on without what it did. The outer error is of the
    /// transaction itself.
    pub async fn savepoint<T, F>(&mut self, work: F) -> Result<Result<T>>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send,
    {
        self.exec("SAVEPOINT part", args![]).await?;
        let told = self.notices.len();
        let answer = work(self).await;
        if answer.is_err() {
            self.notices.truncate(told);
            self.exec("ROLLBACK TO part", args![]).await?;
        }
        self.exec("RELEASE part", args![]).await?;
        Ok(answer)
    }

    /// Sends everything to the other nodes with the commit, in as few statements as their size allows.
    async fn notify(&mut self, instance: &str) -> Result<()> {
        for part in self.notices.clone().chunks(notices::AT_ONCE) {
            let payload = notices::payload(instance, part);
            self.exec("SELECT pg_notify('landreeve', $1)", args![payload]).await?;
        }
        Ok(())
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

type Answer = Result<Box<dyn Any + Send>>;
type Work = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Answer> + Send>;

struct Job {
    work: Work,
    answer: oneshot::Sender<Answer>,
    notices: Notices,
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
    Postgres(PgPool),
}

impl Writer {
    /// On a file that has its schema.
    pub fn sqlite(path: &Path) -> Result<Writer> {
        let conn = Conn::direct(Direct::open(path)?);
        let (sender, receiver) = mpsc::channel(WAITING);
        let tx = Tx { conn, dialect: Dialect::Sqlite, notices: Vec::new() };
        let runtime = Handle::current();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || runtime.block_on(write_loop(tx, receiver)))
            .map_err(|error| Error::unavailable("store", format!("the writer cannot start: {error}")))?;
        let weak = sender.downgrade();
        Ok(Writer {
            kind: Kind::Sqlite {
                queue: Mutex::new(Some(sender)),
                sender: weak,
                thread: Mutex::new(Some(thread)),
            },
        })
    }

    pub fn postgres(pool: PgPool) -> Writer {
        Writer { kind: Kind::Postgres(pool) }
    }

    pub async fn submit<T, F>(&self, notices: Notices, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let work: Work =
            Box::new(move |tx| Box::pin(async move { Ok(Box::new(work(tx).await?) as Box<dyn Any + Send>) }));
        let (answer, answered) = oneshot::channel();
        let job = Job { work, answer, notices };
        match &self.kind {
            Kind::Sqlite { sender, .. } => {
                let sender = sender.upgrade().ok_or_else(closed)?;
                sender.send(job).await.map_err(|_| closed())?;
            }
            // A task of its own: a caller that goes away does not leave a transaction half-way.
            Kind::Postgres(pool) => drop(tokio::spawn(write_postgres(pool.clone(), job))),
        }
        let value = answered.await.map_err(|_| closed())??;
        value
            .downcast()
            .map(|value| *value)
            .map_err(|_| Error::internal("a write answered with another type"))
    }

    pub async fn close(&self) {
        if let Kind::Sqlite { queue, thread, .. } = &self.kind {
            queue.lock().await.take();
            if let Some(thread) = thread.lock().await.take() {
                // The loop ends when the last sender is gone; it has answered every job by then.
                let ended = tokio::task::spawn_blocking(move || thread.join()).await;
                if !matches!(ended, Ok(Ok(()))) {
                    tracing::error!("the metadata writer ended badly");
                }
            }
        }
    }
}

fn closed() -> Error {
    Error::unavailable("store", "the metadata store is closed: the server is stopping")
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
        while let Some(job) = next.take() {
            let (answer, intact) = in_savepoint(&mut tx, job.work).await;
            done.push((job.answer, answer, job.notices, std::mem::take(&mut tx.notices)));
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
            // What failed to commit is gone; a transaction that is still open must not take the next ones with it.
            let _ = tx.exec("ROLLBACK", args![]).await;
        }
        for (sender, answer, notices, told) in done {
            let answer = match &committed {
                Ok(()) => answer,
                Err(error) => Err(error.clone()),
            };
            if answer.is_ok() {
                told.into_iter().for_each(|notice| notices.tell(notice));
            }
            // Whoever asked may be gone; the write stands all the same.
            let _ = sender.send(answer);
        }
    }
}

/// A panic in a closure is an error of that closure: the writer, and an open transaction, must not die of it.
async fn run(tx: &mut Tx, work: Work) -> Answer {
    let guarded = AssertUnwindSafe(async { work(tx).await }).catch_unwind().await;
    guarded.unwrap_or_else(|_| Err(Error::internal("a write panicked; the log says where")))
}

/// The closure's answer, and whether the transaction around it still stands, without what a failed closure did.
async fn in_savepoint(tx: &mut Tx, work: Work) -> (Answer, Result<()>) {
    if let Err(error) = tx.exec(SAVE, args![]).await {
        return (Err(error.clone()), Err(error));
    }
    let answer = run(tx, work).await;
    let mut intact = Ok(0);
    if let Err(error) = &answer {
        tx.notices.clear();
        // SQLite may have rolled everything back by itself (a full disk): what came now would commit on its own.
        intact = tx.exec(UNDO, args![]).await.map_err(|_| unavailable(error));
    }
    if intact.is_ok() {
        intact = tx.exec(KEEP, args![]).await;
    }
    (answer, intact.map(drop))
}

fn refuse(job: Job, error: &Error) {
    let _ = job.answer.send(Err(error.clone()));
}

async fn write_postgres(pool: PgPool, job: Job) {
    let conn = match pool.acquire().await {
        Ok(conn) => Conn::postgres(conn),
        Err(error) => return refuse(job, &store_error(error)),
    };
    let mut tx = Tx { conn, dialect: Dialect::Postgres, notices: Vec::new() };
    let answer = in_transaction(&mut tx, job.work, job.notices.instance()).await;
    let told = std::mem::take(&mut tx.notices);
    if answer.is_ok() {
        told.into_iter().for_each(|notice| job.notices.tell(notice));
    } else {
        // The rollback may have failed with the connection: do not let another request find a transaction open.
        if tx.exec("ROLLBACK", args![]).await.is_err() {
            tx.conn.discard();
        }
    }
    let _ = job.answer.send(answer);
}

async fn in_transaction(tx: &mut Tx, work: Work, instance: &str) -> Answer {
    tx.exec("BEGIN", args![]).await?;
    let value = run(tx, work).await?;
    tx.notify(instance).await?;
    tx.exec("COMMIT", args![]).await?;
    Ok(value)
}
