use super::*;

fn with(snippets: &[(&str, &str)]) -> Environment {
    let mut env = env();
    for (name, text) in snippets {
        env.snippets.custom.insert((*name).to_owned(), (*text).to_owned());
    }
    env
}

fn builtin(mut env: Environment, snippets: &[(&str, Option<&str>)]) -> Environment {
    for (name, value) in snippets {
        env.snippets.builtin.insert((*name).to_owned(), value.map(str::to_owned));
    }
    env
}

#[test]
fn documented_expansions() {
    check(
        PG,
        &with(&[("revenue", "SUM(price_paid) FROM sales WHERE order_type <> 'test_order'")]),
        "SELECT [revenue] GROUP BY {saletime:month}",
        "SELECT SUM(price_paid) FROM sales WHERE order_type <> 'test_order' GROUP BY DATE_TRUNC('month', \
         (saletime)::timestamp)::date",
    );
    let user = builtin(
        env(),
        &[
            ("SITE_USER_EMAIL", Some("user@example.com")),
            ("SITE_USER_FIRSTNAME", Some("John")),
            ("SITE_USER_LASTNAME", Some("Doe")),
            ("SITE_USER_ROLE", Some("viewer")),
            ("SITE_DASHBOARD_NAME", Some("Sample Dashboard")),
            ("SITE_DASHBOARD_ID", Some("69wx-3kz9-3opj")),
        ],
    );
    check(
        PG,
        &user,
        "SELECT [SITE_USER_EMAIL], [SITE_USER_FIRSTNAME], [SITE_USER_LASTNAME], [SITE_USER_ROLE], \
         [SITE_DASHBOARD_NAME], [SITE_DASHBOARD_ID]",
        "SELECT 'user@example.com', 'John', 'Doe', 'viewer', 'Sample Dashboard', '69wx-3kz9-3opj'",
    );
}

#[test]
fn snippets_are_inserted_before_parameters_are_parsed() {
    let env = with(&[
        ("flight_filters", "{carrier=carrier} AND [recent]"),
        ("recent", "{dep_time=timerange}"),
        ("col", "created_at"),
        ("half", "{x=ti"),
        ("open", "a = 1 -- why"),
        ("order", "o"),
    ]);
    let env = with_timerange(input(env, "carrier", text(&["UA"])), "2024-01-01~");
    check(
        PG,
        &env,
        "WHERE [flight_filters]",
        "WHERE carrier = 'UA' AND ((dep_time) >= '2024-01-01T00:00:00')",
    );
    // Inside a parameter's brackets, a snippet's name is the snippet.
    check(PG, &env, "{[col]:day}", "DATE_TRUNC('day', (created_at)::timestamp)::date");
    check(PG, &env, "{[[col]]:day}", "DATE_TRUNC('day', (created_at)::timestamp)::date");
    check(PG, &env, "{[f([col])]:day}", "DATE_TRUNC('day', (f(created_at))::timestamp)::date");
    check(PG, &env, "[half]merange}", "((x) >= '2024-01-01T00:00:00')");
    // A comment at the end does not swallow what follows.
    check(PG, &env, "WHERE [open] AND b = 2", "WHERE a = 1 -- why\n AND b = 2");
    check(LITE, &env, "SELECT [order], [unknown], [order by]", "SELECT o, [unknown], [order by]");
    let usage = expand("[flight_filters] {[col]:aggregation} {x:week}", PG, &env).unwrap().usage;
    assert_eq!(usage.variables, ["carrier", "timerange", "aggregation"]);
    assert_eq!(usage.snippets, ["flight_filters", "recent", "col"]);
    assert_eq!(usage.direct_snippets, ["flight_filters", "col"]);
    let analysed = analyse("[flight_filters] {[col]:aggregation} {x:week}", PG, &env.snippets).unwrap();
    assert_eq!(analysed, usage);
}

