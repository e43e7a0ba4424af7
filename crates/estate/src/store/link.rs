//! One connection to PostgreSQL. Statements are prepared once, sent together if no result is needed in between, and
//! have a time limit; after a timeout the connection is not used again.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{MaybeDone, maybe_done};
use futures_util::{StreamExt as _, TryStreamExt as _};
use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result};
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::append::Column;
use super::conn::{Arg, Row, already_there, check, gone, unavailable};
use super::mark;

/// PostgreSQL's error. Its text never contains a value.
pub type WireError = tokio_postgres::Error;

/// How long a server may take to start a session.
const CONNECT: Duration = Duration::from_secs(4);
/// How much longer than the server we wait for statements that the server itself cancels.
const GRACE: Duration = Duration::from_secs(1);
/// Compiling our statements takes longer than it saves. Transactions left open by a dead node must not hold locks for
/// hours. The isolation is set whatever the server's default is.
const SET_UP: &str = "SET jit = off; SET idle_in_transaction_session_timeout = 60000; \
                      SET default_transaction_isolation = 'read committed'";

/// The store's location, and what is known about its health.
#[derive(Clone)]
pub struct Connector {
    config: Arc<Config>,
    tls: MakeRustlsConnect,
    /// How often a server did not respond. Connections from before the last time are not used again.
    silences: Arc<AtomicU64>,
}

/// The driver's half of a connection that moves bytes.
pub type Raw = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// The same without notifications; it must be polled.
pub type Carrier = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Connector {
    pub fn new(config: Config, tls: MakeRustlsConnect) -> Connector {
        Connector { config: Arc::new(config), tls, silences: Arc::default() }
    }

    fn silences(&self) -> u64 {
        self.silences.load(Ordering::SeqCst)
    }

    /// A connection of the driver, for listening.
    pub async fn raw(&self) -> Result<(Client, Raw)> {
        match tokio::time::timeout(CONNECT, self.config.connect(self.tls.clone())).await {
            Ok(connected) => connected.map_err(|error| wire_error(&error)),
            Err(_) => Err(silent(CONNECT)),
        }
    }

    /// A connection whose carrier the caller polls. `limit`: of each statement.
    pub async fn carried(&self, limit: Option<Duration>) -> Result<(Link, Carrier)> {
        let connecting = self.connecting(limit);
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| silent(CONNECT))?
    }

    async fn connecting(&self, limit: Option<Duration>) -> Result<(Link, Carrier)> {
        let silences = self.silences();
        let (client, connection) = self.raw().await?;
        // The client gets its errors as well.
        let mut carrier: Carrier = Box::pin(async move { drop(connection.await) });
        let set_up = match limit {
            Some(limit) => format!("{SET_UP}; SET statement_timeout = {}", limit.as_millis()),
            None => SET_UP.to_owned(),
        };
        let begun = carry(&mut carrier, client.batch_execute(&set_up)).await;
        begun.map_err(|error| wire_error(&error))?;
        let link = Link {
            client: Arc::new(client),
            carrier: None,
            statements: HashMap::new(),
            ahead: None,
            sent: Vec::new(),
            presuming: false,
            presumed: false,
            unproven: false,
            limit: limit.map(|limit| limit + GRACE),
            connector: self.clone(),
            silences,
            state: State::Idle,
            clash: false,
            spoiled: false,
        };
        Ok((link, carrier))
    }

    /// A connection with its own task.
    pub async fn connect(&self, limit: Option<Duration>) -> Result<Link> {
        let (mut link, carrier) = self.carried(limit).await?;
        link.carrier = Some(tokio::spawn(carrier));
        Ok(link)
    }
}

/// Polls the carrier together with the work, in the same task.
pub async fn carry<W: Future>(carrier: &mut Carrier, work: W) -> W::Output {
    let mut work = std::pin::pin!(work);
    let mut ended = false;
    std::future::poll_fn(move |context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        // Sends what the work has queued, and receives what has arrived.
        if !ended && carrier.as_mut().poll(context).is_ready() {
            ended = true;
        }
        Poll::Pending
    })
    .await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// A statement was sent whose result has not been read; if its future was dropped, it never is.
    Busy,
    Broken,
}

