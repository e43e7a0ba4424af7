//! Finds out where the rows of a script's JDBC sources are: a datasource of the inventory, or one that it declares.

use landreeve_core::datasource::DatabaseType;
use landreeve_core::error::codes;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, ErrorKind, Noun, OpCtx, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops;

use crate::catalog::execute::{Input, connected};
use crate::catalog::{Catalog, Connection, Key, Kind};
use crate::jdbc::{self, Address};
use crate::plane::Promotion;
use crate::stored::StoredDatasource;
use crate::versions::Declared;
use crate::vql::ast::{Access, Definition, SourceKind, Statement};

/// What a declared datasource's password is sealed for.
pub(crate) const CONTEXT: &str = "virtual_datasource";

/// Looks up every JDBC source of a script, and returns the datasources that it declares and that are new. What is wrong
/// with one is a fault of its statement.
pub async fn resolve(
    plane: &Promotion,
    ctx: &OpCtx,
    base: &Catalog,
    inputs: &mut [Input],
) -> Result<Vec<Declared>> {
    let databases = connected(inputs);
    let mut declared = Vec::new();
    for (input, database) in inputs.iter_mut().zip(databases) {
        let Ok(Statement::Create { name, definition: Definition::Source(source), .. }) = &input.statement
        else {
            continue;
        };
        let Access::Jdbc { uri, user, password } = &source.access else { continue };
        let database = name.database.clone().or(database).unwrap_or_default();
        let key = Key::new(database, Kind::Source(SourceKind::Jdbc), &name.name);
        let asked = Asked { uri, user: user.as_deref(), password: password.as_ref() };
        let before = base.get(&key).and_then(|object| object.connection);
        let found = asked.look_up(plane, ctx, before, &mut declared).await;
        input.connection = Some(match found {
            Ok(connection) => Ok(connection),
            Err(error) if matches!(error.kind, ErrorKind::Internal | ErrorKind::Unavailable) => {
                return Err(error);
            }
            Err(error) => Err(explained(&error)),
        });
    }
    Ok(declared)
}

/// The message of a use case's error, with its faults.
fn explained(error: &landreeve_core::Error) -> String {
    match error.faults.as_slice() {
        [] => error.message.clone(),
        faults => faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; "),
    }
}

struct Asked<'a> {
    uri: &'a str,
    user: Option<&'a str>,
    password: Option<&'a Secret>,
}

fn wrong(message: impl Into<String>) -> landreeve_core::Error {
    landreeve_core::Error::fault("DATABASEURI", "invalid", message)
}

impl Asked<'_> {
    async fn look_up(
        &self,
        plane: &Promotion,
        ctx: &OpCtx,
        before: Option<Connection>,
        declared: &mut Vec<Declared>,
    ) -> Result<Connection> {
        match jdbc::parse(self.uri).map_err(wrong)? {
            Address::Inventory(name) => self.of_inventory(plane, ctx, &name).await.map(Connection::Inventory),
            address => {
                plane.estate().require_here(ctx, Noun::DATASOURCE, Action::MANAGE).await?;
                let config = self.config(plane, ctx, address).await?;
                self.declared(plane, before, config, declared).await
            }
        }
    }

    async fn of_inventory(&self, plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<DatasourceId> {
        if self.user.is_some() || self.password.is_some() {
            return Err(wrong(
                "a datasource of the inventory has its own credentials; leave USERNAME and USERPASSWORD out",
            ));
        }
        let id = plane.estate().hash_ids().decode_grouped::<DatasourceId>(name);
        let found = ops::datasources::named(plane.estate(), ctx, name, id).await?;
        let id = match found.as_slice() {
            [one] => *one,
            [] => {
                return Err(wrong(format!("there is no datasource {name:?} in this unit that you can use")));
            }
            many => {
                let ids = many.iter().map(|id| plane.estate().hash_ids().encode_grouped(*id));
                let ids: Vec<String> = ids.collect();
                return Err(wrong(format!(
                    "{} datasources are named {name:?}; use jdbc:landreeve: with one of the ids {}",
                    ids.len(),
                    ids.join(", ")
                )));
            }
        };
        let datasource = ops::datasources::datasource_for_use(plane.estate(), ctx, id).await?;
        if matches!(datasource.details.database_type, DatabaseType::Catalog(_)) {
            return Err(wrong(format!(
                "{name:?} is itself answered by this server's engine, so a view cannot read it"
            )));
        }
        Ok(id)
    }

    /// What is stored about a declared datasource.
    async fn config(&self, plane: &Promotion, ctx: &OpCtx, address: Address) -> Result<StoredDatasource> {
        let outbound = plane.estate().outbound();
        let username = self.user.map(str::to_owned);
        match address {
            Address::File(path) => {
                let operator_file = ctx.authority().is_operator();
                outbound.sqlite_file(&path, operator_file)?;
                Ok(StoredDatasource {
                    version: 1,
                    database_type: DatabaseType::Sqlite.as_str().to_owned(),
                    host: None,
                    port: None,
                    database: path,
                    username: None,
                    require_tls: false,
                    verify_tls: false,
                    operator_file,
                })
            }
            Address::Network(network) => {
                let port = network.port.or(network.database_type.default_port()).unwrap_or_default();
                // The host may be unreachable now, but never one that must not be reached.
                match outbound.resolve(&network.host, port).await {
                    Err(error) if error.faults.iter().any(|fault| fault.code == codes::DENIED) => {
                        return Err(error);
                    }
                    _ => {}
                }
                Ok(StoredDatasource {
                    version: 1,
                    database_type: network.database_type.as_str().to_owned(),
                    host: Some(network.host),
                    port: network.port,
                    database: network.database,
                    username,
                    require_tls: network.require_tls,
                    verify_tls: network.verify_tls,
                    operator_file: false,
                })
            }
            Address::Inventory(_) => Err(wrong("a datasource of the inventory is not declared")),
        }
    }

    /// The datasource that was declared before if nothing differs, so that its connections stay; otherwise a new one.
    async fn declared(
        &self,
        plane: &Promotion,
        before: Option<Connection>,
        config: StoredDatasource,
        declared: &mut Vec<Declared>,
    ) -> Result<Connection> {
        let estate = plane.estate();
        if let Some(Connection::Declared(id)) = before
            && let Some(known) = load(plane, id).await?
            && known.config == config
            && known.password.as_ref().map(Secret::reveal) == self.password.map(Secret::reveal)
        {
            return Ok(Connection::Declared(id));
        }
        let id = estate.next::<DatasourceId>(DatasourceId::KIND).await?;
        let sealed = match self.password {
            Some(password) => Some(estate.seal(&format!("{CONTEXT}:{id}"), password.reveal().as_bytes())?),
            None => None,
        };
        declared.push(Declared { id, config, sealed });
        Ok(Connection::Declared(id))
    }
}

/// A declared datasource, with its password.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub config: StoredDatasource,
    pub password: Option<Secret>,
}

pub(crate) async fn load(plane: &Promotion, id: DatasourceId) -> Result<Option<Known>> {
    let sql = "SELECT config, password_sealed FROM virtual_datasources WHERE id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![id]).await?;
    let Some(row) = row else { return Ok(None) };
    let password = match row.bytes_opt(1)? {
        Some(sealed) => {
            let plain = plane.estate().unseal(&format!("{CONTEXT}:{id}"), &sealed)?;
            let text = std::str::from_utf8(&plain).map_err(landreeve_core::Error::internal)?;
            Some(Secret::new(text))
        }
        None => None,
    };
    Ok(Some(Known { config: row.json(0)?, password }))
}
