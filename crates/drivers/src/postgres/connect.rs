//! A session: connecting, setting it up, cancelling it, and error messages for users.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::{ConnectSpec, SessionZone, SourceError, SourceErrorKind, TlsMode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::guard::{Guarded, GuardedTls, Traffic};
use crate::aside::Aside;
use crate::net::{Network, Tls};
use crate::{Bounds, Owner, errors, net};

/// How often PostgreSQL checks while a statement runs whether we are still there, unless it does more often.
const CHECK_MILLIS: u64 = 10_000;
/// How long a discarded connection may take to close.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Connector {
    pub tls: Tls,
    pub application_name: String,
    pub bounds: Bounds,
    pub owner: Owner,
}

pub(crate) struct Session {
    pub client: Client,
    pub version: String,
    pub zone: SessionZone,
    pub dialect: SqlDialect,
    /// The time limit of a statement that the server has for this user.
    own_limit: Option<Duration>,
    /// What it receives, and whether it was given up because of a row that is too large.
    pub traffic: Arc<Traffic>,
    /// Sets up a session again after `DISCARD ALL`.
    setup: String,
    canceller: Canceller,
    connection: JoinHandle<()>,
}

#[derive(Clone)]
struct Canceller {
    token: CancelToken,
    network: Network,
    mode: TlsMode,
    tls: Tls,
    timeout: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket immediately. Call `discard` to close it properly.
        self.connection.abort();
    }
}

impl Connector {
    pub async fn connect(&self, spec: &ConnectSpec) -> Result<Session, SourceError> {
        let network = Network::of(&spec.target)?;
        let place = network.place();
        match tokio::time::timeout(spec.connect_timeout, self.connect_now(spec, network)).await {
            Ok(done) => done,
            Err(_) => Err(errors::connect(format!(
                "{place} accepted the connection but did not respond as PostgreSQL within {}; check the port",
                errors::seconds(spec.connect_timeout)
            ))),
        }
    }

    async fn connect_now(&self, spec: &ConnectSpec, network: Network) -> Result<Session, SourceError> {
        let mut config = Config::new();
        config.user(&network.username).dbname(&network.database).application_name(&self.application_name);
        if !network.password.is_empty() {
            config.password(network.password.reveal());
        }
        config.ssl_mode(if spec.tls == TlsMode::Prefer { SslMode::Prefer } else { SslMode::Require });
        let traffic = Arc::new(Traffic::default());
        let stream = Guarded::raw(network.connect(spec.connect_timeout).await?, self.bounds, traffic.clone());
        let inner = make_tls::<Guarded<TcpStream>>(&self.tls, spec.tls, &network.host)?;
        let tls = GuardedTls { inner, bounds: self.bounds, traffic: traffic.clone() };
        let (client, connection) =
            config.connect_raw(stream, tls).await.map_err(|error| connect_error(&error, &network))?;
        let version = connection.parameter("server_version").unwrap_or("unknown").to_owned();
        let closing = self.owner.closing.clone();
        let arrives = Arc::clone(&traffic);
        let connection = Aside { future: connection, bytes: move || arrives.arriving() };
        let connection = self.owner.tasks.spawn(async move {
            // The client sees its errors as "closed"; shutdown must not wait for a server that does not respond.
            tokio::select! {
                _ = connection => (),
                () = async { closing.cancelled().await; tokio::time::sleep(GOODBYE).await } => (),
            }
        });
        let canceller = Canceller {
            token: client.cancel_token(),
            network,
            mode: spec.tls,
            tls: self.tls.clone(),
            timeout: spec.connect_timeout,
        };
        let dialect = spec.database_type.dialect().unwrap_or(SqlDialect::Postgres);
        let mut session = Session {
            client,
            version,
            zone: SessionZone::AsAsked,
            dialect,
            own_limit: None,
            traffic,
            setup: String::new(),
            canceller,
            connection,
        };
        session.set_up(&spec.time_zone).await?;
        Ok(session)
    }
}

pub(super) type RustlsConnect<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect;

