//! Virtual databases as tables for SQL: what a statement names, with everything below it, in one version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Field, Schema, SchemaRef};
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::{TableKind, describe, logical_type};
use landreeve_core::source::{
    ConnectSpec, Connections, Permits, SourceError, SourceErrorKind, TextField, TextFormat, TextSource,
};
use landreeve_core::table::{Catalog as Tables_, Flavour, Listed, Reader, Table, TableName, Tables, View};
use landreeve_core::{Error, ErrorKind, Result};
use landreeve_estate::inventory::connect::{Endpoint, connect_spec};
use landreeve_estate::ops::datasources::RowCounts;
use landreeve_estate::ops::{self, DatasourceDetails};

use crate::catalog::{Catalog, Connection, Key, Kind, Object, columns};
use crate::nodes::{self, LOCAL};
use crate::plane::Promotion;
use crate::scan::BaseTable;
use crate::scan::kinds::ColumnKind;
use crate::vql::ast::{Access, Charset, Definition, Relation, Source, Wrapper};
use crate::vql::print;
use crate::{sources, versions};

/// How long a source may take, if the statement that reads it has no stricter limit.
const TIME_LIMIT: Duration = Duration::from_secs(3_600);

pub struct VirtualCatalog {
    plane: Promotion,
}

impl VirtualCatalog {
    pub fn new(plane: Promotion) -> VirtualCatalog {
        VirtualCatalog { plane }
    }

    /// The current version of the reader's node.
    async fn catalog(&self, reader: &Reader) -> std::result::Result<Arc<Catalog>, SourceError> {
        let wrong = |message: String| SourceError::new(SourceErrorKind::Connect, message);
        let unit = reader.unit.ok_or_else(|| wrong("the datasource has no unit".to_owned()))?;
        let name = reader.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(LOCAL);
        let read = async {
            let mut conn = self.plane.estate().store().read().await?;
            let node = nodes::find(&mut conn, unit, name).await?;
            drop(conn);
            match node {
                Some(node) => versions::catalog_of(&self.plane, &node).await,
                None => Err(Error::not_found("virtual node")),
            }
        };
        let catalog =
            read.await.map_err(|error| wrong(format!("the virtual node {name}: {}", error.message)))?;
        let database = reader.database.as_deref().unwrap_or_default();
        if catalog.contains(&Key::database(database)) {
            return Ok(catalog);
        }
        Err(wrong(format!("the virtual node {name} has no database {database:?}")))
    }
}

impl Tables_ for VirtualCatalog {
    fn flavour(&self) -> Flavour {
        Flavour::Vql
    }

    fn default_schema<'a>(&'a self, reader: &'a Reader) -> &'a str {
        reader.database.as_deref().unwrap_or_default()
    }

    fn admit(
        &self,
        wanted: BTreeMap<DatasourceId, Connections>,
    ) -> BoxFuture<'_, std::result::Result<Permits, SourceError>> {
        Box::pin(async move { Ok(self.plane.estate().connections().take(wanted).await) })
    }

    /// Everything below these views comes with them, so that the whole statement reads one version. A name in another
    /// database is left out: who may query this database may not name others, though its views read them.
    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, std::result::Result<Tables, SourceError>> {
        Box::pin(async move {
            let catalog = self.catalog(reader).await?;
            let own = names.iter().filter(|name| reader.database.as_deref() == Some(name.schema.as_str()));
            let wanted = own.map(|name| Key::view(&name.schema, &name.name));
            let mut found = Found {
                plane: &self.plane,
                catalog: &catalog,
                tables: Tables::default(),
                known: BTreeMap::new(),
            };
            for key in below(&catalog, wanted.collect()) {
                if let Some(object) = catalog.get(&key) {
                    found.add(&key, object).await?;
                }
            }
            Ok(found.tables)
        })
    }

    fn list<'a>(
        &'a self,
        reader: &'a Reader,
    ) -> BoxFuture<'a, std::result::Result<Vec<Listed>, SourceError>> {
        Box::pin(async move {
            let catalog = self.catalog(reader).await?;
            let database = reader.database.as_deref().unwrap_or_default();
            let listed = catalog.views(database).map(|(name, object)| Listed {
                name: TableName::new(database, name),
                kind: if matches!(object.definition(), Some(Definition::Table(_))) {
                    TableKind::Table
                } else {
                    TableKind::View
                },
                columns: object.columns.as_ref().map(named_types),
            });
            Ok(listed.collect())
        })
    }
}

/// The same columns with the names that VQL has for their types: those of a source are not known for what is computed.
fn named_types(columns: &SchemaRef) -> SchemaRef {
    let named =
        |field: &Arc<Field>| describe(field.as_ref().clone(), logical_type(field), columns::vql_type(field));
    Arc::new(Schema::new(columns.fields().iter().map(named).collect::<Vec<_>>()))
}

