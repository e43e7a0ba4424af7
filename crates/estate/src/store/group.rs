//! The writer on PostgreSQL: waiting closures run one after another in one transaction and are committed together.
//!
//! At first they *presume* success: a closure does not wait for what a statement usually changes (`Conn::exec_one`), so
//! that the statements of many closures travel together. If any of that was wrong or a closure failed, everything is
//! rolled back, and the closures run again one by one, each but the first in a savepoint; so do those of the next few
//! transactions, because what fails once often fails again. Control statements are sent together with the adjacent
//! statements.
//!
//! A closure that waits for a lock delays the others, and while the transaction holds other locks it risks a deadlock
//! between two nodes. So it gives up after a moment and runs again separately, in its own transaction on another
//! connection, as slow writes do from the start. If two transactions still wait for each other, the one that PostgreSQL
//! aborts is run again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use landreeve_core::Error;
use landreeve_core::ids::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::conn::Conn;
use super::link::{Connector, Failed, Link, carry};
use super::notices::{self, Notice};
use super::writer::{Answer, CLOSING, Job, Reply, Told, Tx, WAITING, refuse};
use super::{Dialect, epoch};

/// Maximum number of closures per commit. With more than 64 savepoints that wrote, PostgreSQL tracks them less cheaply.
const GROUP: usize = 48;
/// How long closures are collected, so that writes are acknowledged and locks released soon.
const GATHERING: Duration = Duration::from_millis(20);
/// How many transactions run one by one after presuming was wrong: one, and each time twice as many, up to this.
const ONE_BY_ONE: u32 = 16;
/// After so many commits, it is one again.
const CALM: u32 = 64;
/// How long a connection that has just committed is taken to be intact.
const ALIVE: Duration = Duration::from_millis(100);
/// Maximum number of attempts per closure.
const ATTEMPTS: u32 = 10;
/// How long an aborted closure waits before its first retry: the other continues in the meantime, so that the two do
/// not collide again and again.
const STEP_ASIDE: Duration = Duration::from_millis(10);
/// Maximum wait before a retry.
const MAX_STEP_ASIDE: Duration = Duration::from_millis(640);

/// Statements are planned once for a connection, perhaps while a table is still empty, when reading all of it seems best.
const BY_INDEX: &str = "SET enable_seqscan = off";
/// On a connection on which closures share transactions, lock waits are short, because others wait behind.
const SHARED: &str = "SET enable_seqscan = off; SET lock_timeout = 20";
const BEGIN: &str = "BEGIN";
/// When closures run one by one, the first holds up no other's locks.
const BEGIN_ONE_BY_ONE: &str = "BEGIN; SET LOCAL lock_timeout = 100";
/// Before the second closure: from here on, other closures' locks are held.
const SAVE_FIRST: &str = "SET LOCAL lock_timeout = 20; SAVEPOINT job";
const SAVE: &str = "RELEASE job; SAVEPOINT job";
const UNDO: &str = "ROLLBACK TO job";
const COMMIT: &str = "COMMIT";

