//! One connection to PostgreSQL. Statements are prepared once, sent together if no result is needed in between, and
//! have a time limit; after a timeout the connection is not used again.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

use super::conn::{Arg, Row, already_there, check, gone, unavailable};
use super::mark;

/// PostgreSQL's error. Its text never contains a value.
pub type WireError = tokio_postgres::Error;

/// How long a server may take to start a session.
const CONNECT: Duration = Duration::from_secs(4);
/// How much longer than the server we wait for statements that the server itself cancels.
const GRACE: Duration = Duration::from_secs(1);
/// Compiling our statements takes longer than it saves. Transactions left open by a dead node must not hold locks for
/// hours.
const SET_UP: &str = "SET jit = off; SET idle_in_transaction_session_timeout = 60000";

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

type Sent = MaybeDone<BoxFuture<'static, Result<u64, WireError>>>;

pub struct Link {
    client: Arc<Client>,
    carrier: Option<JoinHandle<()>>,
    statements: HashMap<&'static str, Statement>,
    /// Sent before the next statement, in the same packet.
    ahead: Option<String>,
    /// Sent statements whose results have not been awaited yet.
    sent: Vec<Sent>,
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

    fn send(&mut self, statement: BoxFuture<'static, Result<u64, WireError>>) {
        let mut sent = maybe_done(statement);
        // The first poll passes it to the carrier; a later poll gets the result.
        let _ = Pin::new(&mut sent).poll(&mut Context::from_waker(Waker::noop()));
        self.sent.push(sent);
    }

    fn send_ahead(&mut self) {
        if let Some(text) = self.ahead.take() {
            let client = Arc::clone(&self.client);
            self.send(Box::pin(async move { client.batch_execute(&text).await.map(|()| 0) }));
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
            let mut ready = true;
            for sent in &mut sent {
                ready &= Pin::new(sent).poll(context).is_ready();
            }
            ready &= work.as_mut().poll(context).is_ready();
            if ready {
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
            if let Some(Err(error)) = Pin::new(sent).take_output() {
                return Err(self.failed(&error));
            }
        }
        match work.take_output() {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(self.failed(&error)),
            None => Err(Error::internal("a statement has no outcome")),
        }
    }

    fn failed(&mut self, error: &WireError) -> Error {
        // Of two transactions that waited for each other or read what the other wrote, one can run again; one that
        // waited too long for a lock runs later.
        self.spoiled = true;
        self.clash = error.code().is_some_and(|code| ["40001", "40P01", "55P03"].contains(&code.code()));
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

    async fn prepared(&mut self, sql: &'static str, args: &[Arg]) -> Result<Statement> {
        check(sql, args)?;
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let types: Vec<Type> = args.iter().map(Arg::postgres_type).collect();
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
        let statement = self.prepared(sql, &args).await?;
        self.send_ahead();
        let client = Arc::clone(&self.client);
        self.send(Box::pin(async move { client.execute_raw(&statement, args).await }));
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