pub(super) fn make_tls<S>(tls: &Tls, mode: TlsMode, host: &str) -> Result<RustlsConnect<S>, SourceError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut maker = MakeRustlsConnect::new(tls.config(mode).as_ref().clone());
    MakeTlsConnect::<S>::make_tls_connect(&mut maker, host)
        .map_err(|error| errors::connect(error.to_string()))
}

impl Session {
    /// The scanner's rules rely on `standard_conforming_strings`. Redshift's strings have escapes, as its rules say.
    async fn set_up(&mut self, zone: &TimeZone) -> Result<(), SourceError> {
        const COMMON: [&str; 4] = [
            "SET standard_conforming_strings = on",
            "SET DateStyle = 'ISO, YMD'",
            "SET IntervalStyle = 'postgres'",
            "SET extra_float_digits = 3",
        ];
        if self.dialect == SqlDialect::Postgres {
            self.setup = COMMON.join("; ");
            self.client.batch_execute(&self.setup).await.map_err(|error| query_error(&error, 0))?;
        } else {
            // Each of these systems lacks some of these settings, and does not need those it lacks.
            let skipped = usize::from(self.dialect == SqlDialect::Redshift);
            for statement in COMMON.iter().skip(skipped) {
                let _ = self.client.batch_execute(statement).await;
            }
        }
        self.be_a_guest().await?;
        let asked = format!("SET TIME ZONE {}", zone_literal(zone));
        let zone_statement = match self.client.batch_execute(&asked).await {
            Ok(()) => asked,
            Err(error) if error.is_closed() => return Err(query_error(&error, 0)),
            Err(_) => {
                self.zone = SessionZone::UtcForLackOfZoneTables;
                let utc = "SET TIME ZONE 'UTC'".to_owned();
                let _ = self.client.batch_execute(&utc).await;
                utc
            }
        };
        self.setup.push_str("; ");
        self.setup.push_str(&zone_statement);
        Ok(())
    }

    /// Reads the server's own limit, and lets it notice soon that this process was killed.
    async fn be_a_guest(&mut self) -> Result<(), SourceError> {
        // Not on Redshift and CrateDB, which have other settings.
        if self.dialect != SqlDialect::Postgres {
            return Ok(());
        }
        let rows = self
            .client
            .simple_query(
                "SELECT name, setting FROM pg_settings \
                 WHERE name IN ('statement_timeout', 'client_connection_check_interval')",
            )
            .await
            .map_err(|error| query_error(&error, 0))?;
        let settings = rows.iter().filter_map(|row| match row {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.parse::<u64>().ok()?)),
            _ => None,
        });
        for (name, millis) in settings.collect::<Vec<_>>() {
            if name == "statement_timeout" {
                self.own_limit = (millis > 0).then(|| Duration::from_millis(millis));
            } else if millis == 0 || millis > CHECK_MILLIS {
                // PostgreSQL 14 and later. Not every system supports it.
                let set = format!("SET client_connection_check_interval = {CHECK_MILLIS}");
                if self.client.batch_execute(&set).await.is_ok() {
                    self.setup.push_str("; ");
                    self.setup.push_str(&set);
                }
            }
        }
        Ok(())
    }

    /// Begins the transaction in which everything of the user's runs. The server stops a statement after `limit`, or
    /// after its own limit for this user if that is stricter.
    ///
    /// The isolation is set whatever the server's default is: at SERIALIZABLE, our reads could make a writer fail.
    /// Redshift accepts the level and ignores it; CrateDB has no transactions.
    pub async fn begin(&self, limit: Duration) -> Result<(), SourceError> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
        let limit = self.own_limit.map_or(limit, |own| own.min(limit));
        let limit = limit.as_millis().min(i32::MAX as u128);
        let begin = match self.dialect {
            SqlDialect::CrateDb => "BEGIN".to_owned(),
            SqlDialect::Redshift => format!("{BEGIN}; SET statement_timeout = {limit}"),
            _ => format!("{BEGIN}; SET LOCAL statement_timeout = {limit}"),
        };
        self.client.batch_execute(&begin).await.map_err(|error| query_error(&error, 0))
    }

    /// Rolls back and resets the session; `false` if it must be dropped.
    pub async fn reset(&self) -> bool {
        if self.dialect != SqlDialect::Postgres {
            return false;
        }
        // Sent together and answered in order: one round trip.
        let (rolled_back, discarded, set_up) = tokio::join!(
            self.client.batch_execute("ROLLBACK"),
            self.client.batch_execute("DISCARD ALL"),
            self.client.batch_execute(&self.setup),
        );
        rolled_back.is_ok() && discarded.is_ok() && set_up.is_ok()
    }

    /// Cancels what this session is running, over a separate connection.
    pub async fn cancel(&self) {
        let Canceller { token, network, mode, tls, timeout } = self.canceller.clone();
        let ask = async {
            let stream = network.connect(timeout).await?;
            let tls = make_tls::<TcpStream>(&tls, mode, &network.host)?;
            token.cancel_query_raw(stream, tls).await.map_err(|error| query_error(&error, 0))
        };
        if let Ok(Err(error)) = tokio::time::timeout(timeout, ask).await {
            tracing::warn!(%error, "the cancel request did not reach the database");
        }
    }

    /// Closes the session properly, so that the server sees its end and the cancel takes effect before that.
    pub async fn discard(self) {
        // The server answers a ROLLBACK after the cancelled statement only when it has really stopped.
        let _ = tokio::time::timeout(GOODBYE, self.client.batch_execute("ROLLBACK")).await;
    }
}