pub struct GroupWriter {
    sender: Mutex<Option<mpsc::Sender<Job>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl GroupWriter {
    /// `aside`: where closures run that have to wait for a lock; without it each has its own transaction.
    pub fn start(connector: Connector, limit: Option<Duration>, aside: Option<&GroupWriter>) -> GroupWriter {
        let (sender, jobs) = mpsc::channel(WAITING);
        let aside = aside.and_then(GroupWriter::sender);
        let writer = Loop {
            connector,
            limit,
            aside,
            jobs,
            again: VecDeque::new(),
            one_by_one: 0,
            penalty: 0,
            commits: 0,
            alive: None,
        };
        let task = tokio::spawn(writer.run());
        GroupWriter { sender: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    pub fn sender(&self) -> Option<mpsc::Sender<Job>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The loop ends when the last sender is dropped; by then it has answered every job.
    pub async fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(CLOSING, &mut task).await.is_err()
        {
            tracing::error!("the metadata writer did not end in time");
            task.abort();
        }
    }
}

struct Loop {
    connector: Connector,
    limit: Option<Duration>,
    aside: Option<mpsc::Sender<Job>>,
    jobs: mpsc::Receiver<Job>,
    /// To be run again, before all others.
    again: VecDeque<Job>,
    /// How many of the next transactions do not presume anything.
    one_by_one: u32,
    /// How many there were after the last time, and the commits since.
    penalty: u32,
    commits: u32,
    /// When the connection last committed.
    alive: Option<Instant>,
}

impl Loop {
    /// Can be dropped while it waits.
    async fn next(&mut self) -> Option<Job> {
        let Some(first) = self.again.front() else { return self.jobs.recv().await };
        if self.aside.is_none() && first.attempts > 0 {
            let pause = STEP_ASIDE.saturating_mul(1 << first.attempts.min(6));
            tokio::time::sleep(pause.min(MAX_STEP_ASIDE)).await;
        }
        self.again.pop_front()
    }

    /// The same while a commit is running: its closures may be the next.
    async fn next_beside(&mut self, committing: &mut Committing) -> Option<Job> {
        if let Some(next) = committing.beside_unless_ended(self.next()).await {
            return next;
        }
        self.concluded(committing.end().await);
        self.next().await
    }

    async fn run(mut self) {
        while let Some(first) = self.next().await {
            match self.connector.carried(self.limit).await {
                Ok((link, mut carrier)) => carry(&mut carrier, self.session(link, first)).await,
                Err(error) => {
                    // Closures that arrived in the meantime have waited as well. All are collected before the first is
                    // answered: what a caller sends after its answer gets its own attempt.
                    let mut waited: Vec<Job> = std::iter::once(first).chain(self.again.drain(..)).collect();
                    while let Ok(job) = self.jobs.try_recv() {
                        waited.push(job);
                    }
                    waited.into_iter().for_each(|job| refuse(job, &error));
                }
            }
        }
    }

    /// Works on one connection until it is lost.
    async fn session(&mut self, mut link: Link, first: Job) {
        let settings = if self.aside.is_some() { SHARED } else { BY_INDEX };
        if let Err(error) = link.control(settings).await {
            return self.again_or_refuse(true, first, &error);
        }
        let mut tx = Tx::new(Conn::of_link(link), Dialect::Postgres);
        let mut committing = Committing::default();
        let mut next = Some(first);
        self.alive = None;
        while let Some(job) = next.take() {
            let group = committing.beside(self.group(&mut tx, job)).await;
            self.concluded(committing.end().await);
            if let Some(link) = link_of(&mut tx) {
                committing = self.commit(link, group);
            }
            let sound = |tx: &mut Tx| link_of(tx).is_some_and(|link| link.is_sound());
            if sound(&mut tx) {
                next = self.next_beside(&mut committing).await;
                if sound(&mut tx) {
                    continue;
                }
                // It was lost while it was not in use.
                self.again.extend(next.take());
            }
        }
        self.concluded(committing.end().await);
    }

    fn concluded(&mut self, ended: Ended) {
        match ended {
            Ended::Nothing => {}
            Ended::Committed => {
                self.alive = Some(Instant::now());
                self.commits = self.commits.saturating_add(1);
            }
            Ended::Undone { jobs, error } => self.again_one_by_one(jobs, &error),
            Ended::Lost { jobs, error, clash } => {
                jobs.into_iter().for_each(|job| self.again_or_refuse(clash, job, &error));
            }
        }
    }

    /// Runs closures, up to the commit.
    async fn group(&mut self, tx: &mut Tx, first: Job) -> Group {
        if self.aside.is_some() && self.one_by_one == 0 {
            return self.presuming(tx, first).await;
        }
        self.one_by_one = self.one_by_one.saturating_sub(1);
        self.one_by_one(tx, first).await
    }

    async fn presuming(&mut self, tx: &mut Tx, first: Job) -> Group {
        let begun = Instant::now();
        let mut group = Group { done: Vec::new(), place: Place::Outside, alone: false };
        let Some(link) = link_of(tx) else { return group };
        link.presume(true);
        link.put_ahead(BEGIN.to_owned());
        let mut next = Some(first);
        let mut failed = None;
        while let Some(mut job) = next.take() {
            let answer = tx.run(&mut job).await;
            let told = tx.take_notices();
            match answer {
                Ok(value) => group.done.push(Done { job, value, told }),
                Err(error) => failed = Some((job, error)),
            }
            if failed.is_none() && group.done.len() < GROUP && begun.elapsed() < GATHERING {
                next = self.waiting();
            }
        }
        if failed.is_none()
            && let Err(error) = tx.send_appended().await
            && let Some(Done { job, .. }) = group.done.pop()
        {
            failed = Some((job, error));
        }
        tx.keep_appended(0);
        let Some(link) = link_of(tx) else { return group };
        // The first closure's error is its own if it presumed nothing.
        let own = group.done.is_empty() && !link.has_presumed();
        // The commit can follow without a wait, unless the connection may have been lost while it was not in use: then
        // waiting shows whether the closures can run again.
        let proven = link.is_proven() && self.alive.is_some_and(|alive| alive.elapsed() < ALIVE);
        link.presume(false);
        if link.take_ahead().is_none() {
            group.place = Place::First;
        }
        if failed.is_none() && proven {
            return group;
        }
        let settled = link.settle().await;
        let broken = link.is_broken();
        match (failed, settled) {
            (None, Err(_)) if broken => {}
            (Some((job, error)), _) if own => {
                group.undo(tx).await;
                self.failed(tx, job, &error);
            }
            (Some((job, error)), _) => self.start_over(tx, &mut group, Some(job), &error).await,
            (None, Err(error)) => self.start_over(tx, &mut group, None, &error).await,
            (None, Ok(())) => {}
        }
        group
    }

    /// Rolls everything back; the closures run again one by one.
    async fn start_over(&mut self, tx: &mut Tx, group: &mut Group, failed: Option<Job>, error: &Error) {
        group.undo(tx).await;
        let Some(link) = link_of(tx) else { return };
        link.take_clash();
        let jobs: Vec<Job> = group.done.drain(..).map(|done| done.job).chain(failed).collect();
        if link.is_broken() {
            let cut = link.is_cut();
            jobs.into_iter().for_each(|job| self.again_or_refuse(cut, job, &lost()));
            return;
        }
        self.again_one_by_one(jobs, error);
    }

    async fn one_by_one(&mut self, tx: &mut Tx, first: Job) -> Group {
        let begun = Instant::now();
        let size = if self.aside.is_some() { GROUP } else { 1 };
        let mut group = Group { done: Vec::new(), place: Place::Outside, alone: self.aside.is_none() };
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            let (answer, sent) = group.run(tx, &mut job).await;
            let told = tx.take_notices();
            match answer {
                Ok(value) => group.done.push(Done { job, value, told }),
                Err(error) => {
                    if sent {
                        group.undo(tx).await;
                    }
                    self.failed(tx, job, &error);
                }
            }
            if link_of(tx).is_none_or(|link| link.is_broken()) {
                break;
            }
            if group.done.len() < size && begun.elapsed() < GATHERING {
                next = self.waiting();
            }
        }
        group
    }

    /// The next closure, if one is waiting.
    fn waiting(&mut self) -> Option<Job> {
        self.again.pop_front().or_else(|| self.jobs.try_recv().ok())
    }

    /// Decides what becomes of a closure whose work was rolled back.
    fn failed(&mut self, tx: &mut Tx, job: Job, error: &Error) {
        let clash = link_of(tx).is_some_and(Link::take_clash);
        let cut = link_of(tx).is_some_and(|link| link.is_cut());
        match self.aside.as_ref().filter(|_| clash) {
            Some(aside) => run_aside(aside, job, error),
            None => self.again_or_refuse(clash || cut, job, error),
        }
    }

    fn again_one_by_one(&mut self, jobs: Vec<Job>, error: &Error) {
        metrics::counter!("landreeve_store_presumed_wrongly_total").increment(1);
        self.penalty = if self.commits > CALM { 1 } else { (self.penalty * 2).clamp(1, ONE_BY_ONE) };
        (self.one_by_one, self.commits) = (self.penalty, 0);
        for mut job in jobs.into_iter().rev() {
            job.attempts += 1;
            if job.attempts < ATTEMPTS {
                self.again.push_front(job);
            } else {
                refuse(job, error);
            }
        }
    }

    fn again_or_refuse(&mut self, again: bool, mut job: Job, error: &Error) {
        job.attempts += 1;
        if again && job.attempts < ATTEMPTS {
            metrics::counter!("landreeve_store_retries_total").increment(1);
            self.again.push_back(job);
        } else {
            refuse(job, error);
        }
    }

    /// Commits a group. Its closures are answered when that is known; the next group runs in the meantime.
    fn commit(&mut self, link: &mut Link, group: Group) -> Committing {
        metrics::histogram!("landreeve_store_group_size").record(group.done.len() as f64);
        let undo = match group.place {
            // No closure executed a statement.
            Place::Outside => {
                group.done.into_iter().for_each(Done::answer);
                return Committing::default();
            }
            _ if link.is_broken() => {
                // Nothing was committed, so the closures can run again, unless they have waited too long.
                let again = link.is_cut();
                group.done.into_iter().for_each(|done| self.again_or_refuse(again, done.job, &lost()));
                return Committing::default();
            }
            Place::Failed => Some(UNDO.to_owned()),
            Place::First | Place::Saved => None,
        };
        link.take_ahead();
        let last = undo.into_iter().chain(notify(&group.done)).chain([COMMIT.to_owned()]);
        let committed = link.control_later(last);
        Committing::of(async move {
            match committed.await {
                Ok(()) => {
                    group.done.into_iter().for_each(Done::answer);
                    Ended::Committed
                }
                Err(Failed { error, clash, undone }) => {
                    let jobs = group.done.into_iter().map(|done| done.job).collect();
                    if undone { Ended::Undone { jobs, error } } else { Ended::Lost { jobs, error, clash } }
                }
            }
        })
    }
}

/// A commit whose outcome is not known yet.
#[derive(Default)]
struct Committing {
    running: Option<BoxFuture<'static, Ended>>,
    ended: Ended,
}

/// What became of a commit. Its closures are answered if it succeeded.
#[derive(Default)]
enum Ended {
    #[default]
    Nothing,
    Committed,
    /// What was presumed was wrong.
    Undone {
        jobs: Vec<Job>,
        error: Error,
    },
    /// Not committed, as far as is known.
    Lost {
        jobs: Vec<Job>,
        error: Error,
        clash: bool,
    },
}

impl Committing {
    fn of(running: impl Future<Output = Ended> + Send + 'static) -> Committing {
        Committing { running: Some(Box::pin(running)), ended: Ended::Nothing }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(running) = &mut self.running else { return Poll::Ready(()) };
        let Poll::Ready(ended) = running.as_mut().poll(context) else { return Poll::Pending };
        (self.running, self.ended) = (None, ended);
        Poll::Ready(())
    }

