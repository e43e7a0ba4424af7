//! The kinds of database a datasource can be, and how well each is supported.

/// Every database type a dialect can name. Types without a driver can be stored but not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseType {
    Postgres,
    Redshift,
    CrateDb,
    MySql,
    MariaDb,
    Sqlite,
    BigQuery,
    Snowflake,
    Athena,
    Databricks,
    Presto,
    Trino,
    SqlServer,
    Oracle,
    MongoDb,
    Vertica,
    ClickHouse,
    /// Tables that a plane offers: our own engine runs the statements.
    Catalog(CatalogType),
}

crate::names::registered_name! {
    /// A type of database that a plane brings with its tables.
    CatalogType
}

/// How well a driver is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// Tested against a live server in every run of the test suite.
    Stable,
    /// Speaks a protocol we test, to a server we do not test.
    Untested,
    /// There is no driver: the datasource can only be stored.
    NoDriver,
}

/// The SQL a datasource speaks, where that changes what we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlDialect {
    Postgres,
    Redshift,
    CrateDb,
    /// MySQL and MariaDB.
    MySql,
    Sqlite,
    /// Our own engine: DataFusion, in PostgreSQL's flavour.
    Engine,
}

impl DatabaseType {
    /// All but those that planes bring.
    pub const ALL: [DatabaseType; 17] = [
        DatabaseType::Postgres,
        DatabaseType::Redshift,
        DatabaseType::CrateDb,
        DatabaseType::MySql,
        DatabaseType::MariaDb,
        DatabaseType::Sqlite,
        DatabaseType::BigQuery,
        DatabaseType::Snowflake,
        DatabaseType::Athena,
        DatabaseType::Databricks,
        DatabaseType::Presto,
        DatabaseType::Trino,
        DatabaseType::SqlServer,
        DatabaseType::Oracle,
        DatabaseType::MongoDb,
        DatabaseType::Vertica,
        DatabaseType::ClickHouse,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            DatabaseType::Postgres => "postgres",
            DatabaseType::Redshift => "redshift",
            DatabaseType::CrateDb => "cratedb",
            DatabaseType::MySql => "mysql",
            DatabaseType::MariaDb => "mariadb",
            DatabaseType::Sqlite => "sqlite",
            DatabaseType::BigQuery => "bigquery",
            DatabaseType::Snowflake => "snowflake",
            DatabaseType::Athena => "athena",
            DatabaseType::Databricks => "databricks",
            DatabaseType::Presto => "presto",
            DatabaseType::Trino => "trino",
            DatabaseType::SqlServer => "sqlserver",
            DatabaseType::Oracle => "oracle",
            DatabaseType::MongoDb => "mongodb",
            DatabaseType::Vertica => "vertica",
            DatabaseType::ClickHouse => "clickhouse",
            DatabaseType::Catalog(name) => name.as_str(),
        }
    }

    /// The one of these types with this name or a common alias.
    pub fn find(types: &[DatabaseType], text: &str) -> Option<DatabaseType> {
        let name = match text {
            "postgresql" => "postgres",
            "mssql" => "sqlserver",
            other => other,
        };
        types.iter().copied().find(|known| known.as_str() == name)
    }

    /// A name that a row holds. One that is neither a database nor a type that a plane registers has no tables.
    pub fn stored(text: &str) -> DatabaseType {
        DatabaseType::find(&DatabaseType::ALL, text)
            .unwrap_or_else(|| DatabaseType::Catalog(CatalogType::stored(text)))
    }

    pub const fn grade(self) -> Grade {
        match self {
            DatabaseType::Postgres
            | DatabaseType::MySql
            | DatabaseType::MariaDb
            | DatabaseType::Sqlite
            | DatabaseType::Catalog(_) => Grade::Stable,
            DatabaseType::Redshift | DatabaseType::CrateDb => Grade::Untested,
            _ => Grade::NoDriver,
        }
    }

    /// `None` where there is no driver.
    pub const fn dialect(self) -> Option<SqlDialect> {
        match self {
            DatabaseType::Postgres => Some(SqlDialect::Postgres),
            DatabaseType::Redshift => Some(SqlDialect::Redshift),
            DatabaseType::CrateDb => Some(SqlDialect::CrateDb),
            DatabaseType::MySql | DatabaseType::MariaDb => Some(SqlDialect::MySql),
            DatabaseType::Sqlite => Some(SqlDialect::Sqlite),
            DatabaseType::Catalog(_) => Some(SqlDialect::Engine),
            _ => None,
        }
    }

    /// Whether what other databases call a schema is a database here: everything in a database has one, which is called
    /// like the database.
    pub const fn schema_is_database(self) -> bool {
        matches!(self, DatabaseType::MySql | DatabaseType::MariaDb)
    }

    /// The usual port; `None` for files and services without one.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            DatabaseType::Postgres | DatabaseType::CrateDb => Some(5432),
            DatabaseType::Redshift => Some(5439),
            DatabaseType::MySql | DatabaseType::MariaDb => Some(3306),
            _ => None,
        }
    }
}
