//! What statements mean, what is refused, and that printing and parsing agree.

use proptest::prelude::*;

use super::super::ast::*;
use super::super::print::{self, Style};
use super::super::properties::Properties;
use super::super::script::pieces;
use super::*;

fn parsed(script: &str) -> Result<Statement, String> {
    let found = pieces(script, &Properties::new()).map_err(|faults| faults[0].to_string())?;
    assert_eq!(found.len(), 1, "{script}");
    statement(&found[0]).map_err(|fault| fault.to_string())
}

fn defined(script: &str) -> (Name, Definition) {
    match parsed(script).unwrap_or_else(|fault| panic!("{fault}: {script}")) {
        Statement::Create { name, definition, .. } => (name, definition),
        other => panic!("{other:?}"),
    }
}

const SOURCE: &str = "CREATE OR REPLACE DATASOURCE JDBC ds_erp FOLDER = '/10 Sources/ERP' \
    DRIVERCLASSNAME = 'org.postgresql.Driver' DATABASEURI = 'jdbc:postgresql://h:5432/erp' USERNAME = 'u' \
    USERPASSWORD = 'p''w' CLASSPATH = 'postgresql-14' FETCHSIZE = 1000 VALIDATIONQUERY = 'select 1' INITIALSIZE = 4 \
    MAXACTIVE = 20 EXHAUSTEDACTION = 1 SOURCECONFIGURATION ( delegateorderby = true )";

const TABLE: &str = "CREATE OR REPLACE TABLE orders I18N us_pst ( id:long (notnull, description = 'order key'), \
    total:decimal ) FOLDER = '/20 base' PRIMARY KEY ( 'id' ) CACHE OFF TIMETOLIVEINCACHE DEFAULT \
    ADD SEARCHMETHOD w_orders ( I18N us_pst CONSTRAINTS ( ADD id (any) OPT ANY  ADD total (any) OPT ANY ) \
    OUTPUTLIST ( id, total ) WRAPPER (jdbc w_orders) )";

const WRAPPER: &str = "CREATE WRAPPER JDBC w_orders DATASOURCENAME=ds_erp CATALOGNAME='c' SCHEMANAME='S' \
    RELATIONNAME='orders' OUTPUTSCHEMA ( id = 'ID' :'java.lang.Long' (OPT) (sourcetypeid='-5', \
    sourcetypename='bigint') NOT NULL SORTABLE, total = 'TOTAL' :'java.math.BigDecimal' (OPT) SORTABLE ) \
    CONSTRAINT 'pk' PRIMARY KEY ( 'ID' )";

const VIEW: &str = "CREATE OR REPLACE VIEW big_orders FOLDER = '/30 marts' DESCRIPTION = 'orders above a limit' \
    AS SELECT o.id AS id, o.total AS total FROM orders AS o WHERE o.total > 1000 CONTEXT ('formatted' = 'yes')";

#[test]
fn a_source_has_its_connection_and_keeps_the_rest() {
    let (name, definition) = defined(SOURCE);
    let Definition::Source(source) = definition else { panic!() };
    assert_eq!((name.to_string().as_str(), source.folder.as_deref()), ("ds_erp", Some("/10 sources/erp")));
    let Access::Jdbc { uri, user, password } = &source.access else { panic!() };
    assert_eq!((uri.as_str(), user.as_deref()), ("jdbc:postgresql://h:5432/erp", Some("u")));
    assert_eq!(password.as_ref().unwrap().reveal(), "p'w");
    let words: Vec<&str> = source.clauses.iter().map(|clause| clause.word.as_str()).collect();
    assert_eq!(
        words,
        [
            "CLASSPATH",
            "DRIVERCLASSNAME",
            "EXHAUSTEDACTION",
            "FETCHSIZE",
            "INITIALSIZE",
            "MAXACTIVE",
            "SOURCECONFIGURATION",
            "VALIDATIONQUERY",
        ]
    );
}

#[test]
fn a_wrapper_and_its_base_view() {
    let Definition::Wrapper(wrapper) = defined(WRAPPER).1 else { panic!() };
    let table = Relation::Table {
        catalog: Some("c".to_owned()),
        schema: Some("S".to_owned()),
        name: "orders".to_owned(),
    };
    assert_eq!((wrapper.relation, wrapper.source.as_str()), (table, "ds_erp"));
    let id = &wrapper.outputs[0];
    assert_eq!((id.name.as_str(), id.column.as_str(), id.class.as_str()), ("id", "ID", "java.lang.Long"));
    assert!(id.not_null && !wrapper.outputs[1].not_null);
    assert_eq!((id.property("SourceTypeName"), id.property("x")), (Some("bigint"), None));
    let Definition::Table(table) = defined(TABLE).1 else { panic!() };
    assert_eq!(table.wrapper, Some((SourceKind::Jdbc, Name::new("w_orders"))));
    assert_eq!(table.columns[0].description.as_deref(), Some("order key"));
    assert!(table.columns[0].not_null && !table.columns[1].not_null);
    assert_eq!(table.primary_key, ["id"]);
}

