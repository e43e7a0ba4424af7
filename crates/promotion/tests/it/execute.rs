//! What scripts do to a catalog, as measured on a real server: error texts, REPLACE, dependants, order.

use landreeve_promotion::catalog::describe::{content_hash, everything};
use landreeve_promotion::catalog::{Catalog, Key, diff};

use crate::support::{after, executed, failures};

/// A database with a source, a wrapper and two base views.
const BASE: &str = "\
CREATE DATABASE d 'Test';
CONNECT DATABASE d;
CREATE FOLDER '/f';
CREATE DATASOURCE JDBC ds FOLDER = '/f' DATABASEURI = 'jdbc:landreeve:x';
CREATE WRAPPER JDBC w DATASOURCENAME=ds RELATIONNAME='orders' OUTPUTSCHEMA (
  id = 'ID' : 'java.lang.Long', total = 'TOTAL' : 'java.math.BigDecimal' (sourcetypesize='12', sourcetypedecimals='2'),
  name = 'NAME' : 'java.lang.String');
CREATE TABLE orders I18N us_pst (id:long, total:decimal, name:text)
  ADD SEARCHMETHOD w (I18N us_pst CONSTRAINTS (ADD id (any) OPT ANY) OUTPUTLIST (id, total, name) WRAPPER (jdbc w));
CREATE VIEW big AS SELECT id, total FROM orders WHERE total > 1000;
CLOSE;
";

fn base() -> Catalog {
    after(&Catalog::default(), BASE)
}

fn columns(catalog: &Catalog, database: &str, view: &str) -> Vec<String> {
    let object = catalog.get(&Key::view(database, view)).unwrap_or_else(|| panic!("no view {view}"));
    let fields = object.columns.as_ref().unwrap().fields();
    fields.iter().map(|field| format!("{}:{}", field.name(), field.data_type())).collect()
}

/// A script on top of `BASE`, connected to `d`, and what its failures say.
#[test]
fn error_texts_are_those_of_the_product() {
    let base = base();
    for (script, message) in [
        ("CREATE DATABASE d", "already exists"),
        ("CREATE DATABASE d", "Duplicate object identifier"),
        ("CREATE VIEW big AS SELECT 1 AS a FROM orders", "already exists"),
        ("CREATE VIEW v AS SELECT a FROM nothing", "View 'nothing' not found"),
        ("CREATE WRAPPER JDBC x DATASOURCENAME=none RELATIONNAME='t'", "Data source none not found"),
        (
            "CREATE TABLE t (a:int) ADD SEARCHMETHOD m (WRAPPER (jdbc none))",
            "Error loading wrapper 'd.jdbc/none'",
        ),
        ("CREATE VIEW v FOLDER = '/none' AS SELECT id FROM big", "destination folder '/none' not found"),
        ("CREATE FOLDER '/none/below'", "parent not found"),
        ("DROP TABLE orders", "There are some elements that depend on this one"),
        ("DROP WRAPPER JDBC w", "There are some elements that depend on this one"),
        ("DROP DATASOURCE JDBC ds", "There are some elements that depend on this one"),
        ("DROP FOLDER '/f'", "contains elements and can not be dropped"),
        ("DROP VIEW none", "View 'none' not found"),
        ("DROP DATABASE d", "the database 'd' is connected"),
        ("CREAT VIEW x", "Syntax error: Exception parsing query near 'CREAT'"),
        ("CREATE DATABASE IF NOT EXISTS e", "IF NOT EXISTS is not VQL"),
        ("CREATE VIEW IF NOT EXISTS v AS SELECT id FROM big", "IF NOT EXISTS is not VQL"),
        (
            "CREATE DATASOURCE JDBC \"it's\" DATABASEURI='jdbc:landreeve:x' USERNAME='u' USERPASSWORD='p'",
            "must not contain ' $ { or }",
        ),
        (
            "CREATE DATASOURCE JDBC s DATABASEURI='jdbc:landreeve:x' USERPASSWORD=\"hidden\"",
            "a password must be a text in single quotes",
        ),
        ("CONNECT DATABASE none", "Database 'none' not found"),
        ("CREATE OR REPLACE VIEW orders AS SELECT id FROM big", "already exists as a view of another type"),
        ("CREATE OR REPLACE VIEW big AS SELECT b.id FROM big b", "would depend on itself"),
        ("CREATE VIEW v AS SELECT missing FROM big", "missing"),
        ("CREATE INTERFACE VIEW i (id:long, x:int) SET IMPLEMENTATION big", "has no column x"),
        ("CREATE INTERFACE VIEW i (total:boolean) SET IMPLEMENTATION big", "cannot become boolean"),
        (
            "CREATE TABLE t (other:int) ADD SEARCHMETHOD m (WRAPPER (jdbc w))",
            "the column other is not a field",
        ),
    ] {
        let outcome = executed(&base, &format!("CONNECT DATABASE d;\n{script}"));
        let failed = failures(&outcome);
        assert!(failed.len() == 1 && failed[0].contains(message), "{script}: {failed:?}");
    }
    let outcome = executed(&base, "CREATE VIEW v AS SELECT 1 AS a");
    assert!(failures(&outcome)[0].contains("no database is connected"), "{:?}", failures(&outcome));
}

