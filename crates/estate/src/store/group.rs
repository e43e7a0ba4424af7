//! The writer on PostgreSQL: waiting closures run one after another in one transaction, each but the first in a
//! savepoint, and are committed together. Its control statements are sent together with the adjacent statements.
//!
//! A closure that waits for a lock delays the others, and while the transaction holds other locks it risks a deadlock
//! between two nodes. So it gives up after a moment and runs again separately, in its own transaction on another
//! connection, as slow writes do from the start. If two transactions still wait for each other, the one that PostgreSQL
//! aborts is run again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landreeve_core::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Dialect;
use super::conn::Conn;
use super::link::{Connector, Link, carry};
use super::notices::{self, Notice};
use super::writer::{Answer, CLOSING, Job, Tx, WAITING, refuse};

/// Maximum number of closures per commit. With more than 64 savepoints that wrote, PostgreSQL tracks them less cheaply.
const GROUP: usize = 48;
/// How long closures are collected, so that writes are acknowledged and locks released soon.
const GATHERING: Duration = Duration::from_millis(20);
/// Maximum number of attempts per closure.
const ATTEMPTS: u32 = 10;
/// How long an aborted closure waits before its first retry: the other continues in the meantime, so that the two do
/// not collide again and again.
const STEP_ASIDE: Duration = Duration::from_millis(10);
/// Maximum wait before a retry.
const MAX_STEP_ASIDE: Duration = Duration::from_millis(640);

/// Keep lock waits short, because other closures wait behind.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = 100";
const BEGIN_ALONE: &str = "BEGIN";
/// Before the second closure: from here on, other closures' locks are held.
const SAVE_FIRST: &str = "SET LOCAL lock_timeout = 20; SAVEPOINT job";
const SAVE: &str = "RELEASE job; SAVEPOINT job";
const UNDO: &str = "ROLLBACK TO job";

pub struct GroupWriter {
    sender: Mutex<Option<mpsc::Sender<Job>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl GroupWriter {
    /// `aside`: where closures run that have to wait for a lock; without it each has its own transaction.
    pub fn start(connector: Connector, limit: Option<Duration>, aside: Option<&GroupWriter>) -> GroupWriter {
        let (sender, jobs) = mpsc::channel(WAITING);
        let aside = aside.and_then(GroupWriter::sender);
        let writer = Loop { connector, limit, aside, jobs, again: VecDeque::new() };
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
}

impl Loop {
    async fn next(&mut self) -> Option<Job> {
        let Some(job) = self.again.pop_front() else { return self.jobs.recv().await };
        if self.aside.is_none() && job.attempts > 0 {
            let pause = STEP_ASIDE.saturating_mul(1 << job.attempts.min(6));
            tokio::time::sleep(pause.min(MAX_STEP_ASIDE)).await;
        }
        Some(job)
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
    async fn session(&mut self, link: Link, first: Job) {
        let mut tx = Tx::new(Conn::of_link(link), Dialect::Postgres);
        let mut next = Some(first);
        while let Some(job) = next.take() {
            self.group(&mut tx, job).await;
            if link_of(&mut tx).is_none_or(|link| !link.is_sound()) {
                return;
            }
            next = self.next().await;
            if link_of(&mut tx).is_none_or(|link| !link.is_sound()) {
                // It was lost while it was not in use.
                self.again.extend(next.take());
                return;
            }
        }
    }

    async fn group(&mut self, tx: &mut Tx, first: Job) {
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
                    let clash = link_of(tx).is_some_and(Link::take_clash);
                    let cut = link_of(tx).is_some_and(|link| link.is_cut());
                    match self.aside.as_ref().filter(|_| clash) {
                        Some(aside) => run_aside(aside, job, &error),
                        None => self.again_or_refuse(clash || cut, job, &error),
                    }
                }
            }
            let Some(link) = link_of(tx) else { return };
            if link.is_broken() {
                break;
            }
            if group.done.len() < size && self.again.is_empty() && begun.elapsed() < GATHERING {
                next = self.jobs.try_recv().ok();
            }
        }
        metrics::histogram!("landreeve_store_group_size").record(group.done.len() as f64);
        self.commit(tx, group).await;
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

    async fn commit(&mut self, tx: &mut Tx, group: Group) {
        let Some(link) = link_of(tx) else { return };
        let committed = match group.place {
            // No closure executed a statement.
            Place::Outside => Ok(()),
            _ if link.is_broken() => {
                // Nothing was committed, so the closures can run again, unless they have waited too long.
                let again = link.is_cut();
                let error = super::conn::unavailable("the connection to the database was lost");
                group.done.into_iter().for_each(|done| self.again_or_refuse(again, done.job, &error));
                return;
            }
            place => {
                let undo = if place == Place::Failed { "ROLLBACK TO job; " } else { "" };
                link.take_ahead();
                link.control(&format!("{undo}{}COMMIT", notify(&group.done))).await
            }
        };
        let clash = link_of(tx).is_some_and(Link::take_clash);
        for Done { job, value, told } in group.done {
            match &committed {
                Ok(()) => {
                    told.into_iter().for_each(|notice| job.notices.tell(notice));
                    // The requester may be gone; the write is done all the same.
                    let _ = job.answer.send(Ok(value));
                }
                Err(error) => self.again_or_refuse(clash, job, error),
            }
        }
    }
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
fn notify(done: &[Done]) -> String {
    let mut all: Vec<Notice> = Vec::new();
    for notice in done.iter().flat_map(|done| &done.told) {
        if !all.contains(notice) {
            all.push(*notice);
        }
    }
    let Some(instance) = done.first().map(|done| done.job.notices.instance()) else { return String::new() };
    let statements = all.chunks(notices::MAX_PER_NOTICE).map(|part| {
        let payload = notices::payload(instance, part).replace('\'', "''");
        format!("SELECT pg_notify('landreeve', '{payload}'); ")
    });
    statements.collect()
}

struct Done {
    job: Job,
    value: Box<dyn std::any::Any + Send>,
    told: Vec<Notice>,
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
            Place::Outside if self.alone => (BEGIN_ALONE, Place::First),
            Place::Outside => (BEGIN, Place::First),
            Place::First => (SAVE_FIRST, Place::Saved),
            Place::Saved => (SAVE, Place::Saved),
            Place::Failed => (UNDO, Place::Saved),
        };
        if let Some(link) = link_of(tx) {
            link.put_ahead(control.to_owned());
        }
        let answer = tx.run(job).await;
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

    /// Rolls back the last closure and nothing else.
    async fn undo(&mut self, tx: &mut Tx) {
        if self.place != Place::First {
            self.place = Place::Failed;
            return;
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