#[test]
fn a_views_select_is_its_authors_text_without_tails() {
    let select = |script: &str| match defined(script).1 {
        Definition::View(view) => view.select,
        other => panic!("{other:?}"),
    };
    assert_eq!(select(VIEW), "SELECT o.id AS id, o.total AS total FROM orders AS o WHERE o.total > 1000");
    assert_eq!(
        select("CREATE VIEW a AS SELECT  1 /* x */ AS b -- c\n FROM d TRACE"),
        "SELECT  1 /* x */ AS b -- c\n FROM d"
    );
    assert_eq!(
        select("CREATE VIEW a AS SELECT x FROM d CONTEXT ('a'='b', QUERYPLAN = c : (d)) TRACE"),
        "SELECT x FROM d"
    );
    assert_eq!(select("CREATE VIEW a AS SELECT context FROM \"trace\""), "SELECT context FROM \"trace\"");
    assert_eq!(select("CREATE VIEW a AS (SELECT 1) UNION (SELECT 2)"), "(SELECT 1) UNION (SELECT 2)");
}

#[test]
fn files() {
    let source = |script: &str| match defined(script).1 {
        Definition::Source(source) => source.access,
        other => panic!("{other:?}"),
    };
    let file = TextFile {
        path: "rates.csv".to_owned(),
        charset: Charset::Latin1,
        delimiter: "\t".to_owned(),
        end_of_line: "\r\n".to_owned(),
        header: true,
        ignore_errors: true,
    };
    let script = "CREATE DATASOURCE DF ds_rates ROUTE LOCAL 'LocalConnection' 'rates.csv' CHARSET = 'ISO-8859-1' \
        COLUMNDELIMITER = '\\t' ENDOFLINEDELIMITER = '\\r\\n' HEADER = TRUE IGNOREMATCHINGERRORS = TRUE";
    assert_eq!(source(script), Access::Text(file));
    let json = source("CREATE DATASOURCE JSON ds_users ROUTE LOCAL 'LocalConnection' 'users.json'");
    assert_eq!(json, Access::Json { path: "users.json".to_owned() });
    let nested = "CREATE WRAPPER JSON w DATASOURCENAME=ds TUPLEROOT '/JSONFile/JSONArray' OUTPUTSCHEMA (jsonfile = \
        'JSONFile' : REGISTER OF (jsonarray = 'JSONArray' : ARRAY OF (jsonarray = 'JSONArray' : REGISTER OF (id = 'Id' \
        : 'java.lang.Integer', name = 'name' : 'java.lang.String'))))";
    let Definition::Wrapper(wrapper) = defined(nested).1 else { panic!() };
    let fields: Vec<&str> = wrapper.outputs.iter().map(|output| output.column.as_str()).collect();
    assert_eq!((fields, wrapper.relation), (vec!["Id", "name"], Relation::File));
}