#[test]
fn a_decimal_has_the_size_of_its_wrapper() {
    let catalog = base();
    assert_eq!(columns(&catalog, "d", "orders"), ["id:Int64", "total:Decimal128(12, 2)", "name:Utf8"]);
    assert_eq!(columns(&catalog, "d", "big"), ["id:Int64", "total:Decimal128(12, 2)"]);
}

/// A statement waits for what it lacks, so any order succeeds and has the same result.
#[test]
fn the_order_of_a_script_does_not_matter() {
    let statements: Vec<&str> = BASE.trim().trim_end_matches(';').split(";\n").collect();
    // The first two and the last connect.
    let inner = &statements[2..statements.len() - 1];
    let reversed: Vec<&str> = inner.iter().rev().copied().collect();
    let text = format!("CONNECT DATABASE d;\n{};\nCLOSE;\n{}", reversed.join(";\n"), statements[0]);
    let catalog = after(&Catalog::default(), &text);
    assert_eq!(everything(&catalog), everything(&base()));
}

#[test]
fn one_leftover_and_every_leftover_is_listed() {
    let script = "CONNECT DATABASE d;\nCREATE VIEW a AS SELECT x FROM b;\nCREATE VIEW b AS SELECT x FROM c;\n\
        CREATE VIEW ok AS SELECT id FROM big;\nDROP VIEW none;";
    let outcome = executed(&base(), script);
    assert_eq!(
        failures(&outcome),
        ["2: View 'b' not found", "3: View 'c' not found", "5: View 'none' not found"]
    );
}

#[test]
fn a_drop_is_not_tried_again() {
    let outcome =
        executed(&base(), "CONNECT DATABASE d;\nDROP VIEW v;\nCREATE VIEW v AS SELECT id FROM big;");
    assert_eq!(failures(&outcome), ["2: View 'v' not found"]);
    after(&base(), "CONNECT DATABASE d; DROP VIEW IF EXISTS v; CREATE VIEW v AS SELECT id FROM big");
}

#[test]
fn replacing_keeps_and_clears_what_the_product_does() {
    let catalog = after(
        &base(),
        "CONNECT DATABASE d; CREATE OR REPLACE FOLDER '/f'; CREATE OR REPLACE DATABASE d; \
         CREATE OR REPLACE DATASOURCE JDBC ds DATABASEURI = 'jdbc:landreeve:y'",
    );
    let text = everything(&catalog);
    assert!(text.contains("CREATE OR REPLACE DATABASE d;"), "the description is cleared: {text}");
    assert!(text.contains("jdbc:landreeve:y") && text.contains("VIEW big"), "contents stay: {text}");
}

#[test]
fn dropping_with_cascade_takes_what_depends_on_it() {
    let catalog = after(&base(), "CONNECT DATABASE d; DROP DATASOURCE JDBC ds CASCADE");
    for view in ["orders", "big"] {
        assert!(!catalog.contains(&Key::view("d", view)), "{view}");
    }
    let catalog = after(&base(), "DROP DATABASE d CASCADE");
    assert!(catalog.is_empty());
}

