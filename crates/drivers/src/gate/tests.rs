use landreeve_core::datasource::SqlDialect::{MySql, Postgres, Sqlite};
use proptest::prelude::*;

use super::*;

fn passes(dialect: SqlDialect, sql: &str) {
    assert!(check(sql, dialect).is_ok(), "{dialect:?} refused {sql}: {:?}", check(sql, dialect));
}

fn refused(dialect: SqlDialect, sql: &str, part: &str) {
    let error = check(sql, dialect).expect_err(sql);
    assert_eq!(error.kind, SourceErrorKind::NotReadOnly, "{sql}");
    assert!(error.message.contains(part), "{sql}: {}", error.message);
}

#[test]
fn reading_statements_pass() {
    for dialect in [Postgres, MySql, Sqlite] {
        passes(dialect, "select 1");
        passes(dialect, "  -- note\n /* more */ SELECT ';' ; -- end");
        passes(dialect, "((select 1) union all (select 2))");
        passes(dialect, "with x as (select 1) select * from x;;");
        passes(dialect, "values (1)");
        passes(dialect, "explain delete from t");
        passes(dialect, "select 1 as into");
        passes(dialect, "select t.into from t");
    }
    passes(Postgres, "select $$;$$, $a$ $$ ; $a$, E'\\';', U&'d', 'a\\' from t");
    passes(Postgres, "select E'a'\n'\\';' ");
    passes(Postgres, "select 1 /* a /* b */ ; */");
    passes(Postgres, "explain (analyze, format json) select 1");
    passes(MySql, "select 'a\\';', \"b\\\";\", `c;` # ;\n");
    passes(MySql, "select 5--1");
    passes(MySql, "select insert('abc',1,1,'x') from (select 1) x");
    passes(MySql, "with x as (select 1) select replace('a','b','c') from x");
    passes(Sqlite, "select [a;b], `c;`, \"d;\" from t");
    passes(Sqlite, "pragma table_info(t)");
}

#[test]
fn the_semicolon_is_cut_off() {
    let statement = check("select ';' ; -- tail", Postgres).expect("reads");
    assert_eq!(statement.text, "select ';' ");
    assert!(statement.is_query);
    assert!(!check("show all", Postgres).expect("reads").is_query);
}

#[test]
fn what_writes_is_named() {
    for word in [
        "SET", "BEGIN", "COMMIT", "ROLLBACK", "DO", "CALL", "COPY", "LOAD", "INSERT", "DROP", "PREPARE",
        "EXECUTE", "START", "LOCK", "GRANT", "VACUUM", "ATTACH", "HANDLER", "FETCH", "DECLARE", "KILL",
        "ANALYZE",
    ] {
        for dialect in [Postgres, MySql, Sqlite] {
            refused(dialect, &format!("{} x", word.to_lowercase()), word);
        }
    }
    for dialect in [Postgres, MySql, Sqlite] {
        refused(dialect, "select 1; select 2", "several");
        refused(dialect, "select 1;; drop table t", "several");
        refused(dialect, "", "empty");
        refused(dialect, "-- only a comment", "empty");
        refused(dialect, "; select 1", "empty");
        refused(dialect, "select 'open", "not closed");
        refused(dialect, "select /* open", "not closed");
        refused(dialect, "select 1 into t", "INTO");
        refused(dialect, "with x as (insert into t values (1) returning *) select * from x", "INSERT");
        refused(dialect, "with x as (select 1) delete from t", "DELETE");
        refused(dialect, "explain analyze delete from t", "DELETE");
        refused(dialect, "select 1 \0", "NUL");
    }
    refused(
        Postgres,
        "do $$ begin perform set_config('transaction_read_only','off',false); commit; end $$",
        "DO",
    );
    refused(Postgres, "select E'a' '\\'; drop table t --'", "several");
    refused(Postgres, "select 'a\\'; drop table t --'", "several");
    refused(Postgres, "select 1$$;$$; select 2", "several");
    refused(MySql, "select 1 into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select 1 into dumpfile '/tmp/x'", "DUMPFILE");
    refused(MySql, "select 1 into @a", "variable");
    refused(MySql, "select 1 /*! into outfile 'x' */", "run by the database");
    refused(MySql, "select 1 /*M! into outfile 'x' */", "run by the database");
    refused(MySql, "select 1 --x\n; select 2", "several");
    refused(MySql, "set session transaction read write; insert into t values (1)", "several");
}

fn dialects() -> impl Strategy<Value = SqlDialect> {
    prop_oneof![Just(Postgres), Just(MySql), Just(Sqlite)]
}

proptest! {
    #[test]
    fn any_text_is_answered(sql in "(?s).{0,200}", dialect in dialects()) {
        let _ = check(&sql, dialect);
    }

    #[test]
    fn sql_like_text_is_answered(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "select", " ", "'", "\"", "`", "$$", "$a$", "--", "\n", "/*", "*/", "#", ";", "\\", "E'", "[", "]", "é",
                "1", "(", ")", "into",
            ]),
            0..40,
        ),
        dialect in dialects(),
    ) {
        let sql = parts.concat();
        if let Ok(statement) = check(&sql, dialect) {
            prop_assert!(sql.starts_with(statement.text));
        }
    }

    #[test]
    fn a_quoted_value_hides_anything(value in "[^\0]{0,60}", dialect in dialects()) {
        let escaped = if dialect == MySql { value.replace('\\', "\\\\") } else { value };
        let sql = format!("select '{}' as v", escaped.replace('\'', "''"));
        prop_assert!(check(&sql, dialect).is_ok());
    }

    #[test]
    fn a_second_statement_is_never_let_through(value in "[^\0]{0,40}", dialect in dialects()) {
        let escaped = if dialect == MySql { value.replace('\\', "\\\\") } else { value };
        let sql = format!("select '{}' ; drop table t", escaped.replace('\'', "''"));
        prop_assert!(check(&sql, dialect).is_err());
    }
}
