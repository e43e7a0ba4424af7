//! How a datasource is reached: the checked connection that a driver takes, and what its errors mean for a run. Does
//! not belong here: connecting, or runs of any kind.

use std::time::Duration;

use landreeve_core::datasource::{DatabaseType, Grade};
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::source::{ConnectSpec, Permit, SourceError, SourceErrorKind, Target, TlsMode};
use landreeve_core::table::Reader;
use landreeve_core::{Error, ErrorKind, Result, Secret};

use super::datasources::{ConnectionMode, Datasource, DatasourceDetails};
use crate::outbound::Outbound;
use crate::runs::Failure;

const CONNECT: Duration = Duration::from_secs(10);

/// What a connection goes to: a datasource of the inventory, or one that a plane keeps.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    pub datasource: DatasourceId,
    pub version: i64,
    pub unit: Option<OuId>,
    /// Whether it is a file of this server.
    pub builtin: bool,
    pub details: &'a DatasourceDetails,
}

impl Datasource {
    pub fn endpoint(&self) -> Endpoint<'_> {
        Endpoint {
            datasource: self.id,
            version: self.version,
            unit: Some(self.ou),
            builtin: self.builtin.is_some(),
            details: &self.details,
        }
    }
}

/// What a driver needs to connect; every address and path in it has been checked. It has no permit yet: `permits` gives
/// one. `reach` is what the caller sees through a built-in source of this server's tables: subtrees of units.
pub async fn connect_spec(
    outbound: &Outbound,
    endpoint: Endpoint<'_>,
    reach: &[String],
) -> Result<ConnectSpec> {
    let details = endpoint.details;
    if details.database_type.grade() == Grade::NoDriver {
        let message = format!("there is no driver for {} yet", details.database_type.as_str());
        return Err(Error::conflict("no_driver", message));
    }
    if details.mode != ConnectionMode::Direct {
        let message =
            format!("the connection mode {} is not supported yet; use direct", details.mode.as_str());
        return Err(Error::conflict("no_such_connection_mode", message));
    }
    let target = if let DatabaseType::Catalog(catalog) = details.database_type {
        Target::Tables {
            catalog: catalog.as_str().to_owned(),
            reader: Reader {
                subtrees: reach.to_vec(),
                unit: endpoint.unit,
                host: details.host.clone(),
                database: details.database.clone(),
            },
        }
    } else if details.database_type == DatabaseType::Sqlite {
        let name = details.database.as_deref().unwrap_or_default();
        Target::File(match endpoint.builtin {
            true => outbound.own_file(name),
            false => outbound.sqlite_file(name, details.operator_file)?,
        })
    } else {
        let host = details.host.clone().unwrap_or_default();
        let port = details.port.or(details.database_type.default_port()).unwrap_or_default();
        Target::Network {
            addresses: outbound.resolve(&host, port).await?,
            host,
            port,
            username: details.username.clone().unwrap_or_default(),
            password: details.password.clone().unwrap_or_else(|| Secret::new("")),
            database: details.database.clone().unwrap_or_default(),
        }
    };
    let zone = details.data_time_zone.as_deref().unwrap_or("UTC");
    Ok(ConnectSpec {
        datasource: endpoint.datasource,
        version: endpoint.version,
        database_type: details.database_type,
        target,
        tls: match (details.require_tls, details.verify_tls) {
            (_, true) => TlsMode::Verify,
            (true, false) => TlsMode::Require,
            (false, false) => TlsMode::Prefer,
        },
        time_zone: jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC),
        max_connections: usize::try_from(details.max_concurrent).unwrap_or(1),
        permit: Permit::default(),
        connect_timeout: CONNECT,
    })
}

/// The same for a session that writes: as the user that the datasource has for this, if it has one.
pub async fn write_spec(outbound: &Outbound, endpoint: Endpoint<'_>) -> Result<ConnectSpec> {
    let mut spec = connect_spec(outbound, endpoint, &[]).await?;
    if let (Target::Network { username, password, .. }, Some(writer)) =
        (&mut spec.target, &endpoint.details.writer)
    {
        username.clone_from(&writer.username);
        *password = writer.password.clone();
    }
    Ok(spec)
}

/// A run's failure for a database error.
pub fn source_failure(error: &SourceError, limit: Option<Duration>) -> Failure {
    let kind = match error.kind {
        SourceErrorKind::Cancelled => return Failure::cancelled(),
        SourceErrorKind::TimedOut => return Failure::timed_out(limit.unwrap_or_default()),
        SourceErrorKind::Connect | SourceErrorKind::Lost => ErrorKind::Unavailable,
        SourceErrorKind::Query | SourceErrorKind::NotReadOnly | SourceErrorKind::Unsupported => {
            ErrorKind::Invalid
        }
    };
    let word = match error.kind {
        SourceErrorKind::Connect => "connect",
        SourceErrorKind::Lost => "connection_lost",
        SourceErrorKind::NotReadOnly => "not_read_only",
        SourceErrorKind::Unsupported => "unsupported",
        _ => "sql_error",
    };
    let mut failure = Failure::new(kind, word, error.message.clone());
    failure.error.source_code = error.code.clone();
    failure.error.position = error.position;
    failure
}