    /// Does the work, and answers the closures as soon as they are committed.
    async fn beside<W: Future>(&mut self, work: W) -> W::Output {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| {
            let _ = self.poll(context);
            work.as_mut().poll(context)
        })
        .await
    }

    /// The same; `None` if the commit ends first.
    async fn beside_unless_ended<W: Future>(&mut self, work: W) -> Option<W::Output> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| {
            if self.poll(context).is_ready() && !matches!(self.ended, Ended::Nothing) {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    async fn end(&mut self) -> Ended {
        std::future::poll_fn(|context| self.poll(context)).await;
        std::mem::take(&mut self.ended)
    }
}

fn lost() -> Error {
    super::conn::unavailable("the connection to the database was lost")
}

fn run_aside(aside: &mpsc::Sender<Job>, job: Job, error: &Error) {
    metrics::counter!("landreeve_store_retries_total").increment(1);
    // Too many are already waiting there.
    if let Err(full) = aside.try_send(job) {
        refuse(full.into_inner(), error);
    }
}

fn link_of(tx: &mut Tx) -> Option<&mut Link> {
    tx.link()
}

/// Sends all notices to the other nodes with the commit, in as few statements as their size allows.
fn notify(done: &[Done]) -> Option<String> {
    let mut all: Vec<Notice> = Vec::new();
    for told in done.iter().flat_map(|done| &done.told).filter(|told| told.is_due()) {
        if !all.contains(&told.notice) {
            all.push(told.notice);
        }
    }
    let instance = done.first()?.job.notices.instance();
    let statements = all.chunks(notices::MAX_PER_NOTICE).map(|part| {
        let payload = notices::payload(instance, part).replace('\'', "''");
        format!("NOTIFY landreeve, '{payload}'; ")
    });
    (!all.is_empty()).then(|| statements.collect())
}

struct Done {
    job: Job,
    value: Box<dyn std::any::Any + Send>,
    told: Vec<Told>,
}

impl Done {
    /// Tells the caller that it is committed.
    fn answer(self) {
        let changed = self.told.iter().any(|told| told.notice == Notice::Authority);
        let settled_at = changed.then(|| Instant::now() + epoch::SETTLING);
        for told in self.told.iter().filter(|told| told.is_due()) {
            self.job.notices.tell(told.notice);
        }
        // The requester may be gone; the write is done all the same.
        let _ = self.job.reply.send(Reply { answer: Ok(self.value), settled_at });
    }
}

/// The state of the transaction between two closures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    /// The first closure's work is kept, without a savepoint.
    First,
    /// A savepoint is set, and the work after it is kept.
    Saved,
    /// A savepoint is set, and the work after it must be rolled back.
    Failed,
}

struct Group {
    done: Vec<Done>,
    place: Place,
    alone: bool,
}

impl Group {
    /// The closure's result, and whether anything was sent to the database.
    async fn run(&mut self, tx: &mut Tx, job: &mut Job) -> (Answer, bool) {
        let (control, after) = match self.place {
            Place::Outside if self.alone => (BEGIN, Place::First),
            Place::Outside => (BEGIN_ONE_BY_ONE, Place::First),
            Place::First => (SAVE_FIRST, Place::Saved),
            Place::Saved => (SAVE, Place::Saved),
            Place::Failed => (UNDO, Place::Saved),
        };
        if let Some(link) = link_of(tx) {
            link.put_ahead(control.to_owned());
        }
        let mut answer = tx.run(job).await;
        if answer.is_ok()
            && let Err(error) = tx.send_appended().await
        {
            answer = Err(error);
        }
        tx.keep_appended(0);
        let Some(link) = link_of(tx) else { return (answer, false) };
        let sent = link.take_ahead().is_none();
        if sent {
            self.place = after;
        }
        match (answer, link.settle().await) {
            (Ok(_), Err(error)) => (Err(error), sent),
            (answer, _) => (answer, sent),
        }
    }

    /// Rolls back what followed the last savepoint, or everything if there is none.
    async fn undo(&mut self, tx: &mut Tx) {
        match self.place {
            Place::Outside => return,
            Place::First => {}
            Place::Saved | Place::Failed => {
                self.place = Place::Failed;
                return;
            }
        }
        // The closure began the transaction. If it cannot be rolled back, drop the connection.
        self.place = Place::Outside;
        if let Some(link) = link_of(tx).filter(|link| !link.is_broken()) {
            let clash = link.take_clash();
            let _ = link.control("ROLLBACK").await;
            link.put_clash(clash);
        }
    }
}
