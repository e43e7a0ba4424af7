use proptest::prelude::*;

use super::*;
use crate::lang::lexer::{Kind, lex};

fn busy() -> Environment {
    let mut env = with_timerange(env(), "last_7_days");
    env.snippets.custom.insert("s".to_owned(), "SNIPPET".to_owned());
    env.snippets.builtin.insert("ME".to_owned(), Some("me".to_owned()));
    env
}

#[track_caller]
fn passes(dialect: SqlDialect, sql: &str) {
    check(dialect, &busy(), sql, sql);
}

#[test]
fn text_that_is_not_a_parameter_is_unchanged() {
    for sql in [
        "",
        "SELECT arr[1], ARRAY[1,2], ARRAY[[1],[2]], a[1:2], a[i], m[name(1)]",
        "SELECT '{1,2}'::int[], '{\"a\": {x=timerange}}'::jsonb",
        "SELECT {}, {1}, {a b}, { }, {[a]}, {a==b}, {a='x'}, {[a]::text}, {a.b.c}, {x=1}, {=a}, {x=}, {a:=b}, {x->y}",
        "{fn NOW()} {d '2020-01-01'} {ts '2020-01-01 00:00:00'}",
        "{[(]=a} {[)]=a} {[a)]:day} {[{]=a}",
        "{[a]=b",
        "{[]=b} {[ ]:day}",
        "{a=b.c.d} {x=timerange.}",
        "}{ ][ )(",
        "SELECT [col], [unknown(a)], [ s ], [1]",
        "naïve {ü=x",
        "-- {x=timerange} [s]\n",
        "/* {x=timerange} [s] */",
        "'{x=timerange} [s] [ME]'",
        "\"{x=timerange} [s]\"",
        "'it''s {x=timerange}'",
        "'open {x=timerange}",
        "/* open {x=timerange}",
    ] {
        for dialect in DIALECTS {
            passes(dialect, sql);
        }
    }
}

#[test]
fn literals_of_each_dialect() {
    for sql in [
        "/* a /* b */ {x=timerange} */",
        "$$ {x=timerange} $$",
        "$a$ $$ {x=timerange} $b$ ' $a$",
        "E'\\' {x=timerange}'",
        "e'\\\\\\' {x=timerange} '",
        "E'a' -- b\n '\\' {x=timerange}'",
        "U&'{x=timerange}' U&\"{x=timerange}\" x'{s}' $1",
        "\"a\"\"{x=timerange}\"",
        "-- a\r\n/**/",
    ] {
        passes(PG, sql);
    }
    check(PG, &busy(), "E'a' '\\' [s]'", "E'a' '\\' SNIPPET'");
    check(PG, &busy(), "'\\' [s]", "'\\' SNIPPET");
    check(PG, &busy(), "f'\\' [s]", "f'\\' SNIPPET");
    check(PG, &busy(), "a$$b[s]", "a$$bSNIPPET");
    check(PG, &busy(), "$1$ [s] $1$", "$1$ SNIPPET $1$");
    check(PG, &busy(), "-- a\r[s]", "-- a\rSNIPPET");
    check(PG, &busy(), "a # [s]", "a # SNIPPET");
    passes(RS, "'\\' {x=timerange}'");
    for sql in [
        "'\\' {x=timerange}'",
        "\"\\\" {x=timerange}\"",
        "`{x=timerange}` `a``[s]`",
        "# {x=timerange} [s]\n",
        "-- [s]\n",
        "--\t[s]\n",
        "--",
        "/* /* {x=timerange} */",
    ] {
        passes(MY, sql);
    }
    check(MY, &busy(), "a--1 [s]", "a--1 SNIPPET");
    check(MY, &busy(), "--[s]", "--SNIPPET");
    check(MY, &busy(), "/* /* */ [s]", "/* /* */ SNIPPET");
    check(MY, &busy(), "/*!50000 '*/ [s]' [s] */ [s]", "/*!50000 '*/ [s]' SNIPPET */ SNIPPET");
    check(MY, &busy(), "$$ [s] $$", "$$ SNIPPET $$");
    for sql in
        ["[it's {x=timerange}]", "[a [s]", "`{x=timerange}`", "/* /* [s] */", "[order by] = '{x=timerange}'"]
    {
        passes(LITE, sql);
    }
    check(LITE, &busy(), "'\\' [s]", "'\\' SNIPPET");
    check(LITE, &busy(), "[it's] [s] '[s]'", "[it's] SNIPPET '[s]'");
    check(LITE, &busy(), "{[[my col]]=c}", "(1=1)");
    check(LITE, &input(busy(), "c", text(&["a"])), "{ [[my col]] = c }", "[my col] = 'a'");
}

