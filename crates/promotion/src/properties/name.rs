//! What the name of a property says: the element that it belongs to, and whether its value is a secret.
//!
//! Does not belong here: values, rows, and the statements in which properties are used.
//!
//! Names are written raw. Folders, elements and labels can contain dots, so a name is not split at its dots: it is read from
//! words that are known, the type of the element and the parameter at the end.

/// The parts of a name such as `databases.admin.folder.ds.datasources.jdbc.oracle12c.DATABASEURI`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyName {
    pub database: String,
    /// As in the name: `datasources`, `views`, …
    pub element_type: String,
    /// As in the name: `jdbc`, `json`, …
    pub element_type_name: String,
    /// The datasource; for `views`, the wrapper.
    pub element: String,
    /// `DATABASEURI`, `USERPASSWORD.ENCRYPTED`, `ROUTE.HTTP.URL`, …; with its label if it has one.
    pub parameter: String,
}

const ROOT: &str = "databases.";
const FOLDER: &str = ".folder.";

const ELEMENT_TYPES: [&str; 7] =
    ["datasources", "views", "associations", "webservices", "widgets", "storedprocedures", "listeners"];

/// The types of datasources, wrappers, web services and listeners.
const ELEMENT_TYPE_NAMES: [&str; 25] = [
    "arn",
    "custom",
    "df",
    "essbase",
    "gs",
    "ibm_mq",
    "itp",
    "java",
    "jdbc",
    "jms",
    "json",
    "ldap",
    "mdx",
    "mongodb",
    "multidimensional",
    "odbc",
    "olap",
    "rest",
    "salesforce",
    "sapbw",
    "sapbwbapi",
    "saperp",
    "soap",
    "ws",
    "xml",
];

/// The type whose parameters have a free label between the element and the parameter.
const CUSTOM: &str = "custom";

/// Parameters of one word; those of a `ROUTE` have several.
const PARAMETERS: [&str; 26] = [
    "CATALOGNAME",
    "CLIENTID",
    "CLIENTSECRET",
    "DATABASE",
    "DATABASENAME",
    "DATABASEURI",
    "DECRYPT PASSWORD",
    "DESTINATION",
    "DOMAIN",
    "DSN",
    "ENDPOINT",
    "HOST",
    "LOGIN",
    "PASSWORD",
    "PORT",
    "PROXYHOST",
    "PROXYPASSWORD",
    "PROXYPORT",
    "PROXYUSER",
    "REPLYTO",
    "SCHEMANAME",
    "URI",
    "USER",
    "USERNAME",
    "USERPASSWORD",
    "WSDLURI",
];

/// Says that the value before it is encrypted, and how. Such a value is a word of the language, not a text.
pub(super) const TAILS: [&str; 2] = [".ENCRYPTED", ".ALGORITHM"];

impl PropertyName {
    /// `None` for names of users and of the server, and for names whose parts are not certain.
    pub fn parse(name: &str) -> Option<PropertyName> {
        let rest = name.strip_prefix(ROOT)?;
        // The first place that fits: a folder can have the name of a type.
        rest.match_indices('.').find_map(|(at, _)| anchored(rest.get(..at)?, rest.get(at + 1..)?))
    }
}

/// The parts, if the text to the right begins with a type and ends with a parameter.
fn anchored(left: &str, right: &str) -> Option<PropertyName> {
    let (element_type, right) = right.split_once('.')?;
    let (element_type_name, right) = right.split_once('.')?;
    let known = ELEMENT_TYPES.contains(&element_type)
        && ELEMENT_TYPE_NAMES.iter().any(|name| name.eq_ignore_ascii_case(element_type_name));
    let database = before_folders(left);
    if !known || database.is_empty() {
        return None;
    }
    let (element, parameter) = element_and_parameter(element_type_name, right)?;
    Some(PropertyName {
        database: database.to_owned(),
        element_type: element_type.to_owned(),
        element_type_name: element_type_name.to_owned(),
        element: element.to_owned(),
        parameter: parameter.to_owned(),
    })
}

fn before_folders(left: &str) -> &str {
    left.split_once(FOLDER).map_or(left, |(database, _)| database)
}

