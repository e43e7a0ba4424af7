use landreeve_core::datasource::SqlDialect::{CrateDb, MySql, Postgres, Redshift, Sqlite};
use proptest::prelude::*;

use super::*;

const ALL: [SqlDialect; 5] = [Postgres, Redshift, CrateDb, MySql, Sqlite];

fn passes(dialect: SqlDialect, sql: &str) {
    assert!(check(sql, dialect).is_ok(), "{dialect:?} refused {sql}: {:?}", check(sql, dialect));
}

fn refused(dialect: SqlDialect, sql: &str, part: &str) {
    let error = check(sql, dialect).expect_err(sql);
    assert_eq!(error.kind, SourceErrorKind::NotReadOnly, "{sql}");
    assert!(error.message.contains(part), "{sql}: {}", error.message);
}

#[test]
fn lets_read_only_statements_through() {
    for dialect in ALL {
        passes(dialect, "select 1");
        passes(dialect, "  -- note\n /* more */ SELECT ';' ; -- end");
        passes(dialect, "((select 1) union all (select 2))");
        passes(dialect, "with x as (select 1) select * from x;;");
        passes(dialect, "values (1)");
        passes(dialect, "explain delete from t");
        passes(dialect, "explain insert into t values (1)");
        passes(dialect, "with x as (select 5 as merge) select (merge) + 1, (merge), merge from x");
        passes(
            dialect,
            "with recursive x(a, b) as (select 1, 2 union all select a, b from x), y as (values (1)) table x",
        );
        passes(dialect, "select t.into from t");
    }
    passes(Postgres, "select $$;$$, $a$ $$ ; $a$, E'\\';', U&'d', 'a\\' from t");
    passes(Postgres, "select E'a'\n'\\';' ");
    passes(Postgres, "select 1 as into, 2 as as, 3 as with");
    passes(Postgres, "select t. into from t");
    passes(Postgres, "select (insert) from (select 1 as insert) delete");
    passes(Postgres, "with x as not materialized (select 1), y as materialized (table x) (select * from y)");
    passes(
        Postgres,
        "with a as (with b as (select 1) select * from b) select (with c as (select 2) select * from c)",
    );
    passes(
        Postgres,
        "with recursive x(a) as (select 1) search depth first by a, b set c cycle a set d to true default false using e, \
         z as (select 1) cycle delete set update using insert select 1",
    );
    passes(
        Postgres,
        "with recursive x as (select 1) cycle a set b to f(default => 1) 'y' default interval(6) '1' day using c select 1",
    );
    passes(Postgres, "with recursive(a) as (select 1), b as (select 2) select * from recursive");
    passes(Postgres, "with recursive recursive as (select 1) select * from recursive");
    passes(
        Postgres,
        "with U&\"d\\0061ta\" as (select 1), u&\"d!0061\" uescape '!' (x) as (select 2) select 1",
    );
    passes(
        Postgres,
        "with recursive x as (select 1) cycle U&\"a\" uescape '!', b set U&\"c\" using U&\"d\" select 1",
    );
    passes(Postgres, "select xmlelement(name into, xmlpi(name into)), xmlelement(name as) from t");
    passes(Postgres, "select cast('2024-01-01' as timestamp with time zone) from f() with ordinality");
    passes(Postgres, "explain (verbose, analyze false) select 1");
    passes(Postgres, "explain (analyze off, costs false, format \"json\") delete from t");
    passes(Postgres, "explain (select 1)");
    passes(Postgres, "select $1.into, 1 as \"into\"");
    passes(Postgres, "select 1 /* a /* b */ ; */");
    passes(Postgres, "explain (analyze, format json) select 1");
    passes(Redshift, "select 'a\\' into t --'");
    passes(MySql, "select 'a\\';', \"b\\\";\", `c;` # ;\n");
    passes(MySql, "select 5--1");
    passes(MySql, "select substring(a from 1 for share) from t");
    passes(MySql, "select substring((select 'abc') from 1 for share), mid (a from 1 for share) from t");
    passes(MySql, "explain format=json for schema s select 1");
    passes(MySql, "show full columns from t where (Field = 'select') or `Key` in ('PRI')");
    passes(MySql, "show tables where `Tables_in_s` in (select 'a')");
    passes(MySql, "explain insert into dumpfile select 1");
    passes(MySql, "explain replace into t values (1)");
    passes(MySql, "select 1into, t.5into, `into` from t");
    passes(MySql, "explain format=json select 1");
    passes(MySql, "with recursive x(a) as (select 1) cycle a restrict select * from x");
    passes(MySql, "select insert('abc',1,1,'x') from (select 1) x");
    passes(MySql, "with x as (select 1) select replace('a','b','c') from x");
    passes(Sqlite, "select [a;b], `c;`, \"d;\" from t");
    passes(Sqlite, "pragma table_info(t)");
    passes(Sqlite, "select (with) from (select 1 as with)");
}

