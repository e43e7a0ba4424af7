//! A session: connecting, setting it up, stopping it, and error messages for users.

use std::time::Duration;

use jiff::tz::TimeZone;
use landreeve_core::source::{ConnectSpec, SessionZone, SourceError, SourceErrorKind, TlsMode};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, SslOpts};

use crate::net::{Network, Tls};
use crate::{Bounds, errors, net};

const GOODBYE: Duration = Duration::from_secs(5);

/// Modes that change (among other things) how quotes and backslashes are read. The gate's lexer and the escaping of
/// values rely on their absence.
const UNWANTED_MODES: [&str; 8] =
    ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI", "ORACLE", "MSSQL", "DB2", "MAXDB", "POSTGRESQL"];

#[derive(Clone)]
pub(crate) struct Connector {
    pub tls: Tls,
    pub application_name: String,
    pub bounds: Bounds,
}

pub(crate) struct Session {
    pub conn: Conn,
    pub version: String,
    pub is_mariadb: bool,
    /// The time limit of a statement that the server has for this user.
    own_limit: Option<Duration>,
    pub zone: SessionZone,
    /// The zone in which TIMESTAMP values arrive.
    pub clock: TimeZone,
    setup: String,
}

impl Connector {
    pub async fn connect(&self, spec: &ConnectSpec) -> Result<Session, SourceError> {
        let network = Network::of(&spec.target)?;
        match tokio::time::timeout(spec.connect_timeout, self.connect_now(spec, &network)).await {
            Ok(done) => done,
            Err(_) => Err(network.silent(spec.connect_timeout)),
        }
    }

    fn options(&self, network: &Network, mode: Option<TlsMode>) -> OptsBuilder {
        let ssl = mode.map(|mode| {
            let verify = mode == TlsMode::Verify;
            let roots = self.tls.ca_pem.iter().map(|pem| pem.as_ref().clone().into()).collect();
            SslOpts::default()
                .with_root_certs(roots)
                .with_danger_accept_invalid_certs(!verify)
                .with_danger_skip_domain_validation(!verify)
        });
        let addresses: Vec<std::net::IpAddr> =
            network.addresses.iter().map(std::net::SocketAddr::ip).collect();
        OptsBuilder::default()
            .ip_or_hostname(network.host.clone())
            .tcp_port(network.addresses.first().map_or(network.port, std::net::SocketAddr::port))
            .resolved_ips(Some(addresses))
            .user(Some(network.username.clone()))
            .pass(Some(network.password.reveal().to_owned()))
            .db_name(Some(network.database.clone()).filter(|name| !name.is_empty()))
            .ssl_opts(ssl)
            // Otherwise the client uses a local server's socket file instead of the address that was checked.
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .stmt_cache_size(0)
            .max_allowed_packet(Some(self.bounds.max_row_bytes))
            .connect_attribute("program_name", self.application_name.clone())
    }

    async fn open(&self, spec: &ConnectSpec, network: &Network) -> Result<Conn, SourceError> {
        if network.addresses.is_empty() {
            return Err(errors::connect(format!("the host {} was not found", network.host)));
        }
        let first = Conn::new(self.options(network, Some(spec.tls))).await;
        let opened = match first {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if spec.tls == TlsMode::Prefer => {
                Conn::new(self.options(network, None)).await
            }
            other => other,
        };
        opened.map_err(|error| connect_error(&error, network))
    }

    async fn connect_now(&self, spec: &ConnectSpec, network: &Network) -> Result<Session, SourceError> {
        let mut conn = self.open(spec, network).await?;
        let known: Option<(String, String)> = conn
            .query_first("SELECT VERSION(), @@SESSION.sql_mode")
            .await
            .map_err(|error| query_error(&error))?;
        let (version, modes) = known.unwrap_or_default();
        let modes: Vec<&str> = modes.split(',').filter(|mode| !UNWANTED_MODES.contains(mode)).collect();
        let mut session = Session {
            conn,
            is_mariadb: version.contains("MariaDB"),
            version,
            own_limit: None,
            zone: SessionZone::AsAsked,
            clock: spec.time_zone.clone(),
            setup: format!("SET NAMES utf8mb4; SET SESSION sql_mode = '{}'", modes.join(",")),
        };
        session.run(&session.setup.clone()).await?;
        session.own_limit = session.limit_of_the_server().await?;
        session.set_zone(&spec.time_zone).await?;
        Ok(session)
    }

    /// Ends a session and its statement, over a separate connection. Killing the session too means that a kill cannot
    /// arrive too early, before the statement.
    pub async fn kill(&self, spec: &ConnectSpec, session: Session) {
        let id = session.conn.id();
        let kill = async {
            let network = Network::of(&spec.target)?;
            let mut other = self.open(spec, &network).await?;
            let killed = other.query_drop(format!("KILL {id}")).await.map_err(|error| query_error(&error));
            let _ = other.disconnect().await;
            killed
        };
        match tokio::time::timeout(spec.connect_timeout, kill).await {
            // 1094: it had already ended.
            Ok(Err(error)) if error.code.as_deref() != Some("1094") => {
                tracing::warn!(%error, "the cancel request did not reach the database");
            }
            _ => (),
        }
        session.close().await;
    }
}

impl Session {
    pub async fn run(&mut self, sql: &str) -> Result<(), SourceError> {
        self.conn.query_drop(sql).await.map_err(|error| query_error(&error))
    }