#[test]
fn usage_without_values() {
    let env = builtin(with(&[]), &[("ME", None)]);
    let sql = "SELECT {a.b:my_agg}, {x:tz}, [ME], {r.start}, {v} FROM t WHERE {[{y:day}]=timerange_previous} AND {z=v}";
    let usage = analyse(sql, PG, &env.snippets).unwrap();
    assert_eq!(usage.variables, ["my_agg", "tz", "r", "v", "timerange"]);
    assert_eq!(usage.builtin_snippets, ["ME"]);
}

#[test]
fn builtin_values_are_always_literals() {
    let env =
        builtin(with(&[("who", "email = [ME]"), ("quoted", "'[ME]'")]), &[("ME", Some("a'b")), ("NO", None)]);
    check(PG, &env, "[who] OR [NO] IS NULL", "email = 'a''b' OR NULL IS NULL");
    check(PG, &env, "[quoted]", "'[ME]'");
    check(PG, &env, "E[ME]", "E 'a''b'");
    check(PG, &env, "{[[ME]]:day}", "DATE_TRUNC('day', ('a''b')::timestamp)::date");
}

#[test]
fn arguments() {
    let env = with(&[
        ("rate", "SUM($1) / NULLIF(COUNT($2), 0)"),
        ("half", "($1) * 0.5"),
        ("both", "[half($1)] + [half([half($1)])] + '$1'"),
        ("none", "1"),
        ("body", "$1 AND '$1' AND $$ $1 $$"),
    ]);
    check(PG, &env, "[rate(a, f(b, c))]", "SUM(a) / NULLIF(COUNT(f(b, c)), 0)");
    check(
        PG,
        &env,
        "[rate(',', {x:day})]",
        "SUM(',') / NULLIF(COUNT(DATE_TRUNC('day', (x)::timestamp)::date), 0)",
    );
    check(PG, &env, "[both(x)]", "(x) * 0.5 + ((x) * 0.5) * 0.5 + '$1'");
    check(PG, &env, "[none()] [none]", "1 1");
    check(PG, &env, "[body(a -- x\n)]", "a -- x\n AND '$1' AND $$ $1 $$");
    check(MY, &env, "[half(`a``)`)]", "(`a``)`) * 0.5");
    for sql in ["[rate(a)]", "[rate]", "[none(a)]", "[half(a, b)]", "[half()]"] {
        check_faults(PG, &env, sql, &["sql arguments"]);
    }
}

#[test]
fn cycles_and_depth() {
    let env = with(&[("a", "[b]"), ("b", "x [c]"), ("c", "[a]"), ("me", "[me]")]);
    check_faults(PG, &env, "[a]", &["sql cycle"]);
    let error = expand("SELECT [a]", PG, &env).unwrap_err();
    assert!(error.message.contains("[a] → [b] → [c] → [a]"), "{}", error.message);
    check_faults(PG, &env, "[me]", &["sql cycle"]);
    assert!(analyse("[me]", PG, &env.snippets).is_err());

    let mut chain = super::env();
    for level in 1..=11 {
        let text = if level == 11 { "1".to_owned() } else { format!("[s{}]", level + 1) };
        chain.snippets.custom.insert(format!("s{level}"), text);
    }
    check(PG, &chain, "[s2]", "1");
    check_faults(PG, &chain, "[s1]", &["sql depth"]);
}

#[test]
fn rejects_snippets_that_multiply() {
    for leaf in ["", "some text"] {
        let mut bomb = env();
        for level in 1..10 {
            bomb.snippets.custom.insert(format!("s{level}"), format!("[s{}]", level + 1).repeat(20));
        }
        bomb.snippets.custom.insert("s10".to_owned(), leaf.to_owned());
        check_faults(PG, &bomb, "[s1]", &["sql too_large"]);
    }
    let wide = with(&[("double", "$1 $1"), ("much", &"x".repeat(3 << 20))]);
    check_faults(PG, &wide, "[double([double([much])])]", &["sql too_large"]);
    let deep = format!("{}x{}", "{[".repeat(2000), "]:quarter}".repeat(2000));
    check_faults(MY, &env(), &deep, &["sql too_large"]);
    let wide = format!("{{[{}]:quarter}}", "{x:quarter}".repeat(200_000));
    check_faults(MY, &env(), &wide, &["sql too_large"]);
}