#[test]
fn strips_the_trailing_semicolon() {
    let statement = check("select ';' ; -- tail", Postgres).expect("reads");
    assert_eq!(statement.text, "select ';' ");
    assert!(statement.is_query);
    assert!(!check("show all", Postgres).expect("reads").is_query);
}

#[test]
fn rejects_writes_and_names_the_word() {
    for word in [
        "SET", "BEGIN", "COMMIT", "ROLLBACK", "DO", "CALL", "COPY", "LOAD", "INSERT", "DROP", "PREPARE",
        "EXECUTE", "START", "LOCK", "GRANT", "VACUUM", "ATTACH", "HANDLER", "FETCH", "DECLARE", "KILL",
        "ANALYZE",
    ] {
        for dialect in ALL {
            refused(dialect, &format!("{} x", word.to_lowercase()), word);
        }
    }
    for dialect in ALL {
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
        refused(dialect, "select '\0'", "NUL");
        refused(dialect, "select (1", "unmatched (");
        refused(dialect, "select 1)", "unmatched )");
        refused(dialect, "with x as (select 1) (delete from t)", "DELETE");
        refused(dialect, "with x as ((delete from t)) select 1", "DELETE");
        refused(dialect, "with x (a) as (select 1), y as (update t set a = 1) select 1", "UPDATE");
        refused(dialect, "with x as (select 1) replace into t values (1)", "REPLACE");
        refused(dialect, "with x as select 1", "cannot parse");
        refused(dialect, "select 1. into t", "INTO");
        refused(dialect, "select t.as into t", "INTO");
    }
    refused(
        Postgres,
        "do $$ begin perform set_config('transaction_read_only','off',false); commit; end $$",
        "DO",
    );
    refused(Postgres, "select 1 as as into t", "INTO");
    refused(Postgres, "select 1into t", "INTO");
    refused(Postgres, "select .5into t", "INTO");
    refused(MySql, "select .5into outfile '/tmp/x'", "OUTFILE");
    refused(Postgres, "explain (analyze false, analyze) delete from t", "DELETE");
    refused(Postgres, "explain (analyze on) delete from t", "DELETE");
    refused(Postgres, "explain (costs off, U&\"\\0061nalyze\") delete from t", "DELETE");
    refused(Redshift, "select 'a\\'' into t --'", "INTO");
    refused(Postgres, "explain (\"analyze\") delete from t", "DELETE");
    refused(Postgres, "explain analyze verbose delete from t", "DELETE");
    refused(Postgres, "explain (costs, analyze) with x as (delete from t) select 1", "DELETE");
    refused(Postgres, "select (with x as (delete from t returning 1) select * from x)", "DELETE");
    refused(
        Postgres,
        "with a as (with b as (insert into t values (1) returning 1) select 1) select 1",
        "INSERT",
    );
    for clause in [
        "cycle a set b using c",
        "cycle a set b to 1 default 2 using c",
        "search depth first by a set b",
        "search breadth first by a, c set b cycle a set d using e",
    ] {
        let before = "with recursive x(a) as (select 1 union all select a from x)";
        refused(Postgres, &format!("{before} {clause} delete from t"), "DELETE");
        refused(
            Postgres,
            &format!("{before} {clause}, y as (merge into t using x on true) select 1"),
            "MERGE",
        );
    }
    refused(Postgres, "select E'a' '\\'; drop table t --'", "several");
    refused(Postgres, "select 'a\\'; drop table t --'", "several");
    refused(Postgres, "select 1$$;$$; select 2", "several");
    refused(MySql, "select 1 into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select 1 into dumpfile '/tmp/x'", "DUMPFILE");
    refused(MySql, "select 1 into @a", "variable");
    refused(MySql, "select @as into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select @a. into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select t.as into outfile '/tmp/x' from t", "OUTFILE");
    refused(MySql, "select 1 --\u{7f}'\n into outfile '/tmp/x' -- '", "OUTFILE");
    refused(MySql, "select 1e0into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select 1.into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select \\Ninto outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "select `t`.5into outfile '/tmp/x'", "OUTFILE");
    refused(Postgres, "select xmlelement(name a), name into t", "INTO");
    refused(Postgres, "with u&\"a\" uescape '!' as (select 1) delete from t", "DELETE");
    refused(Postgres, "with recursive(a) as (delete from t returning 1) select 1", "DELETE");
    refused(MySql, "select 2 1.e-- 1 into outfile '/tmp/x'", "1.e has no digits in its exponent");
    refused(MySql, "select 1.5E+", "1.5e has no digits");
    for query in ["select 1 from t", "table t", "with x as (table t) select 1 from x", "(select 1 from t)"] {
        refused(
            MySql,
            &format!("show columns from t where exists ({query})"),
            "select from information_schema",
        );
    }
    refused(MySql, "show tables where 1 into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "explain select 1 into outfile '/tmp/x'", "OUTFILE");
    refused(MySql, "explain select 1 into dumpfile '/tmp/x'", "DUMPFILE");
    refused(MySql, "explain for schema s select 1 into @a", "variable");
    refused(MySql, "select 1 as into", "INTO");
    refused(MySql, "table t into dumpfile '/tmp/x'", "DUMPFILE");
    refused(MySql, "explain format=json into @a select 1", "variable");
    for lock in ["for update", "for share", "lock in share mode", "for update skip locked"] {
        for query in [
            "select * from t LOCK",
            "select * from (select * from t LOCK) x",
            "select substring((select a from t LOCK) from 1 for 2)",
            "explain select * from t where id = 1 LOCK",
            "desc select * from t where id = 1 LOCK",
            "with x as (select * from t LOCK) select * from x",
            "values row((select a from t LOCK))",
        ] {
            refused(MySql, &query.replace("LOCK", lock), "locks rows against writers; leave it out");
        }
    }
    refused(MySql, "select 1 /*! into outfile 'x' */", "run by the database");
    refused(MySql, "select 1 /*M! into outfile 'x' */", "run by the database");
    refused(MySql, "select 1 --x\n; select 2", "several");
    refused(MySql, "set session transaction read write; insert into t values (1)", "several");
}

#[test]
fn hostile_statements_take_linear_time() {
    const TIMES: usize = 30_000;
    for (start, piece, close, end) in [
        ("select ", "(select ", ")", ""),
        ("show tables where ", "(select ", ")", ""),
        ("show tables where ", "(values ", ")", ""),
        ("select ", "(with x as (select 1) cycle a set b to ", ")", " default 1 using c"),
        ("with ", "x as (select 1) cycle a set b to 1 default 1 using c, ", "", " y as (select 1) select 1"),
        ("with ", "recursive ", "", ""),
        ("explain ", "(", ")", ""),
        ("explain ", "(analyze, \"a\", ", ")", ""),
        ("select ", "for update into lock in ", "", ""),
        ("select ", "substring(a for share ", ")", ""),
        ("select ", "u&\"a\" uescape '!' ", "", ""),
        ("select ", "1.e", "", ""),
    ] {
        let sql = format!("{start}{}{end}{}", piece.repeat(TIMES), close.repeat(TIMES));
        for dialect in ALL {
            let _ = check(&sql, dialect);
        }
    }
}

fn dialects() -> impl Strategy<Value = SqlDialect> {
    prop::sample::select(ALL.to_vec())
}

proptest! {
    #[test]
    fn any_text_is_checked_without_a_panic(sql in "(?s).{0,200}", dialect in dialects()) {
        let _ = check(&sql, dialect);
    }

    #[test]
    fn sql_like_text_is_checked_without_a_panic(
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
    fn a_quoted_value_can_contain_anything(value in "[^\0]{0,60}", dialect in dialects()) {
        let escaped = if matches!(dialect, MySql | Redshift) { value.replace('\\', "\\\\") } else { value };
        let sql = format!("select '{}' as v", escaped.replace('\'', "''"));
        prop_assert!(check(&sql, dialect).is_ok());
    }

    #[test]
    fn a_second_statement_never_passes(value in "[^\0]{0,40}", dialect in dialects()) {
        let escaped = if matches!(dialect, MySql | Redshift) { value.replace('\\', "\\\\") } else { value };
        let sql = format!("select '{}' ; drop table t", escaped.replace('\'', "''"));
        prop_assert!(check(&sql, dialect).is_err());
    }
}
