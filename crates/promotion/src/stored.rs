//! What is stored as JSON, with its version and a fixture for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use landreeve_core::ids::DatasourceId;
use landreeve_core::schema::{LogicalType, describe, logical_type, native_type};
use landreeve_core::{Error, Result, Secret};
use serde::{Deserialize, Serialize};

use crate::catalog::describe::statement;
use crate::catalog::{Body, Connection, Key, Kind, Object};
use crate::configuration::{
    Argument, Configuration, DeploymentType, RollbackScope, Script, Scripts, Strategy,
};
use crate::revisions::Flags;
use crate::vql::ast::{Access, Definition, KeptKind, SourceKind, Statement};
use crate::vql::print::Style;
use crate::vql::script::stored_pieces;

/// An object of a version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredObject {
    pub version: u32,
    pub key: StoredKey,
    /// The statement that creates it, without a password.
    pub vql: String,
    /// For a database: the clauses of its ALTER statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<StoredClause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<StoredColumn>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StoredKey>,
    #[serde(default)]
    pub relations: u32,
    #[serde(default)]
    pub depth: u32,
    /// Of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datasource: Option<i64>,
    /// Of `virtual_datasources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<i64>,
    #[serde(default)]
    pub password: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    pub database: String,
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredClause {
    pub word: String,
    pub text: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredColumn {
    pub name: String,
    /// `int32`, `decimal(10,2)`, `timestamp`, …
    pub arrow: String,
    pub logical: String,
    pub native: String,
}

const VERSION: u32 = 1;
/// How the clause of a password begins.
const PASSWORD: &str = "    USERPASSWORD = '${databases.";

impl StoredObject {
    pub fn of(key: &Key, object: &Object) -> Result<StoredObject> {
        let columns = match &object.columns {
            Some(schema) => {
                Some(schema.fields().iter().map(|field| StoredColumn::of(field)).collect::<Result<_>>()?)
            }
            None => None,
        };
        let (mut clauses, mut password) = (Vec::new(), false);
        match object.definition() {
            Some(Definition::Database(database)) => {
                let stored = |clause: &crate::vql::ast::Clause| StoredClause {
                    word: clause.word.clone(),
                    text: clause.text.clone(),
                };
                clauses.extend(database.clauses.iter().map(stored));
            }
            Some(Definition::Source(source)) => {
                password = matches!(source.access, Access::Jdbc { password: Some(_), .. });
            }
            _ => {}
        }
        let (datasource, declared) = match object.connection {
            Some(Connection::Inventory(id)) => (Some(id.0), None),
            Some(Connection::Declared(id)) => (None, Some(id.0)),
            None => (None, None),
        };
        Ok(StoredObject {
            version: VERSION,
            key: StoredKey::of(key),
            vql: statement(key, object, Style { stored: true, ..Style::default() }),
            clauses,
            columns,
            needs: object.needs.iter().map(StoredKey::of).collect(),
            relations: object.relations,
            depth: object.depth,
            datasource,
            declared,
            password,
        })
    }

    pub fn into_object(self) -> Result<(Key, Object)> {
        if self.version != VERSION {
            return Err(Error::internal(format!("an object has the unknown version {}", self.version)));
        }
        let key = self.key.into_key()?;
        let mut body = body(&key, &self.vql, self.password)?;
        match &mut body {
            Body::Defined(Definition::Database(database)) => {
                let clause = |clause: StoredClause| crate::vql::ast::Clause {
                    word: clause.word,
                    text: clause.text,
                    assigned: false,
                };
                database.clauses = self.clauses.into_iter().map(clause).collect();
            }
            Body::Defined(Definition::Source(source)) => {
                if let (Access::Jdbc { password, .. }, true) = (&mut source.access, self.password) {
                    // It is stored sealed; here only that there is one is known.
                    *password = Some(Secret::new(""));
                }
            }
            _ => {}
        }
        let columns = match self.columns {
            Some(columns) => {
                let fields = columns.into_iter().map(StoredColumn::into_field).collect::<Result<Vec<_>>>()?;
                Some(Arc::new(Schema::new(fields)))
            }
            None => None,
        };
        let needs = self.needs.into_iter().map(StoredKey::into_key).collect::<Result<BTreeSet<_>>>()?;
        let inventory = self.datasource.map(|id| Connection::Inventory(DatasourceId(id)));
        let connection = inventory.or(self.declared.map(|id| Connection::Declared(DatasourceId(id))));
        let object =
            Object { body, columns, needs, relations: self.relations, depth: self.depth, connection };
        Ok((key, object))
    }
}

/// Reads a stored statement again. Earlier versions wrote properties in place of a password.
fn body(key: &Key, vql: &str, password: bool) -> Result<Body> {
    let damaged =
        |why: &str| Error::internal(format!("the stored {} cannot be read: {why}", key.full_name()));
    let clause = password.then(|| vql.lines().position(|line| line.starts_with(PASSWORD))).flatten();
    let lines = vql.lines().enumerate().filter(|(at, _)| Some(*at) != clause).map(|(_, line)| line);
    let vql = if clause.is_some() { lines.collect::<Vec<_>>().join("\n") } else { vql.to_owned() };
    let pieces = stored_pieces(&vql);
    let [piece] = pieces.as_slice() else { return Err(damaged("it is not one statement")) };
    match crate::vql::statement(piece) {
        Ok(Statement::Create { definition, .. }) => Ok(Body::Defined(definition)),
        Ok(Statement::Keep { kept, .. }) => Ok(Body::Kept(kept)),
        Ok(_) => Err(damaged("it creates nothing")),
        Err(fault) => Err(damaged(&fault.to_string())),
    }
}

impl StoredKey {
    pub fn of(key: &Key) -> StoredKey {
        StoredKey { database: key.database.clone(), kind: key.kind.label(), name: key.name.clone() }
    }

    pub fn into_key(self) -> Result<Key> {
        let kinds = [Kind::Database, Kind::Folder, Kind::View]
            .into_iter()
            .chain(SourceKind::ALL.map(Kind::Source))
            .chain(SourceKind::ALL.map(Kind::Wrapper))
            .chain(KeptKind::ALL.map(Kind::Kept));
        let found = kinds.into_iter().find(|kind| kind.label() == self.kind);
        let kind =
            found.ok_or_else(|| Error::internal(format!("an object has the unknown kind {}", self.kind)))?;
        Ok(Key { database: self.database, kind, name: self.name })
    }
}

impl StoredColumn {
    fn of(field: &Field) -> Result<StoredColumn> {
        let arrow = match field.data_type() {
            DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
            other => {
                let known = PLAIN.iter().find(|(_, known)| known() == *other);
                let known = known.ok_or_else(|| {
                    let message =
                        format!("the column {} has a type that views do not have: {other}", field.name());
                    Error::fault("view", "unsupported_type", message)
                })?;
                known.0.to_owned()
            }
        };
        Ok(StoredColumn {
            name: field.name().clone(),
            arrow,
            logical: logical_type(field).as_str().to_owned(),
            native: native_type(field).to_owned(),
        })
    }

    fn into_field(self) -> Result<Field> {
        let decimal = || {
            let (precision, scale) =
                self.arrow.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            Some(DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?))
        };
        let plain = PLAIN.iter().find(|(name, _)| *name == self.arrow).map(|(_, data_type)| data_type());
        let data_type = plain.or_else(decimal);
        let data_type = data_type
            .ok_or_else(|| Error::internal(format!("a column has the unknown type {}", self.arrow)))?;
        let logical = LogicalType::ALL.into_iter().find(|known| known.as_str() == self.logical);
        Ok(describe(
            Field::new(self.name, data_type, true),
            logical.unwrap_or(LogicalType::Other),
            &self.native,
        ))
    }
}