/// The longest known parameter at the end, otherwise one word in upper case; what is before it is the element.
fn element_and_parameter<'a>(element_type_name: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    let at_dot = |(at, _): (usize, &str)| Some((text.get(..at)?, text.get(at + 1..)?));
    let splits: Vec<(&str, &str)> =
        text.match_indices('.').filter_map(at_dot).filter(|(element, _)| !element.is_empty()).collect();
    let known = splits.iter().find(|(_, parameter)| is_parameter(parameter));
    let found = known.or_else(|| splits.iter().find(|(_, parameter)| is_word(without_tail(parameter))));
    let (element, parameter) = *found?;
    let labelled = element_type_name.eq_ignore_ascii_case(CUSTOM) && parameter.starts_with("ROUTE.");
    match text.split_once('.') {
        Some((first, rest)) if labelled && !first.is_empty() => Some((first, rest)),
        _ => Some((element, parameter)),
    }
}

fn is_parameter(text: &str) -> bool {
    let text = without_tail(text);
    let route = |rest: &str| rest.contains('.') && rest.split('.').all(is_word);
    PARAMETERS.contains(&text) || text.strip_prefix("ROUTE.").is_some_and(route)
}

fn without_tail(text: &str) -> &str {
    TAILS.iter().find_map(|tail| text.strip_suffix(tail)).unwrap_or(text)
}

/// A word of the language, as parameters are written: `USERPASSWORD`, `DECRYPT PASSWORD`.
fn is_word(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b' ');
    text.bytes().next().is_some_and(|first| first.is_ascii_uppercase()) && text.bytes().all(inside)
}

/// What filters compare, as it is stored: the columns of `promotion_properties`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub database_name: Option<String>,
    pub element_type: Option<String>,
    pub element_type_name: Option<String>,
    pub element_name: Option<String>,
}

impl Parts {
    /// Of a property for VQL. If only the database is certain, only that is known.
    pub fn of_engine(name: &str) -> Parts {
        match PropertyName::parse(name) {
            Some(parsed) => Parts {
                database_name: Some(parsed.database),
                element_type: Some(element_type(&parsed.element_type)),
                element_type_name: Some(element_type_name(&parsed.element_type_name)),
                element_name: Some(parsed.element),
            },
            None => Parts { database_name: database_alone(name), ..Parts::default() },
        }
    }

    /// Of a property for a Scheduler: `default.dataSource.VDP.vdp.connectionURI`, in which the project has the place of the
    /// database.
    pub fn of_scheduler(name: &str) -> Parts {
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        match parts.as_slice() {
            [project, kind, kind_name, element, _] if !project.is_empty() => Parts {
                database_name: Some((*project).to_owned()),
                element_type: Some(element_type(kind)),
                element_type_name: Some(element_type_name(kind_name)),
                element_name: Some((*element).to_owned()),
            },
            [project, _, ..] if !project.is_empty() => {
                Parts { database_name: Some((*project).to_owned()), ..Parts::default() }
            }
            _ => Parts::default(),
        }
    }
}

/// The database of a name that has no other parts.
fn database_alone(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ROOT)?;
    let (database, _) = rest.split_once(FOLDER).or_else(|| rest.split_once('.'))?;
    (!database.is_empty()).then(|| database.to_owned())
}

/// A type as it is compared: `dataSource`, `datasource` and `datasources` are the same.
pub(super) fn element_type(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.strip_suffix('s').unwrap_or(&lower).to_owned()
}

/// The name of a type as it is compared: `JDBC` and `jdbc` are the same.
pub(super) fn element_type_name(text: &str) -> String {
    text.to_lowercase()
}

/// How words for secrets end, without blanks and underscores.
const SECRETS: [&str; 11] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "SECRET",
    "SECRETKEY",
    "SECRETACCESSKEY",
    "PRIVATEKEY",
    "ACCESSTOKEN",
    "REFRESHTOKEN",
    "APIKEY",
];

/// Whether the value of a property for VQL is a secret: by the last part of its name that is in upper case.
pub fn is_secret(name: &str) -> bool {
    name.rsplit('.').find(|part| is_word(part)).is_some_and(is_secret_word)
}

/// The same for a Scheduler, whose parameters are in mixed case: by the last part of the name.
pub fn is_scheduler_secret(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|part| is_secret_word(&part.to_uppercase()))
}