#[test]
fn statements_without_effect_are_kept() {
    for (script, kind, name, text) in [
        (
            "CREATE OR REPLACE VIEWSTATSUMMARY orders ( SET ENABLED = true SET NUMOFROWS = 125000 SET STATS (fieldname, \
             avgsize) VALUES (id, 8.0) )",
            KeptKind::Statistics,
            "orders",
            "VIEWSTATSUMMARY orders ( SET ENABLED = true SET NUMOFROWS = 125000 SET STATS (fieldname, avgsize) VALUES (id, 8.0) )",
        ),
        (
            "CREATE ROLE analyst 'read only' GRANT CONNECT, METADATA ON sales",
            KeptKind::Role,
            "analyst",
            "ROLE analyst 'read only' GRANT CONNECT, METADATA ON sales",
        ),
        (
            "CREATE USER reporter 'secret' ENCRYPTED ALGORITHM = 'SHA512' 'service account'",
            KeptKind::User,
            "reporter",
            "USER reporter '${users.reporter.PASSWORD}' 'service account'",
        ),
        (
            "ALTER VIEW big_orders LAYOUT (o = [20, 20, 200, 200])",
            KeptKind::ViewOption,
            "big_orders layout",
            "ALTER VIEW big_orders LAYOUT (o = [ 20, 20, 200, 200 ])",
        ),
        (
            "ALTER USER r GRANT ROLE analyst",
            KeptKind::Grant,
            "ALTER USER r GRANT ROLE analyst",
            "ALTER USER r GRANT ROLE analyst",
        ),
        (
            "CHOWN admin VIEW big_orders",
            KeptKind::Owner,
            "CHOWN admin VIEW big_orders",
            "CHOWN admin VIEW big_orders",
        ),
        ("SET 'a.b' = 'c'", KeptKind::Setting, "a.b", "SET 'a.b' = 'c'"),
        ("WEBCONTAINER SET 'x' = 'y'", KeptKind::WebSetting, "x", "WEBCONTAINER SET 'x' = 'y'"),
        (
            "CREATE OR REPLACE REST WEBSERVICE w (a=1)",
            KeptKind::WebService,
            "rest w",
            "REST WEBSERVICE w (a = 1)",
        ),
        ("CREATE TAG t", KeptKind::Tag, "t", "TAG t"),
    ] {
        let Ok(Statement::Keep { name: found, kept, .. }) = parsed(script) else {
            panic!("{:?}", parsed(script))
        };
        assert_eq!((kept.kind, found.name.as_str()), (kind, name), "{script}");
        let flat =
            |text: &str| text.replace("( ", "(").replace(" )", ")").replace("[ ", "[").replace(" ]", "]");
        assert_eq!(flat(&kept.text), flat(text), "{script}");
        assert!(!kept.text.contains("secret"));
    }
    let Ok(Statement::Keep { kept, .. }) = parsed("CREATE VIEWSTATSUMMARY o (SET NUMOFROWS = 7)") else {
        panic!()
    };
    assert_eq!(kept.rows, Some(7));
    let Ok(Statement::Keep { kept, .. }) = parsed("CREATE JAR j 'UEsDBA=='") else { panic!() };
    let again = parsed(&print::kept(&kept, Style::default()));
    assert!(
        kept.text.starts_with("JAR j 'sha256:")
            && matches!(again, Ok(Statement::Keep { kept: same, .. }) if same == kept)
    );
}

#[test]
fn drops_and_descriptions() {
    let target = |script: &str| match parsed(script).unwrap() {
        Statement::Drop(drop) => (drop.target, drop.name.to_string(), drop.if_exists, drop.cascade),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        target("DROP VIEW IF EXISTS old_mart CASCADE"),
        (Target::View, "old_mart".to_owned(), true, true)
    );
    assert_eq!(target("DROP TABLE sales.o"), (Target::View, "sales.o".to_owned(), false, false));
    assert_eq!(
        target("DROP DATASOURCE JDBC IF EXISTS ds_old CASCADE"),
        (Target::Source(SourceKind::Jdbc), "ds_old".to_owned(), true, true)
    );
    assert_eq!(target("DROP FOLDER '/A/b/'"), (Target::Folder, "/a/b".to_owned(), false, false));
    assert_eq!(target("drop interface view x"), (Target::View, "x".to_owned(), false, false));
    let Ok(Statement::Describe(described)) =
        parsed("DESC VQL DATABASE sales ('dropElements' = 'yes', 'includeProperties' = 'no')")
    else {
        panic!()
    };
    assert_eq!(described.what, Described::Database("sales".to_owned()));
    assert!(described.options.drop_elements && !described.options.include_properties);
    assert!(parsed("DESC VQL LIST (VIEW a, DATASOURCE DF b) (includeDependencies = yes)").is_ok());
}