#[test]
fn a_replaced_view_can_make_others_invalid() {
    let more = "CONNECT DATABASE d; CREATE VIEW v AS SELECT id, total FROM big; CREATE VIEW above AS SELECT id FROM v;";
    let catalog = after(&base(), more);
    let outcome =
        executed(&catalog, "CONNECT DATABASE d; CREATE OR REPLACE VIEW big AS SELECT id FROM orders");
    assert!(!outcome.failed());
    let invalid: Vec<String> =
        outcome.invalid.iter().map(|(key, why)| format!("{}: {why}", key.full_name())).collect();
    assert_eq!(invalid.len(), 2, "{invalid:?}");
    assert!(invalid[1].starts_with("d.v: ") && invalid[1].contains("total"), "{invalid:?}");
    assert!(invalid[0].starts_with("d.above: "), "{invalid:?}");
    // What is invalid is told again, whatever touches it.
    let broken = outcome.catalog;
    for script in [
        "CREATE OR REPLACE VIEW big AS SELECT id FROM orders WHERE id > 5",
        "CREATE VIEW new AS SELECT total AS t FROM v",
        "CREATE VIEW new AS SELECT id FROM above",
    ] {
        let outcome = executed(&broken, &format!("CONNECT DATABASE d; {script}"));
        let invalid: Vec<String> = outcome.invalid.iter().map(|(key, _)| key.full_name()).collect();
        assert!(!outcome.failed() && invalid.contains(&"d.v".to_owned()), "{script}: {invalid:?}");
        let new = script.starts_with("CREATE VIEW");
        assert_eq!(invalid.contains(&"d.new".to_owned()), new, "{script}: {invalid:?}");
    }
    // Replaced together, both are valid.
    let together = "CONNECT DATABASE d; CREATE OR REPLACE VIEW v AS SELECT id FROM big; \
        CREATE OR REPLACE VIEW big AS SELECT id FROM orders";
    let outcome = executed(&catalog, together);
    assert!(!outcome.failed() && outcome.invalid.is_empty(), "{:?}", outcome.invalid);
}

#[test]
fn views_above_get_new_types() {
    let catalog = after(
        &base(),
        "CONNECT DATABASE d; CREATE VIEW v AS SELECT id AS x FROM big; CREATE VIEW w AS SELECT x FROM v",
    );
    assert_eq!(columns(&catalog, "d", "w"), ["x:Int64"]);
    let catalog = after(
        &catalog,
        "CONNECT DATABASE d; CREATE OR REPLACE VIEW big AS SELECT CAST(id AS text) AS id, total FROM orders",
    );
    assert_eq!(columns(&catalog, "d", "w"), ["x:Utf8"]);
}

#[test]
fn a_star_is_spelled_out_when_a_view_is_created() {
    let catalog = after(&base(), "CONNECT DATABASE d; CREATE VIEW v AS SELECT * FROM big");
    assert_eq!(columns(&catalog, "d", "v"), ["id:Int64", "total:Decimal128(12, 2)"]);
    let outcome = executed(
        &catalog,
        "CONNECT DATABASE d; CREATE OR REPLACE VIEW big AS SELECT name, id, total FROM orders",
    );
    assert!(!outcome.failed() && outcome.invalid.is_empty(), "{:?}", outcome.invalid);
    assert_eq!(columns(&outcome.catalog, "d", "v"), ["id:Int64", "total:Decimal128(12, 2)"]);
}

#[test]
fn cycles_and_views_that_grow_too_large_are_refused() {
    let catalog = after(&base(), "CONNECT DATABASE d; CREATE VIEW v AS SELECT id, total FROM big");
    let outcome =
        executed(&catalog, "CONNECT DATABASE d; CREATE OR REPLACE VIEW big AS SELECT id, total FROM v");
    assert!(failures(&outcome)[0].contains("would depend on itself"), "{:?}", failures(&outcome));
    let mut script = String::from("CONNECT DATABASE d; CREATE VIEW v0 AS SELECT id FROM orders;\n");
    for level in 1..=40 {
        let below = level - 1;
        script +=
            &format!("CREATE VIEW v{level} AS SELECT a.id FROM v{below} a JOIN v{below} b ON a.id = b.id;\n");
    }
    let outcome = executed(&base(), &script);
    let failed = failures(&outcome);
    assert!(failed[0].contains("would read more than 1000 base views"), "{failed:?}");
    // Ten doublings are too many, even if the view below is replaced last.
    let mut script = String::from("CONNECT DATABASE d; CREATE VIEW v0 AS SELECT id FROM orders;\n");
    for level in 1..=6 {
        let below = level - 1;
        script +=
            &format!("CREATE VIEW v{level} AS SELECT a.id FROM v{below} a JOIN v{below} b ON a.id = b.id;\n");
    }
    let catalog = after(&base(), &script);
    let joins: String = (0..20).map(|at| format!(" JOIN orders o{at} ON o.id = o{at}.id")).collect();
    let outcome = executed(
        &catalog,
        &format!("CONNECT DATABASE d; CREATE OR REPLACE VIEW v0 AS SELECT o.id FROM orders o{joins}"),
    );
    assert!(outcome.failed() && !outcome.refused.is_empty(), "{:?}", failures(&outcome));
}