fn is_secret_word(word: &str) -> bool {
    let word = word.replace(['_', ' '], "");
    SECRETS.iter().any(|secret| word.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, database, type, name of the type, element, parameter.
    const PARSED: [(&str, [&str; 5]); 21] = [
        (
            "databases.admin.datasources.jdbc.oracle12c.DATABASEURI",
            ["admin", "datasources", "jdbc", "oracle12c", "DATABASEURI"],
        ),
        (
            "databases.admin.views.jdbc.environment.SCHEMANAME",
            ["admin", "views", "jdbc", "environment", "SCHEMANAME"],
        ),
        (
            "databases.admin.datasources.jdbc.oracle12c.USERNAME",
            ["admin", "datasources", "jdbc", "oracle12c", "USERNAME"],
        ),
        (
            "databases.admin.datasources.jdbc.oracle12c.USERPASSWORD.ENCRYPTED",
            ["admin", "datasources", "jdbc", "oracle12c", "USERPASSWORD.ENCRYPTED"],
        ),
        (
            "databases.jenkins.views.json.ds_randomuser.ROUTE.HTTP.URL",
            ["jenkins", "views", "json", "ds_randomuser", "ROUTE.HTTP.URL"],
        ),
        (
            "databases.admin.folder.ds.datasources.jdbc.ds_mssql.DATABASEURI",
            ["admin", "datasources", "jdbc", "ds_mssql", "DATABASEURI"],
        ),
        // The label of a parameter is not part of the element.
        (
            "databases.admin.folder.ds.views.custom.ds_dummy.File location.ROUTE.LOCAL.PATH",
            ["admin", "views", "custom", "ds_dummy", "File location.ROUTE.LOCAL.PATH"],
        ),
        (
            "databases.d.datasources.custom.ds.Path (e.g. /a.csv).ROUTE.LOCAL.PATH",
            ["d", "datasources", "custom", "ds", "Path (e.g. /a.csv).ROUTE.LOCAL.PATH"],
        ),
        // Folders with dots.
        (
            "databases.common.folder.1..connectivity_layer.folder.1_data_sources.datasources.jdbc.ds_vm_cwt.DATABASEURI",
            ["common", "datasources", "jdbc", "ds_vm_cwt", "DATABASEURI"],
        ),
        ("databases.a.folder.v1.2.folder...datasources.odbc.x.DSN", ["a", "datasources", "odbc", "x", "DSN"]),
        // Folders and databases with the names of types.
        (
            "databases.a.folder.views.folder.jdbc.datasources.jdbc.x.DATABASEURI",
            ["a", "datasources", "jdbc", "x", "DATABASEURI"],
        ),
        (
            "databases.a.folder.datasources.views.json.x.ROUTE.LOCAL.PATH",
            ["a", "views", "json", "x", "ROUTE.LOCAL.PATH"],
        ),
        ("databases.views.datasources.jdbc.x.USERNAME", ["views", "datasources", "jdbc", "x", "USERNAME"]),
        (
            "databases.datasources.jdbc.datasources.ldap.x.URI",
            ["datasources.jdbc", "datasources", "ldap", "x", "URI"],
        ),
        // Databases and elements with dots, blanks, other letters, and the names of parameters.
        ("databases.my.db.datasources.jdbc.x.URI", ["my.db", "datasources", "jdbc", "x", "URI"]),
        ("databases.d.datasources.jdbc.my.ds.USERNAME", ["d", "datasources", "jdbc", "my.ds", "USERNAME"]),
        (
            "databases.d.datasources.df.Größe é.ROUTE.FTP.LOGIN",
            ["d", "datasources", "df", "Größe é", "ROUTE.FTP.LOGIN"],
        ),
        (
            "databases.d.datasources.jdbc.USERNAME.USERNAME",
            ["d", "datasources", "jdbc", "USERNAME", "USERNAME"],
        ),
        (
            "databases.d.datasources.xml.x.DECRYPT PASSWORD",
            ["d", "datasources", "xml", "x", "DECRYPT PASSWORD"],
        ),
        // Parameters that are not in the list.
        ("databases.d.datasources.jdbc.x.FETCHSIZE", ["d", "datasources", "jdbc", "x", "FETCHSIZE"]),
        (
            "databases.d.webservices.soap.x.SOMETHING.ENCRYPTED",
            ["d", "webservices", "soap", "x", "SOMETHING.ENCRYPTED"],
        ),
    ];

    #[test]
    fn names_are_read_by_their_anchors() {
        for (name, [database, element_type, element_type_name, element, parameter]) in PARSED {
            let parsed = PropertyName::parse(name).unwrap_or_else(|| panic!("{name}"));
            let found = [
                &parsed.database,
                &parsed.element_type,
                &parsed.element_type_name,
                &parsed.element,
                &parsed.parameter,
            ];
            let expected = [database, element_type, element_type_name, element, parameter];
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_read_has_at_most_a_database() {
        for (name, database) in [
            ("users.smadmin.PASSWORD", None),
            ("users.smadmin.PASSWORD.ALGORITHM", None),
            ("com.vendor.vdb.port", None),
            ("database.admin.datasources.jdbc.x.DATABASEURI", None),
            ("databases.", None),
            ("databases.admin", None),
            ("databases..datasources.jdbc.x.DATABASEURI", None),
            ("", None),
            ("databases.admin.", Some("admin")),
            ("databases.admin.charset", Some("admin")),
            ("databases.my.db.folder.x.something", Some("my.db")),
            ("databases.admin.datasources.jdbc.x.lower", Some("admin")),
            ("databases.admin.datasources.nosuch.x.DATABASEURI", Some("admin")),
            ("databases.admin.datasources.jdbc..DATABASEURI", Some("admin")),
            ("databases.admin.datasources.jdbc.DATABASEURI", Some("admin")),
        ] {
            assert_eq!(PropertyName::parse(name), None, "{name}");
            let expected = Parts { database_name: database.map(str::to_owned), ..Parts::default() };
            assert_eq!(Parts::of_engine(name), expected, "{name}");
        }
    }

    #[test]
    fn parts_are_compared_without_case_and_number_except_names() {
        let texts = |parts: Parts| {
            [parts.database_name, parts.element_type, parts.element_type_name, parts.element_name]
        };
        let some = |all: [&str; 4]| all.map(|one| Some(one.to_owned()));
        assert_eq!(
            texts(Parts::of_engine("databases.Sales.datasources.JDBC.Erp.URI")),
            some(["Sales", "datasource", "jdbc", "Erp"])
        );
        for (name, expected) in [
            ("default.dataSource.VDP.vdp.connectionURI", some(["default", "datasource", "vdp", "vdp"])),
            ("Manager.dataSource.ITP.itpds.dbName", some(["Manager", "datasource", "itp", "itpds"])),
            ("p.jobs.VDPCache.My job.a.b", some(["p", "job", "vdpcache", "My job"])),
            ("p.dataSource.ITP.itpds", [Some("p".to_owned()), None, None, None]),
            ("alone", [None, None, None, None]),
            (".a.b.c.d", [None, None, None, None]),
        ] {
            assert_eq!(texts(Parts::of_scheduler(name)), expected, "{name}");
        }
        for form in ["datasource", "datasources", "DataSource", "DATASOURCES"] {
            assert_eq!(element_type(form), "datasource");
        }
        assert_eq!(element_type("s"), "");
    }

    #[test]
    fn secrets_are_known_by_their_last_upper_case_part() {
        for (name, engine, scheduler) in [
            ("users.smadmin.PASSWORD", true, true),
            ("users.smadmin.PASSWORD.ALGORITHM", false, false),
            ("users.smadmin.PASSWORD.ENCRYPTED", false, false),
            ("users.PASSWORD.ROLE", false, false),
            ("databases.d.datasources.jdbc.x.USERPASSWORD", true, true),
            ("databases.d.datasources.jdbc.x.USERPASSWORD.ENCRYPTED", false, false),
            ("databases.d.datasources.jdbc.x.USERNAME", false, false),
            ("databases.d.datasources.jdbc.password.DATABASEURI", false, false),
            ("databases.d.datasources.df.x.ROUTE.HTTP.PASSWORD", true, true),
            ("databases.d.datasources.df.x.ROUTE.HTTP.PROXY_PASSWORD", true, true),
            ("databases.d.datasources.df.x.DECRYPT PASSWORD", true, true),
            ("databases.d.datasources.df.x.ROUTE.S3.SECRET_ACCESS_KEY", true, true),
            // What follows in lower case does not make it public.
            ("databases.d.datasources.jdbc.x.USERPASSWORD.value", true, false),
            ("default.dataSource.VDP.vdp.password", false, true),
            ("default.dataSource.VDP.vdp.proxyPassword", false, true),
            ("default.dataSource.VDP.vdp.login", false, false),
            ("PASSWORD", true, true),
            ("", false, false),
        ] {
            assert_eq!((is_secret(name), is_scheduler_secret(name)), (engine, scheduler), "{name}");
        }
    }
}