/// A statement whose result has not been awaited yet.
struct Sent {
    work: MaybeDone<BoxFuture<'static, Result<u64, WireError>>>,
    check: Check,
}

/// What the number of rows of a statement decides.
enum Check {
    Nothing,
    /// Its closure was told that there is a row.
    Presumed,
    Asked(Asked),
}

/// Whether a statement found a row, which is known when the closures of its transaction are.
#[derive(Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    pub fn found(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The outcome of a control statement that was not awaited.
pub type Outcome = BoxFuture<'static, Result<(), Failed>>;

pub struct Failed {
    pub error: Error,
    /// It was a conflict between two transactions.
    pub clash: bool,
    /// A statement before the last failed, so the transaction is known to be rolled back.
    pub undone: bool,
}

fn all_ready(all: &mut [Sent], context: &mut Context<'_>) -> Poll<()> {
    let mut ready = true;
    for sent in all {
        ready &= Pin::new(&mut sent.work).poll(context).is_ready();
    }
    if ready { Poll::Ready(()) } else { Poll::Pending }
}

pub struct Link {
    client: Arc<Client>,
    carrier: Option<JoinHandle<()>>,
    statements: HashMap<&'static str, Statement>,
    /// Sent before the next statement, in the same packet.
    ahead: Option<String>,
    sent: Vec<Sent>,
    /// Closures continue without waiting for results that can be presumed.
    presuming: bool,
    presumed: bool,
    /// One of those results must be known before the commit, because the database would not see that it was wrong.
    unproven: bool,
    limit: Option<Duration>,
    connector: Connector,
    silences: u64,
    state: State,
    /// The last error was a conflict between two transactions.
    clash: bool,
    spoiled: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(carrier) = &self.carrier
            && self.state != State::Idle
        {
            // Do not wait for a server that runs an abandoned statement or does not respond.
            carrier.abort();
        }
    }
}

impl Link {
    /// Whether it can be used again.
    pub fn is_sound(&self) -> bool {
        self.state == State::Idle
            && self.sent.is_empty()
            && !self.client.is_closed()
            && self.silences == self.connector.silences()
    }

    /// The connection was lost without a wait, so another can be tried.
    pub fn is_cut(&self) -> bool {
        self.client.is_closed() && self.state != State::Broken
    }

    pub fn is_broken(&self) -> bool {
        self.state == State::Broken || self.client.is_closed()
    }

    /// Puts a control statement before the next statement.
    pub fn put_ahead(&mut self, text: String) {
        self.ahead = Some(text);
    }

    /// The control statement that no statement has followed.
    pub fn take_ahead(&mut self) -> Option<String> {
        self.ahead.take()
    }

    /// From now on, closures are told what their statements will probably have changed; or no longer.
    pub fn presume(&mut self, presuming: bool) {
        self.presuming = presuming;
        self.presumed = false;
        self.unproven = false;
    }

    pub fn is_presuming(&self) -> bool {
        self.presuming
    }

    /// Whether a closure has been told so since.
    pub fn has_presumed(&self) -> bool {
        self.presumed
    }

    /// Whether COMMIT could be sent now: if anything presumed is wrong, it is an error of the database, and nothing is
    /// committed.
    pub fn is_proven(&self) -> bool {
        !self.unproven
    }

    pub fn take_clash(&mut self) -> bool {
        std::mem::take(&mut self.clash)
    }

    pub fn put_clash(&mut self, clash: bool) {
        self.clash = clash;
    }

    /// Whether a statement has failed since the last call.
    pub fn take_spoiled(&mut self) -> bool {
        std::mem::take(&mut self.spoiled)
    }

    fn send(&mut self, statement: BoxFuture<'static, Result<u64, WireError>>, check: Check) {
        let mut work = maybe_done(statement);
        // The first poll passes it to the carrier; a later poll gets the result.
        let _ = Pin::new(&mut work).poll(&mut Context::from_waker(Waker::noop()));
        self.sent.push(Sent { work, check });
    }

    fn send_ahead(&mut self) {
        if let Some(text) = self.ahead.take() {
            let client = Arc::clone(&self.client);
            self.send(Box::pin(async move { client.batch_execute(&text).await.map(|()| 0) }), Check::Nothing);
        }
    }