/// These views with every view below them.
fn below(catalog: &Catalog, wanted: Vec<Key>) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    let mut next = wanted;
    while let Some(key) = next.pop() {
        let Some(object) = catalog.get(&key) else { continue };
        if key.kind == Kind::View && found.insert(key) {
            next.extend(object.needs.iter().cloned());
        }
    }
    found
}

/// A datasource, ready to be read.
#[derive(Clone)]
struct Ready {
    spec: ConnectSpec,
    name: String,
    default_schema: Option<String>,
    counts: Arc<RowCounts>,
}

impl Ready {
    /// The number of rows of a relation, as far as the inventory knows.
    fn rows(&self, relation: &Relation) -> Option<u64> {
        let Relation::Table { catalog, schema, name } = relation else { return None };
        // In MySQL's terms a schema is a catalog.
        let schema = schema.as_ref().or(catalog.as_ref()).or(self.default_schema.as_ref())?;
        self.counts.get(&(schema.clone(), name.clone())).copied()
    }
}

struct Found<'a> {
    plane: &'a Promotion,
    catalog: &'a Catalog,
    tables: Tables,
    /// Several base views often read one datasource.
    known: BTreeMap<DatasourceId, Ready>,
}

fn broken(key: &Key, why: impl std::fmt::Display) -> SourceError {
    SourceError::new(SourceErrorKind::Query, format!("view {}: {why}", key.full_name()))
}

impl Found<'_> {
    async fn add(&mut self, key: &Key, object: &Object) -> std::result::Result<(), SourceError> {
        let name = TableName::new(&key.database, &key.name);
        match object.definition() {
            Some(Definition::View(view)) => {
                let view = View {
                    sql: view.select.clone(),
                    schema: key.database.clone(),
                    columns: object.columns.clone(),
                };
                self.tables.views.push((name, view));
            }
            Some(Definition::Interface(view)) => {
                let implementation =
                    view.implementation.as_ref().ok_or_else(|| broken(key, "it has no implementation"))?;
                let columns: Vec<String> =
                    view.columns.iter().map(|column| print::name(&column.name)).collect();
                let sql = format!("SELECT {} FROM {}", columns.join(", "), print::full(implementation));
                let view = View { sql, schema: key.database.clone(), columns: object.columns.clone() };
                self.tables.views.push((name, view));
            }
            Some(Definition::Table(_)) => {
                let table = self.base(key, object).await?;
                self.tables.tables.push((name, table));
            }
            _ => {}
        }
        Ok(())
    }

    async fn base(&mut self, key: &Key, object: &Object) -> std::result::Result<Arc<dyn Table>, SourceError> {
        let wrapper = object.needs.iter().find(|needed| matches!(needed.kind, Kind::Wrapper(_)));
        let wrapper = wrapper.ok_or_else(|| broken(key, "it has no wrapper, and so no rows"))?;
        let Some(Definition::Wrapper(definition)) =
            self.catalog.get(wrapper).and_then(|found| found.definition())
        else {
            return Err(broken(key, format!("its wrapper {} is gone", wrapper.full_name())));
        };
        let source = Key::new(&wrapper.database, Kind::Source(definition.kind), &definition.source);
        let name = source.full_name();
        let source = self.catalog.get(&source).ok_or_else(|| broken(key, "its datasource is gone"))?;
        let schema = object.columns.clone().ok_or_else(|| broken(key, "it has no columns"))?;
        match source.definition() {
            Some(Definition::Source(Source { access: Access::Text(file), .. })) => {
                let delimiter = file.delimiter.bytes().next().unwrap_or(b',');
                let format = TextFormat::Delimited {
                    delimiter,
                    end_of_line: file.end_of_line.bytes().next_back().unwrap_or(b'\n'),
                    header: file.header,
                    latin1: file.charset == Charset::Latin1,
                };
                return self.file(key, &file.path, format, file.ignore_errors, definition, schema);
            }
            Some(Definition::Source(Source { access: Access::Json { path }, .. })) => {
                return self.file(key, path, TextFormat::Json, false, definition, schema);
            }
            _ => {}
        }
        let connection = source.connection.ok_or_else(|| broken(key, "its datasource has no address"))?;
        let ready = self.ready(connection, &name).await.map_err(|error| broken(key, explained(&error)))?;
        let database_type = ready.spec.database_type;
        let driver =
            self.plane.estate().driver(database_type).map_err(|error| broken(key, explained(&error)))?;
        let dialect =
            database_type.dialect().ok_or_else(|| broken(key, "there is no driver for its datasource"))?;
        let stated = self.catalog.row_count(&key.database, &key.name);
        let table = BaseTable {
            view: key.full_name(),
            rows: stated.or_else(|| ready.rows(&definition.relation)),
            columns: schema.fields().iter().map(|field| column(definition, field.name())).collect(),
            kinds: Arc::default(),
            schema,
            relation: definition.relation.clone(),
            dialect,
            driver,
            spec: ready.spec,
            datasource: ready.name,
            time_limit: TIME_LIMIT,
            pushdown: self.plane.pushdown(),
        };
        if !table.pushdown {
            return Ok(Arc::new(table));
        }
        Ok(Arc::new(BaseTable { kinds: self.kinds(&table).await?, ..table }))
    }

    /// What the columns of a base view are in its source, as the source describes an empty result.
    async fn kinds(&self, table: &BaseTable) -> std::result::Result<Arc<[ColumnKind]>, SourceError> {
        let estate = self.plane.estate();
        let relation = (table.spec.datasource, table.spec.version, table.description());
        if let Some(known) = self.plane.kinds().get(&relation, estate.now()) {
            return Ok(known);
        }
        let Some(kinds) = table.described(estate.connections()).await? else { return Ok(Arc::default()) };
        self.plane.kinds().put(relation, estate.now(), Arc::clone(&kinds));
        Ok(kinds)
    }

    /// A file of rows, opened now: the whole statement reads the same file, even if another takes its place.
    fn file(
        &self,
        key: &Key,
        path: &str,
        format: TextFormat,
        skip_faults: bool,
        wrapper: &Wrapper,
        schema: SchemaRef,
    ) -> std::result::Result<Arc<dyn Table>, SourceError> {
        let file =
            self.plane.estate().outbound().text_file(path).map_err(|error| broken(key, explained(&error)))?;
        let field = |(at, field): (usize, &Arc<Field>)| {
            let position = wrapper.outputs.iter().position(|output| output.name == *field.name());
            TextField { name: column(wrapper, field.name()), position: position.unwrap_or(at) }
        };
        let width = if wrapper.outputs.is_empty() { schema.fields().len() } else { wrapper.outputs.len() };
        Ok(self.plane.files().table(TextSource {
            file: Arc::new(file),
            name: path.to_owned(),
            format,
            fields: schema.fields().iter().enumerate().map(field).collect(),
            schema,
            width,
            skip_faults,
        }))
    }

    /// `name`: the datasource's in VQL.
    async fn ready(&mut self, connection: Connection, name: &str) -> Result<Ready> {
        if let Some(known) = self.known.get(&connection.id()) {
            return Ok(known.clone());
        }
        let ready = match connection {
            Connection::Inventory(id) => inventoried(self.plane, id).await?,
            Connection::Declared(id) => declared(self.plane, id, name).await?,
        };
        self.known.insert(connection.id(), ready.clone());
        Ok(ready)
    }
}

