//! How a datasource's settings and schema are stored as JSON. One fixture per version stays forever.

use std::collections::BTreeMap;

use landreeve_core::Secret;
use landreeve_core::schema::{Catalog, ColumnInfo, SchemaInfo, TableInfo, TableKind};
use serde::{Deserialize, Serialize};

use super::datasources::{ConnectionMode, DatasourceDetails, Login, Ssh};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredConfig {
    version: u32,
    mode: String,
    pub(super) host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    pub(super) database: Option<String>,
    ssh_host: Option<String>,
    ssh_port: Option<u16>,
    ssh_user: Option<String>,
    data_time_zone: Option<String>,
    require_tls: bool,
    verify_tls: bool,
    max_concurrent: u32,
    nightly_schema: bool,
    row_counts: bool,
    operator_file: bool,
    extras: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write_username: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
pub struct StoredSecrets {
    version: u32,
    password: Option<String>,
    service_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write_password: Option<String>,
}

impl StoredConfig {
    pub fn from_details(details: &DatasourceDetails) -> StoredConfig {
        StoredConfig {
            version: 1,
            mode: details.mode.as_str().to_owned(),
            host: details.host.clone(),
            port: details.port,
            username: details.username.clone(),
            database: details.database.clone(),
            ssh_host: details.ssh.host.clone(),
            ssh_port: details.ssh.port,
            ssh_user: details.ssh.user.clone(),
            data_time_zone: details.data_time_zone.clone(),
            require_tls: details.require_tls,
            verify_tls: details.verify_tls,
            max_concurrent: details.max_concurrent,
            nightly_schema: details.nightly_schema,
            row_counts: details.row_counts,
            operator_file: details.operator_file,
            extras: details.extras.clone(),
            write_username: details.writer.as_ref().map(|writer| writer.username.clone()),
        }
    }

    /// Fills in everything that does not have its own column.
    pub fn into_details(self, details: &mut DatasourceDetails) {
        details.mode = ConnectionMode::parse(&self.mode).unwrap_or(ConnectionMode::Direct);
        details.host = self.host;
        details.port = self.port;
        details.username = self.username;
        details.database = self.database;
        details.ssh = Ssh { host: self.ssh_host, port: self.ssh_port, user: self.ssh_user };
        details.data_time_zone = self.data_time_zone;
        details.require_tls = self.require_tls;
        details.verify_tls = self.verify_tls;
        details.max_concurrent = self.max_concurrent;
        details.nightly_schema = self.nightly_schema;
        details.row_counts = self.row_counts;
        details.operator_file = self.operator_file;
        details.extras = self.extras;
        // Its password is among the secrets.
        details.writer = self.write_username.map(|username| Login { username, password: Secret::new("") });
    }
}

impl StoredSecrets {
    pub fn from_details(details: &DatasourceDetails) -> StoredSecrets {
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        StoredSecrets {
            version: 1,
            password: text(&details.password),
            service_key: text(&details.service_key),
            write_password: details.writer.as_ref().map(|writer| writer.password.reveal().to_owned()),
        }
    }

    pub fn into_details(self, details: &mut DatasourceDetails) {
        details.password = self.password.map(Secret::new);
        details.service_key = self.service_key.map(Secret::new);
        if let (Some(writer), Some(password)) = (&mut details.writer, self.write_password) {
            writer.password = Secret::new(password);
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCatalog {
    version: u32,
    server_version: String,
    default_schema: Option<String>,
    schemas: Vec<StoredSchema>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredSchema {
    name: String,
    tables: Vec<StoredTable>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredTable {
    name: String,
    view: bool,
    rows: Option<u64>,
    exact: bool,
    /// (name, type, nullable), in order.
    columns: Vec<(String, String, bool)>,
}

impl From<&Catalog> for StoredCatalog {
    fn from(catalog: &Catalog) -> StoredCatalog {
        let column = |column: &ColumnInfo| (column.name.clone(), column.data_type.clone(), column.nullable);
        let table = |table: &TableInfo| StoredTable {
            name: table.name.clone(),
            view: table.kind == TableKind::View,
            rows: table.row_count,
            exact: table.row_count_exact,
            columns: table.columns.iter().map(column).collect(),
        };
        StoredCatalog {
            version: 1,
            server_version: catalog.server_version.clone(),
            default_schema: catalog.default_schema.clone(),
            schemas: catalog
                .schemas
                .iter()
                .map(|schema| StoredSchema {
                    name: schema.name.clone(),
                    tables: schema.tables.iter().map(table).collect(),
                })
                .collect(),
        }
    }
}

impl From<StoredCatalog> for Catalog {
    fn from(stored: StoredCatalog) -> Catalog {
        let column = |(index, (name, data_type, nullable)): (usize, (String, String, bool))| ColumnInfo {
            name,
            data_type,
            nullable,
            position: u32::try_from(index + 1).unwrap_or(u32::MAX),
        };
        let table = |table: StoredTable| TableInfo {
            name: table.name,
            kind: if table.view { TableKind::View } else { TableKind::Table },
            row_count: table.rows,
            row_count_exact: table.exact,
            columns: table.columns.into_iter().enumerate().map(column).collect(),
        };
        Catalog {
            server_version: stored.server_version,
            default_schema: stored.default_schema,
            schemas: stored
                .schemas
                .into_iter()
                .map(|schema| SchemaInfo {
                    name: schema.name,
                    tables: schema.tables.into_iter().map(table).collect(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1 as first written. Never change it; add a line for a new version.
    const CONFIG_V1: &str = r#"{"version":1,"mode":"direct","host":"db","port":5432,"username":"u","database":"d","ssh_host":null,"ssh_port":null,"ssh_user":null,"data_time_zone":"Europe/Berlin","require_tls":true,"verify_tls":false,"max_concurrent":20,"nightly_schema":true,"row_counts":true,"operator_file":false,"extras":{"athena_region":"eu"}}"#;
    const CATALOG_V1: &str = r#"{"version":1,"server_version":"15.1","default_schema":"public","schemas":[{"name":"public","tables":[{"name":"t","view":false,"rows":3,"exact":true,"columns":[["id","bigint",false]]}]}]}"#;

    #[test]
    fn stored_settings_can_still_be_read() {
        let stored: StoredConfig = serde_json::from_str(CONFIG_V1).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), CONFIG_V1);
        let mut details = DatasourceDetails::default();
        stored.into_details(&mut details);
        assert_eq!((details.port, details.max_concurrent), (Some(5432), 20));
    }

    #[test]
    fn stored_schemas_can_still_be_read() {
        let stored: StoredCatalog = serde_json::from_str(CATALOG_V1).unwrap();
        let catalog = Catalog::from(stored);
        assert_eq!(catalog.schemas[0].tables[0].columns[0].position, 1);
        assert_eq!(serde_json::to_string(&StoredCatalog::from(&catalog)).unwrap(), CATALOG_V1);
    }
}
