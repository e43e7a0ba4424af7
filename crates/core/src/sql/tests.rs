use proptest::prelude::*;

use super::Kind::{
    BlockComment, CodeComment, LineComment, Number, Parameter, QuotedName, Symbol, Text, Variable, Word,
};
use super::*;
use crate::datasource::SqlDialect::{self, CrateDb, Engine, MySql, Postgres, Redshift, Sqlite};

const ALL: [SqlDialect; 6] = [Postgres, Redshift, CrateDb, MySql, Sqlite, Engine];

/// SQL and its tokens without whitespace.
type Case<'a> = (SqlDialect, &'a str, &'a [(Kind, &'a str)]);

fn tokens(sql: &str, dialect: SqlDialect) -> Vec<(Kind, &str)> {
    let scanned = Scanner::new(sql, rules(dialect)).filter(|token| token.kind != Kind::Space);
    scanned.map(|token| (token.kind, &sql[token.start..token.end])).collect()
}

#[test]
fn each_dialect_has_its_own_tokens() {
    let cases: [Case<'_>; 42] = [
        (Postgres, r"'a\' b'", &[(Text, r"'a\'"), (Word, "b"), (Text, "'")]),
        (Redshift, r"'a\' b'", &[(Text, r"'a\' b'")]),
        (MySql, r"'a\' b'", &[(Text, r"'a\' b'")]),
        (Sqlite, r"'a\' b", &[(Text, r"'a\'"), (Word, "b")]),
        (Postgres, r"e'a\' b'", &[(Text, r"e'a\' b'")]),
        (Postgres, "E'a'\n'\\''", &[(Text, "E'a'\n'\\''")]),
        (Postgres, "E'a' --x\n --y\r'\\''", &[(Text, "E'a' --x\n --y\r'\\''")]),
        (CrateDb, "E'a'\n'\\'", &[(Text, "E'a'"), (Text, "'\\'")]),
        (Engine, "E'a'\n'\\'", &[(Text, "E'a'"), (Text, "'\\'")]),
        (MySql, "E'a'", &[(Word, "E"), (Text, "'a'")]),
        (Postgres, "ae'a'", &[(Word, "ae"), (Text, "'a'")]),
        (Postgres, "1e'\\''", &[(Number, "1"), (Text, "e'\\''")]),
        (Postgres, "\"a\"\"b\"", &[(QuotedName, "\"a\"\"b\"")]),
        (MySql, "\"a\\\"b\" `a``b`", &[(Text, "\"a\\\"b\""), (QuotedName, "`a``b`")]),
        (Sqlite, "[a'b] `c` \"d\"", &[(QuotedName, "[a'b]"), (QuotedName, "`c`"), (QuotedName, "\"d\"")]),
        (
            Postgres,
            "$$;$$ $a$ $$ $a$ $1 a$b$",
            &[(Text, "$$;$$"), (Text, "$a$ $$ $a$"), (Parameter, "$1"), (Word, "a$b$")],
        ),
        (Engine, "$name $1 $$x$$", &[(Parameter, "$name"), (Parameter, "$1"), (Text, "$$x$$")]),
        (MySql, "$1 $$", &[(Word, "$1"), (Word, "$$")]),
        (
            Sqlite,
            "$a(';') :b::c ?1 @d #e",
            &[
                (Parameter, "$a(';')"),
                (Parameter, ":b::c"),
                (Parameter, "?1"),
                (Parameter, "@d"),
                (Parameter, "#e"),
            ],
        ),
        (
            MySql,
            "5--1 -- x\n# y",
            &[
                (Number, "5"),
                (Symbol, "-"),
                (Symbol, "-"),
                (Number, "1"),
                (LineComment, "-- x"),
                (LineComment, "# y"),
            ],
        ),
        (MySql, "--\u{7f}into", &[(LineComment, "--\u{7f}into")]),
        (MySql, "--\u{1}into", &[(LineComment, "--\u{1}into")]),
        (MySql, "--", &[(LineComment, "--")]),
        (MySql, "-- a\rb", &[(LineComment, "-- a\rb")]),
        (Postgres, "-- a\rb", &[(LineComment, "-- a"), (Word, "b")]),
        (Sqlite, "-- a\rb", &[(LineComment, "-- a\rb")]),
        (Postgres, "/* /* */ */ x", &[(BlockComment, "/* /* */ */"), (Word, "x")]),
        (CrateDb, "/* /* */ x", &[(BlockComment, "/* /* */"), (Word, "x")]),
        (MySql, "/* /* */ x /*/ */", &[(BlockComment, "/* /* */"), (Word, "x"), (BlockComment, "/*/ */")]),
        (
            MySql,
            "/*! x */ /*M!y",
            &[
                (CodeComment, "/*!"),
                (Word, "x"),
                (Symbol, "*"),
                (Symbol, "/"),
                (CodeComment, "/*M!"),
                (Word, "y"),
            ],
        ),
        (
            MySql,
            "1e0into 1.into 1into .5into 0xfinto 0xf 1e+2x \\Ninto",
            &[
                (Number, "1e0"),
                (Word, "into"),
                (Number, "1."),
                (Word, "into"),
                (Word, "1into"),
                (Number, ".5"),
                (Word, "into"),
                (Word, "0xfinto"),
                (Number, "0xf"),
                (Number, "1e+2"),
                (Word, "x"),
                (Word, "\\N"),
                (Word, "into"),
            ],
        ),
        (
            MySql,
            "t.5into `t`.5into t.1e0into",
            &[
                (Word, "t"),
                (Symbol, "."),
                (Word, "5into"),
                (QuotedName, "`t`"),
                (Number, ".5"),
                (Word, "into"),
                (Word, "t"),
                (Symbol, "."),
                (Word, "1e0into"),
            ],
        ),
        (
            Postgres,
            "1into 1e0into 1.into .5into 1..2 1_0.5e-1",
            &[
                (Number, "1"),
                (Word, "into"),
                (Number, "1e0"),
                (Word, "into"),
                (Number, "1."),
                (Word, "into"),
                (Number, ".5"),
                (Word, "into"),
                (Number, "1"),
                (Symbol, "."),
                (Number, ".2"),
                (Number, "1_0.5e-1"),
            ],
        ),
        (Sqlite, "1into .5e3x", &[(Number, "1into"), (Number, ".5e3x")]),
        (
            MySql,
            "@a. into @@global.x @'b c' @`d` @ ?",
            &[
                (Variable, "@a."),
                (Word, "into"),
                (Variable, "@@global"),
                (Symbol, "."),
                (Word, "x"),
                (Variable, "@'b c'"),
                (Variable, "@`d`"),
                (Variable, "@"),
                (Parameter, "?"),
            ],
        ),
        (Postgres, "@a ? :b", &[(Symbol, "@"), (Word, "a"), (Symbol, "?"), (Symbol, ":"), (Word, "b")]),
        (Sqlite, "\u{feff}into", &[(Word, "into")]),
        (Postgres, "\u{feff}into", &[(Word, "\u{feff}into")]),
        (
            Postgres,
            r#"U&"d\0061""t" u & "x" aU&"y""#,
            &[
                (QuotedName, r#"U&"d\0061""t""#),
                (Word, "u"),
                (Symbol, "&"),
                (QuotedName, "\"x\""),
                (Word, "aU"),
                (Symbol, "&"),
                (QuotedName, "\"y\""),
            ],
        ),
        (Redshift, r#"U&"a""#, &[(Word, "U"), (Symbol, "&"), (QuotedName, "\"a\"")]),
        (Engine, r#"U&"a""#, &[(Word, "U"), (Symbol, "&"), (QuotedName, "\"a\"")]),
        (Postgres, "+/**/-", &[(Symbol, "+"), (BlockComment, "/**/"), (Symbol, "-")]),
    ];
    for (dialect, sql, expected) in cases {
        let found = tokens(sql, dialect);
        let found: Vec<_> = found.into_iter().filter(|(_, text)| *text != "\u{feff}").collect();
        assert_eq!(found, expected, "{dialect:?}: {sql}");
    }
}

#[test]
fn words_after_a_dot_are_names() {
    let named = |sql: &'static str, dialect| -> Vec<&'static str> {
        let names = Scanner::new(sql, rules(dialect)).filter(|token| token.is_name);
        names.map(|token| &sql[token.start..token.end]).collect()
    };
    assert_eq!(named("t.into t. into t./**/into t .into into", Postgres), ["into"; 4]);
    assert_eq!(named("t.into t. into t./**/into t .into into 1.into", MySql), ["into"; 2]);
}

#[test]
fn unclosed_tokens_are_marked() {
    for dialect in ALL {
        for sql in ["'a", "\"a", "/* a", "'a''"] {
            let last = Scanner::new(sql, rules(dialect)).last().unwrap();
            assert_eq!((last.closed, last.end), (false, sql.len()), "{dialect:?}: {sql}");
        }
    }
    for (dialect, sql) in [
        (MySql, "'a\\'"),
        (MySql, "`a"),
        (MySql, "@'a"),
        (Sqlite, "[a"),
        (Postgres, "$a$ $b$"),
        (Postgres, "E'\\'"),
        (Postgres, "U&\"a"),
    ] {
        assert!(!Scanner::new(sql, rules(dialect)).last().unwrap().closed, "{dialect:?}: {sql}");
    }
}

#[test]
fn numbers_without_an_exponent_are_marked() {
    let broken = |sql: &str, dialect| Scanner::new(sql, rules(dialect)).any(|token| !token.closed);
    for sql in ["1.e", "1.e-- 2", "1.5E+", ".5e-", "0.e(1)", "2 1.e+/", "1.einto"] {
        assert!(broken(sql, MySql), "{sql}");
        assert!(!broken(sql, Postgres), "{sql}");
    }
    for sql in ["1.", "1.5e3e", "1.e-5", ".5e+1", "1e", "1e-- x", "t.1.e", "t.5e"] {
        assert!(!broken(sql, MySql), "{sql}");
    }
}

#[test]
fn scripts_are_split_at_semicolons_in_code() {
    let split = |sql: &'static str, dialect| -> Vec<&'static str> {
        statements(sql, rules(dialect)).into_iter().map(|range| &sql[range]).collect()
    };
    let sql = "select ';' ; -- a;\n; create $$ ; $$ /* ; */ x;;\n last";
    assert_eq!(split(sql, Postgres), ["select ';'", "create $$ ; $$ /* ; */ x", "last"]);
    assert_eq!(split("select '\\'; x'; y", MySql), ["select '\\'; x'", "y"]);
    assert_eq!(split("select '\\'; x", Postgres), ["select '\\'", "x"]);
    assert_eq!(split(" -- nothing\n ;", Sqlite), Vec::<&str>::new());
}

#[test]
fn hostile_input_takes_linear_time() {
    for piece in ["$a", "$a$", "$", "[", "'", "/*", "--", "@", "1e", "E'a'\n", ":a(", "\\", "`", "$$a"] {
        for dialect in ALL {
            let sql = piece.repeat(100_000);
            assert!(Scanner::new(&sql, rules(dialect)).count() > 0, "{dialect:?}: {piece}");
        }
    }
}

fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "select", " ", "'", "''", "\"", "`", "$$", "$a$", "$1", "--", "\n", "\r", "/*", "*/", "/*!", "#",
        ";", "\\", "E'", "[", "]", "é", "\u{feff}", "1", "1e", "0x", ".", "@", "@@", "?", ":", "::", "(",
        ")", "into", "\u{7f}", "\0",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn spans_cover_the_text_exactly(sql in prop_oneof![soup(), any::<String>()], at in 0_usize..6) {
        let mut end = 0;
        for token in Scanner::new(&sql, rules(ALL[at])) {
            prop_assert!(token.start == end && token.end > token.start);
            prop_assert!(sql.get(token.start..token.end).is_some(), "a span cuts a character: {token:?}");
            end = token.end;
        }
        prop_assert_eq!(end, sql.len());
    }
}