    /// In seconds with a fraction on MariaDB, in milliseconds on MySQL; 0 means none.
    async fn limit_of_the_server(&mut self) -> Result<Option<Duration>, SourceError> {
        let (sql, unit) = if self.is_mariadb {
            ("SELECT CAST(@@SESSION.max_statement_time AS DOUBLE)", 1.0)
        } else {
            ("SELECT CAST(@@SESSION.max_execution_time AS DOUBLE)", 1000.0)
        };
        let limit: Option<f64> = self.conn.query_first(sql).await.map_err(|error| query_error(&error))?;
        Ok(limit
            .filter(|limit| *limit > 0.0)
            .and_then(|limit| Duration::try_from_secs_f64(limit / unit).ok()))
    }

    async fn set_zone(&mut self, zone: &TimeZone) -> Result<(), SourceError> {
        // The session can use UTC without zone tables, but conversions need them whatever the session's zone is.
        let converts: Option<Option<String>> = self
            .conn
            .query_first("SELECT CAST(CONVERT_TZ('2024-01-01', 'UTC', 'Europe/Berlin') AS CHAR)")
            .await
            .map_err(|error| query_error(&error))?;
        if converts.flatten().is_none() {
            self.zone = SessionZone::UtcForLackOfZoneTables;
        }
        let name = match zone.iana_name() {
            Some("UTC") => "+00:00".to_owned(),
            Some(name) => name.replace(['\'', '\\'], ""),
            None => offset_name(zone),
        };
        let mut set = format!("SET SESSION time_zone = '{name}'");
        match self.conn.query_drop(&set).await {
            Ok(()) => (),
            Err(Error::Server(_)) => {
                self.zone = SessionZone::UtcForLackOfZoneTables;
                self.clock = TimeZone::UTC;
                set = "SET SESSION time_zone = '+00:00'".to_owned();
                self.run(&set).await?;
            }
            Err(error) => return Err(query_error(&error)),
        }
        self.setup.push_str("; ");
        self.setup.push_str(&set);
        Ok(())
    }

    /// Begins the transaction in which everything of the user's runs. The server stops a statement after `limit`, or
    /// after its own limit for this user if that is stricter.
    ///
    /// The isolation is set whatever the server's default is: under SERIALIZABLE, a plain SELECT in a transaction locks
    /// the rows that it reads. SET SESSION also works if the server starts transactions by itself (`autocommit = 0`).
    pub async fn begin(&mut self, limit: Duration) -> Result<(), SourceError> {
        let limit = self.own_limit.map_or(limit, |own| own.min(limit));
        let millis = limit.as_millis().min(31_536_000_000);
        let limit = if self.is_mariadb {
            format!("SET SESSION max_statement_time = {}", millis as f64 / 1000.0)
        } else {
            format!("SET SESSION max_execution_time = {}", millis.min(u128::from(u32::MAX)))
        };
        self.run(&format!(
            "{limit}; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION READ ONLY"
        ))
        .await
    }

    /// Rolls back and resets the session; `false` if it must be dropped.
    pub async fn reset(&mut self) -> bool {
        let setup = self.setup.clone();
        self.conn.query_drop("ROLLBACK").await.is_ok()
            && matches!(self.conn.reset().await, Ok(true))
            && self.conn.query_drop(setup).await.is_ok()
    }

    pub async fn close(self) {
        let _ = tokio::time::timeout(GOODBYE, self.conn.disconnect()).await;
    }
}

fn offset_name(zone: &TimeZone) -> String {
    let seconds = zone.to_fixed_offset().map_or(0, |offset| offset.seconds());
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

fn connect_error(error: &Error, network: &Network) -> SourceError {
    let place = network.place();
    if let Some(tls) = net::tls_failure(&place, error) {
        return tls;
    }
    let server = match error {
        Error::Server(server) => server,
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            return errors::connect(format!(
                "TLS is required, but {place} does not support it; enable it on the server or do not require it"
            ));
        }
        Error::Io(mysql_async::IoError::Io(io)) => return network.refused(io),
        other => return errors::connect(format!("could not connect to {place}: {}", errors::chain(other))),
    };
    let message = match server.code {
        1045 | 1698 => format!(
            "{place} rejected the password of {}; check the user name and the password",
            network.username
        ),
        1044 => format!(
            "the user {} is not allowed to use the database {} on {place}",
            network.username, network.database
        ),
        1049 => format!("the database {} does not exist on {place}", network.database),
        1040 | 1203 => format!("{place} has no free connections: {}", server.message),
        _ => format!("{place} refused the connection: {}", server.message),
    };
    SourceError { code: Some(server.code.to_string()), ..errors::connect(message) }
}

pub(crate) fn query_error(error: &Error) -> SourceError {
    let closed = |io: &std::io::Error| io.kind() == std::io::ErrorKind::UnexpectedEof;
    if let Error::Io(mysql_async::IoError::Io(io)) = error
        && closed(io)
    {
        return errors::lost(
            "the database closed the connection; it was stopped, or an administrator ended it",
        );
    }
    let Error::Server(server) = error else {
        return errors::lost(format!("lost the connection to the database: {}", errors::chain(error)));
    };
    // What we stop ourselves is reported before the server answers. So a statement that was interrupted (1317) or that
    // took too long (1969, 3024) was stopped by the server or its administrator.
    let kind = match server.code {
        1053 | 1927 | 2006 | 2013 => SourceErrorKind::Lost,
        _ => SourceErrorKind::Query,
    };
    SourceError {
        code: Some(server.code.to_string()),
        ..SourceError::new(kind, errors::words(&server.message))
    }
}