#[test]
fn what_is_refused_says_where() {
    for (script, message) in [
        ("SELECT 1", "line 1, column 1: Syntax error: Exception parsing query near 'SELECT'"),
        ("CREATE\n  VIEW", "line 2, column 7: Syntax error: Exception parsing query near 'the end'"),
        ("CREATE VIEW a AS INSERT", "line 1, column 18: Syntax error: Exception parsing query near 'INSERT'"),
        ("CREATE VIEW _a AS SELECT 1", "column 13: the name of a view must not start with _"),
        ("CONNECT USER u PASSWORD 'p' DATABASE d", "column 9: CONNECT USER is not supported"),
        ("CREATE PROCEDURE p", "column 8: CREATE PROCEDURE is not supported"),
        ("CREATE DATASOURCE LDAP x", "column 19: datasources of type LDAP are not supported"),
        ("CREATE DATASOURCE JDBC x", "a JDBC datasource needs DATABASEURI"),
        (
            "CREATE DATASOURCE JDBC x DATABASEURI 'a' USERPASSWORD 'b' ENCRYPTED",
            "column 59: passwords that another server",
        ),
        ("CREATE DATASOURCE JSON x ROUTE HTTP 'a' GET 'b'", "column 32: ROUTE HTTP is not supported"),
        ("CREATE DATASOURCE DF x ROUTE LOCAL 'a' CHARSET 'EBCDIC'", "the charset EBCDIC is not supported"),
        ("CREATE DATASOURCE DF x ROUTE LOCAL 'a' COLUMNDELIMITER = ';;'", "one ASCII character"),
        ("CREATE WRAPPER JDBC w DATASOURCENAME=d PROCEDURENAME='p'", "PROCEDURENAME is not supported"),
        ("CREATE WRAPPER JDBC w DATASOURCENAME=d", "either RELATIONNAME or SQLSENTENCE"),
        ("CREATE WRAPPER XML w", "the type XML is not supported"),
        ("CREATE TABLE t (a:geometry)", "the type geometry is not supported"),
        ("CREATE TABLE t (a:int, a:int)", "Duplicate object identifier: column a"),
        (
            "CREATE ROLE r GRANT EXECUTE ( id ) ON sales.orders",
            "column 29: a GRANT on some columns is not supported",
        ),
        (
            "ALTER ROLE r GRANT EXECUTE WHEN ANY ( t ) THEN 'x' ON o",
            "column 28: a GRANT with WHEN is not supported",
        ),
        ("ALTER VIEW a RENAME b", "ALTER VIEW is only supported with LAYOUT or CACHE"),
        ("CREATE FOLDER 'x'", "the path of a folder looks like"),
        ("ENTER SINGLE USER MODE now", "near 'now'"),
        ("DROP PROCEDURE p", "DROP PROCEDURE is not supported"),
        ("CREATE DATABASE \"\"", "a name must have 1 to 100 characters"),
    ] {
        let fault = parsed(script).unwrap_err();
        assert!(fault.contains(message), "{script}: {fault}");
    }
}

fn again(script: &str) -> (Name, Definition) {
    let (name, definition) = defined(script);
    let text = print::create("d", &name.name, &definition, Style::default());
    // A password is always a property.
    let values = [
        ("databases.d.datasources.jdbc.ds_erp.USERPASSWORD".to_owned(), "p'w".to_owned()),
        ("databases.d.datasources.jdbc.ds_erp.USERPASSWORD.ENCRYPTED".to_owned(), String::new()),
    ];
    let found = pieces(&text, &values.into()).unwrap_or_else(|faults| panic!("{faults:?}: {text}"));
    match statement(&found[0]).unwrap_or_else(|fault| panic!("{fault}: {text}")) {
        Statement::Create { name, definition, .. } => (name, definition),
        other => panic!("{other:?}"),
    }
}

fn same(one: (Name, Definition), other: (Name, Definition)) -> bool {
    let place = |definition| match definition {
        Definition::View(view) => Definition::View(View { select_at: 0, ..view }),
        other => other,
    };
    one.0 == other.0 && place(one.1) == place(other.1)
}

#[test]
fn what_is_printed_is_parsed_to_the_same() {
    for script in [SOURCE, TABLE, WRAPPER, VIEW] {
        assert!(same(again(script), defined(script)), "{script}\n{:?}\n{:?}", again(script), defined(script));
    }
}

proptest! {
    #[test]
    fn any_text_survives_printing(
        name in "[a-z\"A-Z0-9 _äß']{1,20}",
        description in "[a'\"\\\\;#${}\n /*-]{1,20}",
        column in "[a-z \"A-Z]{1,8}",
        not_null: bool,
    ) {
        let name = name.trim_start_matches('_');
        prop_assume!(!name.is_empty() && !description.contains("${"));
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let script = format!(
            "CREATE INTERFACE VIEW {} ({}:text ({})) DESCRIPTION = '{}' SET IMPLEMENTATION {}.{}",
            quoted(name),
            quoted(&column),
            if not_null { "notnull" } else { "x = 'y'" },
            description.replace('\'', "''"),
            quoted(&column),
            quoted(name),
        );
        prop_assert!(same(again(&script), defined(&script)));
    }

    /// Any sequence of tokens is parsed or refused, and nothing else.
    #[test]
    fn nothing_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "CREATE", "OR", "REPLACE", "VIEW", "TABLE", "AS", "SELECT", "DATASOURCE", "JDBC", "WRAPPER", "(", ")", ",", "=",
        ":", ".", "'a'", "\"b\"", "1", "FOLDER", "ROLE", "GRANT", "DROP", "IF", "EXISTS", "ALTER", "DATABASE", "DESC",
        "VQL", "OUTPUTSCHEMA", "ARRAY", "OF", "ADD", "SEARCHMETHOD", "MAP", "SET", "CONTEXT", "x",
    ]), 0..14)) {
        let script = tokens.join(" ");
        if let Ok(found) = pieces(&script, &Properties::new()) {
            for piece in &found {
                let _ = statement(piece);
            }
        }
    }
}
