//! What a JDBC URL says, in this server's terms.

use landreeve_core::datasource::DatabaseType;
use url::Url;

/// A URL that is understood completely: anything else in one is an error, because it might have mattered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `jdbc:landreeve:NAME`: a datasource of the inventory, by name or id.
    Inventory(String),
    Network(Network),
    /// `jdbc:sqlite:PATH`
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub database_type: DatabaseType,
    pub host: String,
    pub port: Option<u16>,
    pub database: String,
    pub require_tls: bool,
    pub verify_tls: bool,
}

pub fn parse(text: &str) -> Result<Address, String> {
    let rest = text
        .strip_prefix("jdbc:")
        .ok_or_else(|| format!("{text:?} is no JDBC URL: it must start with jdbc:"))?;
    let (scheme, rest) = rest.split_once(':').unwrap_or((rest, ""));
    match scheme {
        "landreeve" if !rest.trim().is_empty() => Ok(Address::Inventory(rest.trim().to_owned())),
        "landreeve" => Err("jdbc:landreeve: needs the name or the id of a datasource".to_owned()),
        "sqlite" if rest.contains('?') => Err(parameter(rest.split_once('?').map_or("", |(_, query)| query))),
        "sqlite" if !rest.is_empty() => Ok(Address::File(rest.to_owned())),
        "sqlite" => Err("jdbc:sqlite: needs the path of a file".to_owned()),
        "postgresql" => network(DatabaseType::Postgres, scheme, rest),
        "mysql" => network(DatabaseType::MySql, scheme, rest),
        "mariadb" => network(DatabaseType::MariaDb, scheme, rest),
        other => Err(format!(
            "jdbc:{other}: is not supported; use jdbc:landreeve:, jdbc:postgresql:, jdbc:mysql:, jdbc:mariadb: or \
             jdbc:sqlite:"
        )),
    }
}

fn parameter(name: &str) -> String {
    let name = name.split(['=', '&', ';']).next().unwrap_or(name);
    format!("the URL has the parameter {name:?}, which is not supported")
}

fn network(database_type: DatabaseType, scheme: &str, rest: &str) -> Result<Address, String> {
    let wrong = |why: &str| format!("the URL is wrong: {why}; write jdbc:{scheme}://HOST:PORT/DATABASE");
    if !rest.starts_with("//") {
        return Err(wrong("it has no host"));
    }
    let url = Url::parse(&format!("{scheme}:{rest}")).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has a user; write USERNAME and USERPASSWORD".to_owned());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
    if host.contains(',') {
        return Err("the URL has several hosts, which is not supported".to_owned());
    }
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(String::from);
    let database =
        decoded(url.path().trim_start_matches('/')).ok_or_else(|| wrong("the database is not UTF-8"))?;
    if database.is_empty() || database.contains(['/', ';', '\0']) {
        return Err(wrong("it needs one database"));
    }
    if url.fragment().is_some() {
        return Err(wrong("it has a fragment"));
    }
    let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))
        .ok_or_else(|| wrong("the host is not UTF-8"))?;
    let mut found =
        Network { database_type, host, port: url.port(), database, require_tls: false, verify_tls: false };
    for (name, value) in url.query_pairs() {
        apply(&mut found, &name, &value)?;
    }
    Ok(Address::Network(found))
}

fn apply(found: &mut Network, name: &str, value: &str) -> Result<(), String> {
    let flag = || match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("the parameter {name} must be true or false")),
    };
    match (found.database_type, name) {
        (DatabaseType::Postgres, "sslmode") => {
            (found.require_tls, found.verify_tls) = match value {
                "disable" | "allow" | "prefer" => (false, false),
                "require" => (true, false),
                "verify-ca" | "verify-full" => (true, true),
                _ => return Err(format!("sslmode={value} is unknown")),
            };
        }
        (DatabaseType::MySql | DatabaseType::MariaDb, "useSSL") => drop(flag()?),
        (DatabaseType::MySql | DatabaseType::MariaDb, "requireSSL") => found.require_tls |= flag()?,
        (DatabaseType::MySql | DatabaseType::MariaDb, "verifyServerCertificate") => {
            found.verify_tls |= flag()?
        }
        // Connecting has a limit of its own, which is stricter than what clients usually set.
        (_, "connectTimeout") => {
            value.parse::<u32>().map_err(|_| "the parameter connectTimeout must be a number".to_owned())?;
        }
        _ => return Err(parameter(name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused() {
        let network = |text: &str| match parse(text).unwrap_or_else(|error| panic!("{error}: {text}")) {
            Address::Network(found) => {
                (found.host, found.port, found.database, found.require_tls, found.verify_tls)
            }
            other => panic!("{other:?}"),
        };
        let owned = |host: &str, port, database: &str, require, verify| {
            (host.to_owned(), port, database.to_owned(), require, verify)
        };
        assert_eq!(network("jdbc:postgresql://h:5433/erp"), owned("h", Some(5433), "erp", false, false));
        assert_eq!(
            network("jdbc:postgresql://h/a%20b?sslmode=require"),
            owned("h", None, "a b", true, false)
        );
        assert_eq!(
            network("jdbc:postgresql://[::1]:1/d?sslmode=verify-full&connectTimeout=5"),
            owned("::1", Some(1), "d", true, true)
        );
        assert_eq!(
            network("jdbc:mysql://h/d?useSSL=true&requireSSL=true&verifyServerCertificate=true"),
            owned("h", None, "d", true, true)
        );
        assert_eq!(
            network("jdbc:mariadb://10.0.0.1:3306/d"),
            owned("10.0.0.1", Some(3306), "d", false, false)
        );
        assert_eq!(parse("jdbc:landreeve:My Shop"), Ok(Address::Inventory("My Shop".to_owned())));
        assert_eq!(parse("jdbc:sqlite:/data/a.db"), Ok(Address::File("/data/a.db".to_owned())));
        for (text, message) in [
            ("postgresql://h/d", "must start with jdbc:"),
            ("jdbc:oracle:thin:@h:1521/x", "jdbc:oracle: is not supported"),
            ("jdbc:mysql://h/d?allowLoadLocalInfile=true", "the parameter \"allowLoadLocalInfile\""),
            ("jdbc:postgresql://h/d?socketFactory=x", "the parameter \"socketFactory\""),
            ("jdbc:postgresql://h/d?options=-c%20x", "the parameter \"options\""),
            ("jdbc:postgresql://h/d?sslmode=maybe", "sslmode=maybe is unknown"),
            ("jdbc:mysql://h/d?requireSSL=1", "must be true or false"),
            ("jdbc:postgresql://u:p@h/d", "the URL has a user"),
            ("jdbc:postgresql:erp", "it has no host"),
            ("jdbc:postgresql://h", "it needs one database"),
            ("jdbc:postgresql://a,b/d", "the URL"),
            ("jdbc:sqlite:/a.db?cache=shared", "the parameter \"cache\""),
            ("jdbc:landreeve:", "needs the name"),
            ("jdbc:sqlite:", "needs the path"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