/// A datasource of the inventory.
async fn inventoried(plane: &Promotion, id: DatasourceId) -> Result<Ready> {
    let estate = plane.estate();
    let datasource = match ops::datasources::load(estate, id).await {
        Err(error) if error.kind == ErrorKind::NotFound => {
            return Err(Error::conflict("deleted", "its datasource was deleted"));
        }
        found => found?,
    };
    if !datasource.details.enabled {
        let message = format!("its datasource {} is disabled", datasource.details.name);
        return Err(Error::conflict("disabled", message));
    }
    Ok(Ready {
        spec: connect_spec(estate.outbound(), datasource.endpoint(), &[]).await?,
        name: datasource.details.name.clone(),
        default_schema: datasource.default_schema.clone(),
        counts: plane.row_counts(id).await?,
    })
}

/// A datasource that a script declared. It is not in the inventory, which could count its rows.
async fn declared(plane: &Promotion, id: DatasourceId, name: &str) -> Result<Ready> {
    let known = sources::load(plane, id)
        .await?
        .ok_or_else(|| Error::conflict("deleted", "its datasource was deleted"))?;
    let config = known.config;
    let details = DatasourceDetails {
        name: name.to_owned(),
        database_type: DatabaseType::stored(&config.database_type),
        host: config.host.clone(),
        port: config.port,
        username: config.username.clone(),
        password: known.password,
        database: Some(config.database.clone()),
        require_tls: config.require_tls,
        verify_tls: config.verify_tls,
        operator_file: config.operator_file,
        ..DatasourceDetails::default()
    };
    // Its description never changes: a changed one gets another id.
    let endpoint = Endpoint { datasource: id, version: 1, unit: None, builtin: false, details: &details };
    Ok(Ready {
        spec: connect_spec(plane.estate().outbound(), endpoint, &[]).await?,
        name: details.name.clone(),
        default_schema: None,
        counts: Arc::default(),
    })
}

fn explained(error: &Error) -> String {
    match error.faults.first() {
        Some(fault) => fault.message.clone(),
        None => error.message.clone(),
    }
}

/// The source's name of a column.
fn column(wrapper: &Wrapper, name: &str) -> String {
    let output = wrapper.outputs.iter().find(|output| output.name == name);
    output.map_or_else(|| name.to_owned(), |output| output.column.clone())
}