    /// Waits for what was sent before, then for the work; the first error is returned.
    async fn wait<W, T>(&mut self, work: W) -> Result<T>
    where
        W: Future<Output = Result<T, WireError>>,
    {
        self.state = State::Busy;
        let mut sent = std::mem::take(&mut self.sent);
        let mut work = std::pin::pin!(maybe_done(work));
        let all = std::future::poll_fn(|context| {
            let ready = all_ready(&mut sent, context).is_ready();
            if work.as_mut().poll(context).is_ready() && ready {
                return Poll::Ready(());
            }
            mark::statement_waits();
            Poll::Pending
        });
        match self.limit {
            None => all.await,
            Some(limit) => {
                // Tokio's timer yields now and then; that is not a wait of the closure.
                let mut all = std::pin::pin!(tokio::time::timeout(limit, all));
                let ended = std::future::poll_fn(|context| {
                    let polled = all.as_mut().poll(context);
                    if polled.is_pending() {
                        mark::statement_waits();
                    }
                    polled
                });
                if ended.await.is_err() {
                    self.state = State::Broken;
                    self.connector.silences.fetch_add(1, Ordering::SeqCst);
                    return Err(silent(limit));
                }
            }
        }
        self.state = State::Idle;
        for sent in &mut sent {
            match Pin::new(&mut sent.work).take_output() {
                Some(Err(error)) => return Err(self.failed(&error)),
                Some(Ok(rows)) => match &sent.check {
                    Check::Presumed if rows == 0 => {
                        self.spoiled = true;
                        return Err(Error::internal(
                            "a statement found no row, and its closure was told that it did",
                        ));
                    }
                    Check::Asked(asked) => asked.0.store(rows > 0, Ordering::SeqCst),
                    Check::Nothing | Check::Presumed => {}
                },
                None => {}
            }
        }
        match work.take_output() {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(self.failed(&error)),
            None => Err(Error::internal("a statement has no outcome")),
        }
    }

    fn failed(&mut self, error: &WireError) -> Error {
        self.spoiled = true;
        self.clash = is_clash(error);
        wire_error(error)
    }

    /// Waits for everything that was sent.
    pub async fn settle(&mut self) -> Result<()> {
        if self.sent.is_empty() {
            return Ok(());
        }
        self.wait(async { Ok(()) }).await
    }

    /// A control statement, with everything before it.
    pub async fn control(&mut self, text: &str) -> Result<()> {
        self.send_ahead();
        let client = Arc::clone(&self.client);
        self.wait(async move { client.batch_execute(text).await }).await
    }

    /// Sends control statements after everything else, without waiting; the outcome is of all of it. Other statements
    /// can follow before it is known.
    pub fn control_later(&mut self, texts: impl IntoIterator<Item = String>) -> Outcome {
        for text in texts {
            let client = Arc::clone(&self.client);
            self.send(Box::pin(async move { client.batch_execute(&text).await.map(|()| 0) }), Check::Nothing);
        }
        let mut sent = std::mem::take(&mut self.sent);
        let (connector, limit) = (self.connector.clone(), self.limit);
        Box::pin(async move {
            let all = std::future::poll_fn(|context| all_ready(&mut sent, context));
            if let Some(limit) = limit {
                if tokio::time::timeout(limit, all).await.is_err() {
                    connector.silences.fetch_add(1, Ordering::SeqCst);
                    return Err(Failed { error: silent(limit), clash: false, undone: false });
                }
            } else {
                all.await;
            }
            let last = sent.len();
            for (at, sent) in sent.iter_mut().enumerate() {
                if let Some(Err(error)) = Pin::new(&mut sent.work).take_output() {
                    // After an error that leaves the session alive, COMMIT rolls back.
                    let alive = error.as_db_error().is_some_and(|error| {
                        matches!(error.parsed_severity(), Some(tokio_postgres::error::Severity::Error))
                    });
                    let undone = alive && at + 1 < last;
                    return Err(Failed { error: wire_error(&error), clash: is_clash(&error), undone });
                }
            }
            Ok(())
        })
    }

    async fn prepared(&mut self, sql: &'static str, args: &[Arg]) -> Result<Statement> {
        check(sql, args)?;
        self.prepared_for(sql, || args.iter().map(Arg::postgres_type).collect()).await
    }