type Plain = (&'static str, fn() -> DataType);

/// The types of columns that have no size.
const PLAIN: [Plain; 12] = [
    ("int32", || DataType::Int32),
    ("int64", || DataType::Int64),
    ("float32", || DataType::Float32),
    ("float64", || DataType::Float64),
    ("utf8", || DataType::Utf8),
    ("boolean", || DataType::Boolean),
    ("binary", || DataType::Binary),
    ("date32", || DataType::Date32),
    ("time64", || DataType::Time64(TimeUnit::Microsecond)),
    ("timestamp", || DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("timestamptz", || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ("null", || DataType::Null),
];

/// How a declared datasource is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDatasource {
    pub version: u32,
    /// `postgres`, `mysql`, `mariadb` or `sqlite`.
    pub database_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub database: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub require_tls: bool,
    pub verify_tls: bool,
    /// A SQLite file that the machine's operator chose: it can be anywhere.
    #[serde(default)]
    pub operator_file: bool,
}

/// How an environment is deployed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredConfiguration {
    pub version: u32,
    pub deployments_enabled: bool,
    /// `simple` or `no_downtime`.
    pub deployment_type: String,
    /// `half` or `one_by_one`.
    pub cluster_strategy: String,
    pub server_strategy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_clusters: Option<u32>,
    pub rollback_enabled: bool,
    /// `first_server` or `all_touched`.
    pub rollback_scope: String,
    pub backup_enabled: bool,
    pub queue_deployments: bool,
    pub approvals_required: u8,
    pub refuse_on_drift: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_server: Option<StoredScript>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_server: Option<StoredScript>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_cluster: Option<StoredScript>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_cluster: Option<StoredScript>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredScript {
    pub file: String,
    pub arguments: Vec<StoredArgument>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredArgument {
    Literal(String),
    Variable(String),
}

impl StoredConfiguration {
    /// That of a new environment, as JSON.
    pub fn initial() -> Result<String> {
        StoredConfiguration::of(&Configuration::default()).as_json()
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn of(configuration: &Configuration) -> StoredConfiguration {
        let scripts = &configuration.scripts;
        let script = |script: &Option<Script>| script.as_ref().map(StoredScript::of);
        StoredConfiguration {
            version: VERSION,
            deployments_enabled: configuration.deployments_enabled,
            deployment_type: configuration.deployment_type.as_str().to_owned(),
            cluster_strategy: configuration.cluster_strategy.as_str().to_owned(),
            server_strategy: configuration.server_strategy.as_str().to_owned(),
            configured_clusters: configuration.configured_clusters,
            rollback_enabled: configuration.rollback_enabled,
            rollback_scope: configuration.rollback_scope.as_str().to_owned(),
            backup_enabled: configuration.backup_enabled,
            queue_deployments: configuration.queue_deployments,
            approvals_required: configuration.approvals_required,
            refuse_on_drift: configuration.refuse_on_drift,
            disable_server: script(&scripts.disable_server),
            enable_server: script(&scripts.enable_server),
            disable_cluster: script(&scripts.disable_cluster),
            enable_cluster: script(&scripts.enable_cluster),
        }
    }

    pub fn into_configuration(self) -> Result<Configuration> {
        if self.version != VERSION {
            let message = format!("a deployment configuration has the unknown version {}", self.version);
            return Err(Error::internal(message));
        }
        let unknown = |text: &str| {
            Error::internal(format!("a deployment configuration contains an unknown word: {text}"))
        };
        let strategy = |text: &str| Strategy::parse(text).ok_or_else(|| unknown(text));
        Ok(Configuration {
            deployments_enabled: self.deployments_enabled,
            deployment_type: DeploymentType::parse(&self.deployment_type)
                .ok_or_else(|| unknown(&self.deployment_type))?,
            cluster_strategy: strategy(&self.cluster_strategy)?,
            server_strategy: strategy(&self.server_strategy)?,
            configured_clusters: self.configured_clusters,
            rollback_enabled: self.rollback_enabled,
            rollback_scope: RollbackScope::parse(&self.rollback_scope)
                .ok_or_else(|| unknown(&self.rollback_scope))?,
            backup_enabled: self.backup_enabled,
            queue_deployments: self.queue_deployments,
            approvals_required: self.approvals_required,
            refuse_on_drift: self.refuse_on_drift,
            scripts: Scripts {
                disable_server: self.disable_server.map(StoredScript::into_script),
                enable_server: self.enable_server.map(StoredScript::into_script),
                disable_cluster: self.disable_cluster.map(StoredScript::into_script),
                enable_cluster: self.enable_cluster.map(StoredScript::into_script),
            },
        })
    }
}

impl StoredScript {
    fn of(script: &Script) -> StoredScript {
        let stored = |argument: &Argument| match argument {
            Argument::Literal(text) => StoredArgument::Literal(text.clone()),
            Argument::Variable(name) => StoredArgument::Variable(name.clone()),
        };
        StoredScript { file: script.file.clone(), arguments: script.arguments.iter().map(stored).collect() }
    }

    fn into_script(self) -> Script {
        let argument = |stored: StoredArgument| match stored {
            StoredArgument::Literal(text) => Argument::Literal(text),
            StoredArgument::Variable(name) => Argument::Variable(name),
        };
        Script { file: self.file, arguments: self.arguments.into_iter().map(argument).collect() }
    }
}

/// What a revision includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFlags {
    pub version: u32,
    pub jars: bool,
    pub statistics: bool,
    pub i18n: bool,
    pub server_properties: bool,
    pub web_container_properties: bool,
    pub jdbc_wrapper_properties: bool,
    pub dependencies: bool,
    pub default_database: bool,
}

impl StoredFlags {
    pub fn of(flags: Flags) -> StoredFlags {
        StoredFlags {
            version: VERSION,
            jars: flags.jars,
            statistics: flags.statistics,
            i18n: flags.i18n,
            server_properties: flags.server_properties,
            web_container_properties: flags.web_container_properties,
            jdbc_wrapper_properties: flags.jdbc_wrapper_properties,
            dependencies: flags.dependencies,
            default_database: flags.default_database,
        }
    }

    pub fn into_flags(self) -> Result<Flags> {
        if self.version != VERSION {
            let message = format!("the flags of a revision have the unknown version {}", self.version);
            return Err(Error::internal(message));
        }
        Ok(Flags {
            jars: self.jars,
            statistics: self.statistics,
            i18n: self.i18n,
            server_properties: self.server_properties,
            web_container_properties: self.web_container_properties,
            jdbc_wrapper_properties: self.jdbc_wrapper_properties,
            dependencies: self.dependencies,
            default_database: self.default_database,
        })
    }
}

/// The values of a revision's properties where its script comes from. Stored encrypted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSourceValues {
    pub version: u32,
    pub values: BTreeMap<String, String>,
}

impl StoredSourceValues {
    pub fn of(values: BTreeMap<String, String>) -> StoredSourceValues {
        StoredSourceValues { version: VERSION, values }
    }

    pub fn into_values(self) -> Result<BTreeMap<String, String>> {
        if self.version == VERSION {
            return Ok(self.values);
        }
        Err(Error::internal(format!("the values of a revision have the unknown version {}", self.version)))
    }
}

/// The input of a deployment's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDeployment {
    pub version: u32,
    pub environment: i64,
    /// In the order in which they are executed.
    pub revisions: Vec<i64>,
    /// The virtual databases that they name.
    pub services: Vec<String>,
}

impl StoredDeployment {
    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 1 was written. It never changes.
    const VIEW: &str = r#"{"version":1,"key":{"database":"d","kind":"view","name":"v"},
        "vql":"CREATE VIEW v\n    AS SELECT id FROM o","columns":[{"name":"id","arrow":"int64","logical":"integer","native":"long"},
        {"name":"total","arrow":"decimal(12,2)","logical":"decimal","native":"decimal"}],
        "needs":[{"database":"d","kind":"view","name":"o"}],"relations":1,"depth":2,"password":false}"#;
    const SOURCE: &str = r#"{"version":1,"key":{"database":"d","kind":"datasource jdbc","name":"s"},
        "vql":"CREATE DATASOURCE JDBC s\n    DATABASEURI = 'jdbc:postgresql://h/d'","relations":0,"depth":0,"declared":7,
        "password":true}"#;
    /// Before passwords were left out.
    const EARLIER: &str = r#"{"version":1,"key":{"database":"d","kind":"datasource jdbc","name":"s"},
        "vql":"CREATE DATASOURCE JDBC s\n    DATABASEURI = 'jdbc:postgresql://h/d'\n    USERPASSWORD = '${databases.d.datasources.jdbc.s.USERPASSWORD}' ${databases.d.datasources.jdbc.s.USERPASSWORD.ENCRYPTED}",
        "relations":0,"depth":0,"declared":7,"password":true}"#;

    #[test]
    fn version_1_is_read_and_written_as_it_was() {
        for text in [VIEW, SOURCE] {
            let stored: StoredObject = serde_json::from_str(text).unwrap();
            let before = serde_json::to_value(&stored).unwrap();
            let (key, object) = stored.into_object().unwrap();
            assert_eq!(serde_json::to_value(StoredObject::of(&key, &object).unwrap()).unwrap(), before);
        }
        let (_, source) = serde_json::from_str::<StoredObject>(SOURCE).unwrap().into_object().unwrap();
        let earlier = serde_json::from_str::<StoredObject>(EARLIER).unwrap().into_object().unwrap();
        assert_eq!(earlier.1, source);
        assert_eq!(source.connection, Some(Connection::Declared(DatasourceId(7))));
        let old: StoredDatasource = serde_json::from_str(
            r#"{"version":1,"database_type":"postgres","host":"h","database":"d","require_tls":false,"verify_tls":false}"#,
        )
        .unwrap();
        assert_eq!((old.host.as_deref(), old.port, old.operator_file), (Some("h"), None, false));
    }

    /// As version 1 was written. It never changes.
    const CONFIGURATION: &str = r#"{"version":1,"deployments_enabled":true,"deployment_type":"no_downtime",
        "cluster_strategy":"half","server_strategy":"one_by_one","configured_clusters":2,"rollback_enabled":true,
        "rollback_scope":"first_server","backup_enabled":false,"queue_deployments":true,"approvals_required":1,
        "refuse_on_drift":true,"disable_server":{"file":"out.sh","arguments":[{"literal":"-v"},{"variable":"host"}]},
        "enable_server":{"file":"in.sh","arguments":[]}}"#;
    const INITIAL: &str = r#"{"version":1,"deployments_enabled":true,"deployment_type":"simple",
        "cluster_strategy":"one_by_one","server_strategy":"one_by_one","rollback_enabled":true,
        "rollback_scope":"all_touched","backup_enabled":false,"queue_deployments":false,"approvals_required":0,
        "refuse_on_drift":false}"#;

    #[test]
    fn configurations_of_version_1_are_read_and_written_as_they_were() {
        for text in [CONFIGURATION, INITIAL] {
            let stored: StoredConfiguration = serde_json::from_str(text).unwrap();
            let configuration = stored.clone().into_configuration().unwrap();
            assert_eq!(StoredConfiguration::of(&configuration), stored);
            let written: serde_json::Value = serde_json::from_str(&stored.as_json().unwrap()).unwrap();
            assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        let initial: StoredConfiguration = serde_json::from_str(INITIAL).unwrap();
        assert_eq!(initial.clone().into_configuration().unwrap(), Configuration::default());
        let later = StoredConfiguration { version: 2, ..initial.clone() };
        later.into_configuration().unwrap_err();
        let odd = StoredConfiguration { server_strategy: "thirds".to_owned(), ..initial };
        odd.into_configuration().unwrap_err();
    }

    const FLAGS: &str = r#"{"version":1,"jars":true,"statistics":false,"i18n":true,"server_properties":false,
        "web_container_properties":true,"jdbc_wrapper_properties":false,"dependencies":true,"default_database":false}"#;
    const VALUES: &str = r#"{"version":1,"values":{"a.USERNAME":"u","b":""}}"#;

    #[test]
    fn version_1_of_a_revision_is_read_and_written_as_it_was() {
        let flags = serde_json::from_str::<StoredFlags>(FLAGS).unwrap();
        let read = flags.clone().into_flags().unwrap();
        let expected = Flags {
            jars: true,
            statistics: false,
            i18n: true,
            server_properties: false,
            web_container_properties: true,
            jdbc_wrapper_properties: false,
            dependencies: true,
            default_database: false,
        };
        assert_eq!((read, StoredFlags::of(read)), (expected, flags.clone()));
        assert!(StoredFlags { version: 2, ..flags }.into_flags().is_err());
        let values = serde_json::from_str::<StoredSourceValues>(VALUES).unwrap().into_values().unwrap();
        let pairs: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a.USERNAME", "u"), ("b", "")]);
        assert_eq!(serde_json::to_string(&StoredSourceValues::of(values)).unwrap(), VALUES);
        assert!(StoredSourceValues { version: 2, values: BTreeMap::new() }.into_values().is_err());
    }

    #[test]
    fn the_input_of_a_deployment_is_read_as_it_was() {
        let text = r#"{"version":1,"environment":3,"revisions":[7,5],"services":["sales"]}"#;
        let stored: StoredDeployment = serde_json::from_str(text).unwrap();
        let expected = StoredDeployment {
            version: 1,
            environment: 3,
            revisions: vec![7, 5],
            services: vec!["sales".to_owned()],
        };
        assert_eq!(stored, expected);
        assert_eq!(stored.as_json().unwrap(), text);
    }
}