/// A named zone as a string literal; a fixed offset as the interval that PostgreSQL expects.
fn zone_literal(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => format!("'{}'", name.replace('\'', "''")),
        None => {
            let seconds = zone.to_fixed_offset().map_or(0, |offset| offset.seconds());
            let sign = if seconds < 0 { '-' } else { '+' };
            let seconds = seconds.unsigned_abs();
            format!("INTERVAL '{sign}{:02}:{:02}' HOUR TO MINUTE", seconds / 3600, seconds / 60 % 60)
        }
    }
}

fn connect_error(error: &tokio_postgres::Error, network: &Network) -> SourceError {
    let place = network.place();
    if let Some(tls) = net::tls_failure(&place, error) {
        return tls;
    }
    let Some(db) = error.as_db_error() else {
        let text = errors::chain(error);
        if text.contains("server does not support TLS") {
            return errors::connect(format!(
                "TLS is required, but {place} does not support it; enable it on the server (ssl = on) or do not require it"
            ));
        }
        if text.contains("password missing") {
            return errors::connect(format!(
                "{place} requires a password for {}, but none is set",
                network.username
            ));
        }
        return errors::connect(format!("could not connect to {place}: {text}"));
    };
    let message = match *db.code() {
        SqlState::INVALID_PASSWORD => {
            format!(
                "{place} rejected the password of {}; check the user name and the password",
                network.username
            )
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            format!("{place} rejected {}: {}", network.username, db.message())
        }
        SqlState::INVALID_CATALOG_NAME => {
            format!("the database {} does not exist on {place}", network.database)
        }
        SqlState::TOO_MANY_CONNECTIONS => format!("{place} has no free connections: {}", db.message()),
        _ => format!("{place} refused the connection: {}", db.message()),
    };
    SourceError { code: Some(db.code().code().to_owned()), ..errors::connect(message) }
}

/// The SQL that was sent had `shift` characters before the user's own.
pub(crate) fn query_error(error: &tokio_postgres::Error, shift: u32) -> SourceError {
    let Some(db) = error.as_db_error() else {
        return errors::lost(format!("lost the connection to the database: {}", errors::chain(error)));
    };
    let kind = match *db.code() {
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            SourceErrorKind::Lost
        }
        // What we stop ourselves is reported before the server answers. So a cancelled statement was stopped by the
        // server's own limit or by its administrator.
        _ => SourceErrorKind::Query,
    };
    let mut message = errors::words(db.message());
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        message.push('\n');
        message.push_str(&errors::words(more));
    }
    let position = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            at.checked_sub(shift).filter(|at| *at > 0)
        }
        _ => None,
    };
    SourceError { kind, message, code: Some(db.code().code().to_owned()), position }
}