    async fn prepared_for(
        &mut self,
        sql: &'static str,
        types: impl FnOnce() -> Vec<Type>,
    ) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let types = types();
        self.send_ahead();
        let client = Arc::clone(&self.client);
        let statement = self.wait(async move { client.prepare_typed(sql, &types).await }).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>> {
        let statement = self.prepared(sql, &args).await?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        let work = async move {
            let rows = client.query_raw(&statement, args).await?;
            rows.map_ok(Row::Postgres).try_collect().await
        };
        self.wait(work).await
    }

    /// The same for a dynamically built statement, whose preparation is not cached.
    pub async fn select(&mut self, sql: String, args: Vec<Arg>) -> Result<Vec<Row>> {
        check(&sql, &args)?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        let typed: Vec<(Arg, Type)> = args
            .into_iter()
            .map(|arg| {
                let kind = arg.postgres_type();
                (arg, kind)
            })
            .collect();
        let work = async move {
            let rows = client.query_typed_raw(&sql, typed).await?;
            rows.map_ok(Row::Postgres).try_collect().await
        };
        self.wait(work).await
    }

    pub async fn exec(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<u64> {
        let statement = self.prepared(sql, &args).await?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        self.wait(async move { client.execute_raw(&statement, args).await }).await
    }

    /// Sends a statement without waiting for its result: the next awaited one reports its error.
    pub async fn exec_later(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<()> {
        self.queue(sql, args, Check::Nothing).await
    }

    /// Whether a statement changed or found a row. While presuming, the answer is yes without a wait, and the next
    /// awaited statement fails if that was wrong.
    pub async fn exec_one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<bool> {
        if !self.presuming {
            return Ok(self.exec(sql, args).await? > 0);
        }
        self.presumed = true;
        match conflicting(sql) {
            Some(insert) => self.queue(insert, args, Check::Nothing).await?,
            None => {
                self.unproven = true;
                self.queue(sql, args, Check::Presumed).await?;
            }
        }
        Ok(true)
    }

    /// Sends a query whose answer is needed only after the commit.
    pub async fn ask(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Asked> {
        let asked = Asked::default();
        self.unproven = true;
        self.queue(sql, args, Check::Asked(asked.clone())).await?;
        Ok(asked)
    }

    /// Sends a statement whose parameters are arrays, likewise.
    pub async fn append_later(&mut self, sql: &'static str, columns: Vec<Column>) -> Result<()> {
        let statement =
            self.prepared_for(sql, || columns.iter().map(Column::postgres_type).collect()).await?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        self.send(Box::pin(async move { client.execute_raw(&statement, columns).await }), Check::Nothing);
        Ok(())
    }

    async fn queue(&mut self, sql: &'static str, args: Vec<Arg>, check: Check) -> Result<()> {
        let statement = self.prepared(sql, &args).await?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        self.send(Box::pin(async move { client.execute_raw(&statement, args).await }), check);
        Ok(())
    }

    /// Streams rows. Each row has the time limit of a statement.
    pub fn rows(&mut self, sql: String, args: Vec<Arg>) -> futures_util::stream::BoxStream<'_, Result<Row>> {
        let begin = async move {
            check(&sql, &args)?;
            let client = Arc::clone(&self.client);
            let typed: Vec<(Arg, Type)> =
                args.into_iter().map(|arg| (arg.clone(), arg.postgres_type())).collect();
            let rows = self.wait(async move { client.query_typed_raw(&sql, typed).await }).await?;
            // It cannot be used for anything else until the end has been read.
            self.state = State::Busy;
            let rows =
                futures_util::stream::try_unfold((self, Box::pin(rows)), |(link, mut rows)| async move {
                    let next = match link.limit {
                        None => rows.next().await,
                        Some(limit) => match tokio::time::timeout(limit, rows.next()).await {
                            Ok(next) => next,
                            Err(_) => {
                                link.state = State::Broken;
                                link.connector.silences.fetch_add(1, Ordering::SeqCst);
                                return Err(silent(limit));
                            }
                        },
                    };
                    match next {
                        Some(Ok(row)) => Ok(Some((Row::Postgres(row), (link, rows)))),
                        Some(Err(error)) => {
                            link.state = State::Idle;
                            Err(link.failed(&error))
                        }
                        None => {
                            link.state = State::Idle;
                            Ok(None)
                        }
                    }
                });
            Ok(rows)
        };
        futures_util::stream::once(begin).try_flatten().boxed()
    }
}

/// Of two transactions that waited for each other or read what the other wrote, one can run again; one that waited too
/// long for a lock runs later.
fn is_clash(error: &WireError) -> bool {
    error.code().is_some_and(|code| ["40001", "40P01", "55P03"].contains(&code.code()))
}

/// The INSERT that fails where this one would do nothing.
fn conflicting(sql: &'static str) -> Option<&'static str> {
    let (insert, clause) = sql.rsplit_once(" ON CONFLICT ")?;
    (clause.starts_with('(') && clause.ends_with(") DO NOTHING")).then_some(insert)
}

fn silent(limit: Duration) -> Error {
    unavailable(format!("the database did not respond within {} s", limit.as_secs_f32().ceil()))
}

/// Translates the error of a statement for use cases.
pub fn wire_error(error: &WireError) -> Error {
    let Some(database) = error.as_db_error() else {
        // A wrong number of values is a bug of ours; everything else is a connection error: TLS, the protocol, a lost
        // connection, a wrong address.
        let text = error.to_string();
        if text.starts_with("expected ") || text.starts_with("error serializing") {
            return Error::internal(error);
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = format!("the metadata store does not respond: {text}{cause}");
        return Error::unavailable("store", message);
    };
    database_error(database.code().code(), database.message(), &error)
}

/// By PostgreSQL's error code.
pub fn database_error(code: &str, message: &str, cause: &dyn std::fmt::Display) -> Error {
    match code {
        "23503" => gone(),
        "23505" => already_there(),
        // A database that has become a standby or accepts no connections, and a lock that is not released.
        "25006" | "55000" | "55P03" => unavailable(message),
        // Classes: connection, authorization, transaction conflicts, resources, operator intervention, the system.
        _ if ["08", "28", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            unavailable(message)
        }
        _ => Error::internal(format!("{cause}: {message} ({code})")),
    }
}

impl Arg {
    fn postgres_type(&self) -> Type {
        match self {
            Arg::Int(_) => Type::INT8,
            Arg::Float(_) => Type::FLOAT8,
            Arg::Text(_) => Type::TEXT,
            Arg::Bytes(_) | Arg::Sealed(_) => Type::BYTEA,
        }
    }
}

type Failure = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Arg {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Arg::Int(value) => value.to_sql(kind, out),
            Arg::Float(value) => value.to_sql(kind, out),
            Arg::Text(value) => value.to_sql(kind, out),
            Arg::Bytes(value) => value.to_sql(kind, out),
            Arg::Sealed(value) => value.to_sql(kind, out),
        }
    }

    // We know the types: the statement was prepared with them.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(kind, out)
    }
}

/// A value whose length determines its type: PostgreSQL returns small types for constants.
macro_rules! by_length {
    ($name:ident($value:ty) { $($length:literal => $read:ty),* }) => {
        pub struct $name(pub $value);

        impl<'r> FromSql<'r> for $name {
            fn from_sql(_: &Type, raw: &'r [u8]) -> Result<$name, Failure> {
                match raw.len() {
                    $($length => Ok($name(<$value>::from(<$read>::from_be_bytes(raw.try_into()?)))),)*
                    _ => Err(format!("a number of {} bytes", raw.len()).into()),
                }
            }

            fn accepts(kind: &Type) -> bool {
                *kind != Type::NUMERIC
            }
        }
    };
}

by_length!(Int(i64) { 1 => i8, 2 => i16, 4 => i32, 8 => i64 });
by_length!(Float(f64) { 4 => f32, 8 => f64 });

pub struct Text<'r>(pub &'r str);

impl<'r> FromSql<'r> for Text<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Text<'r>, Failure> {
        Ok(Text(std::str::from_utf8(raw)?))
    }

    fn accepts(kind: &Type) -> bool {
        ![Type::INT8, Type::INT4, Type::FLOAT8, Type::BYTEA, Type::BOOL].contains(kind)
    }
}