#[test]
fn columns_can_be_quoted() {
    let env = input(busy(), "c", text(&["a"]));
    check(PG, &env, "{\"my col\"=c}", "\"my col\" = 'a'");
    check(PG, &env, "{s.\"my col\".x=c}", "s.\"my col\".x = 'a'");
    check(MY, &env, "{`a b`=c}", "`a b` = 'a'");
    check(PG, &env, "{größe=c}", "größe = 'a'");
    check(PG, &env, "{ x\n=\tc }", "x = 'a'");
    check(PG, &env, "{[f(']', \"]\") /* ] */]=c}", "(f(']', \"]\") /* ] */) = 'a'");
    check(PG, &env, "{[a[1]]=c} {[(a)]=c}", "((a[1]) = 'a') (((a)) = 'a')");
}

/// SQL-like pieces with all kinds of delimiters, but neither a parameter nor a known snippet.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'",
        "''",
        "\"",
        "`",
        "\\",
        "$$",
        "$a$",
        "--",
        "-- ",
        "#",
        "/*",
        "*/",
        "/*!",
        "\n",
        "\r",
        " ",
        "(",
        ")",
        "[",
        "]",
        "}",
        "{1",
        "{ (",
        "=",
        ":",
        ".",
        ",",
        "a",
        "E",
        "e'",
        "U&",
        "x1",
        "é",
        "1",
        "1.5",
        "$1",
        ";",
        "|",
        "[nothing]",
        "SELECT",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn concatenated_tokens_are_the_text(sql in prop_oneof![soup(), any::<String>()], dialect in 0_usize..5) {
        let tokens = lex(&sql, DIALECTS[dialect]);
        prop_assert_eq!(tokens.iter().map(|token| token.text).collect::<String>(), sql.as_str());
        let mut at = 0;
        for token in &tokens {
            prop_assert!(token.at == at && !token.text.is_empty());
            at += token.text.len();
        }
    }

    #[test]
    fn text_without_parameters_passes_byte_for_byte(sql in soup(), dialect in 0_usize..5) {
        let expanded = expand(&sql, DIALECTS[dialect], &busy()).unwrap();
        prop_assert_eq!(expanded.sql, sql);
    }

    /// The content of literals, quoted names and comments is still there afterwards, in the same order.
    #[test]
    fn nothing_inside_a_literal_changes(
        pieces in prop::collection::vec(
            prop_oneof![soup(), Just("{x=timerange}".to_owned()), Just("{v}".to_owned()), Just(" [s] ".to_owned())], 0..6),
        value in "[a'\\\\\"$\\-#/* ]{0,8}",
        dialect in 0_usize..5,
    ) {
        let dialect = DIALECTS[dialect];
        let sql = pieces.concat();
        let env = input(busy(), "v", text(&[&value]));
        let Ok(expanded) = expand(&sql, dialect, &env) else { return Ok(()) };
        let kept = |sql: &str| {
            let opaque = |kind| matches!(kind, Kind::QuotedName | Kind::LineComment | Kind::BlockComment | Kind::Text);
            lex(sql, dialect).into_iter().filter(|token| opaque(token.kind)).map(|t| t.text.to_owned()).collect::<Vec<_>>()
        };
        let mut after = kept(&expanded.sql).into_iter();
        for token in kept(&sql) {
            prop_assert!(after.any(|other| other == token), "{token} is lost from {sql:?}: {:?}", expanded.sql);
        }
    }

    #[test]
    fn no_statement_panics(sql in "[{}\\[\\]()=:.,a-c '\"`$1\\-/*#\n\\\\]{0,60}", dialect in 0_usize..5) {
        let _ = expand(&sql, DIALECTS[dialect], &busy());
    }
}