#[test]
fn databases_see_each_other() {
    let catalog = after(
        &base(),
        "CREATE DATABASE e; CONNECT DATABASE e; CREATE VIEW v AS SELECT b.id FROM d.big b; \
         CREATE INTERFACE VIEW i (id:text) SET IMPLEMENTATION v; CLOSE;",
    );
    assert_eq!(columns(&catalog, "e", "i"), ["id:Utf8"]);
    let outcome = executed(&catalog, "DROP DATABASE d");
    assert!(failures(&outcome)[0].contains("can not be dropped"), "{:?}", failures(&outcome));
    let catalog = after(&catalog, "DROP DATABASE d CASCADE");
    assert!(!catalog.contains(&Key::view("e", "v")));
}

#[test]
fn what_is_described_is_executed_to_the_same() {
    let more = "CONNECT DATABASE d; CREATE OR REPLACE VIEWSTATSUMMARY orders (SET NUMOFROWS = 125000); \
        CREATE ASSOCIATION a_b x; CREATE ROLE r 'reads' GRANT EXECUTE ON d; SET 'a.b' = 'c'; ALTER DATABASE d CHARSET DEFAULT; \
        CREATE INTERFACE VIEW i (id:long) SET IMPLEMENTATION big; CREATE VIEW \"Odd \"\"name\" AS SELECT id AS \"A b\" FROM i";
    let catalog = after(&base(), more);
    let text = everything(&catalog);
    let again = after(&Catalog::default(), &text);
    assert_eq!(everything(&again), text);
    assert_eq!(content_hash(&again), content_hash(&catalog));
    assert_eq!(diff::changes(&catalog, &again, &Default::default()), []);
    assert_eq!(catalog.row_count("d", "orders"), Some(125_000));
}

#[test]
fn statements_without_effect_are_reported_as_stored() {
    let outcome =
        executed(&base(), "CONNECT DATABASE d; SET 'a' = 'b'; CREATE VIEW v AS SELECT id FROM big TRACE");
    let ends: Vec<&str> = outcome.statements.iter().map(|done| done.end.as_str()).collect();
    assert_eq!(ends, ["executed", "stored", "executed"]);
}

/// Clauses without effect are told, and nothing that is called a password is kept.
#[test]
fn clauses_without_effect_are_told_and_keep_no_password() {
    let script = "CONNECT DATABASE d;
        CREATE DATASOURCE DF f ROUTE LOCAL 'L' 'a.csv' COLUMNDELIM=';' HEADINGS=TRUE;
        CREATE DATASOURCE JDBC j DATABASEURI='jdbc:landreeve:x' PROXYPASSWORD 'hidden-1' VAULTSECRET = 'hidden-2'
          PROPERTIES ('password'='hidden-3');
        CREATE REST WEBSERVICE r (a) LOGIN 'u' PASSWORD 'hidden-4';
        SET 'com.vendor.proxy.password' = 'hidden-5';
        CREATE USER v 'hidden-6';";
    let outcome = executed(&base(), script);
    assert_eq!(failures(&outcome), Vec::<String>::new());
    assert_eq!(outcome.statements[1].message, "kept without effect: COLUMNDELIM, HEADINGS");
    let text = format!("{:?}{}", outcome.statements, everything(&outcome.catalog));
    assert!(!text.contains("hidden-"), "{text}");
}
