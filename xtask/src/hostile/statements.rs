//! Hostile statements on each target.

use super::bombs::{Action, Bomb};
use super::caller::Target;

/// Statements over the server's own data, at most 64 KiB long.
pub fn engine() -> Vec<Bomb> {
    let strpos = "select strpos(repeat('ab', 4000000), repeat('ab', 2000000) || 'c')";
    let chain = format!("select {} from (select repeat('x', 4000000) t)", vec!["t"; 200].join(" || "));
    let concat = format!("select concat({}) from (select repeat('x', 4000000) t)", vec!["t"; 200].join(", "));
    let lists = format!("select {} from (select array[repeat('x', 8000000)] l)", vec!["l"; 100].join(" || "));
    let columns = format!("select {}", columns(200, "repeat('x', 8000000)"));
    // Each would become twice as large at every level while it is planned.
    let coalesce =
        format!("select {} from generate_series(1, 3) g(v)", within("coalesce(", "v", ", v + 1)", 40));
    let case = format!(
        "select {} from generate_series(1, 3) g(v)",
        within("case when ", "v", " between 0 and 1 then 1 end", 40)
    );
    let calls = format!("select {}", within("f(g(", "1", "))", 100));
    let mut bombs = fixed(
        Target::Delivery,
        &[
            ("COALESCE in COALESCE", &coalesce),
            ("BETWEEN in CASE", &case),
            ("functions in functions", &calls),
            (
                "an array of a fixed size",
                "select try_cast(make_array(v) as bigint[2147483647]) is null from generate_series(1, 8000) g(v)",
            ),
            (
                "an array of a fixed size by name",
                "select arrow_cast(make_array(v), 'FixedSizeList(200000000, Int64)') from generate_series(1, 8) g(v)",
            ),
            (
                "replace that grows a thousandfold",
                "select replace(repeat('x', 16000000), 'x', repeat('y', 1000))",
            ),
            ("replace in 8 MB", "select replace(repeat('x', 8000000), 'x', repeat('y', 1000))"),
            (
                "regexp_replace in 8 MB",
                "select regexp_replace(repeat('x', 8000000), 'x', repeat('y', 1000), 'g')",
            ),
            ("chain of ||", &chain),
            ("concat of 200", &concat),
            ("chain of || with arrays", &lists),
            ("200 columns of 8 MB", &columns),
            (
                "array_agg of 8 MB",
                "select array_agg(repeat('x', 8000000) || value) from generate_series(1, 1000)",
            ),
            ("array_agg of numbers", "select array_agg(value) from generate_series(1, 1000000000)"),
            (
                "string_agg of 8 MB",
                "select string_agg(repeat('x', 8000000), ',') from generate_series(1, 1000)",
            ),
            (
                "cross join",
                "select a.value, b.value from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
            ),
            (
                "cross join of texts",
                "select repeat('x', 10000) || a.value, b.value from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
            ),
            (
                "sort of a cross join",
                "select a.value x, b.value y from generate_series(1, 100000) a, generate_series(1, 100000) b order by y, x",
            ),
            (
                "distinct of many",
                "select count(distinct repeat('x', 100) || value) from generate_series(1, 100000000)",
            ),
            (
                "recursion that doubles",
                "with recursive r as (select 'x' t union all select t || t from r) select max(length(t)) from r",
            ),
            ("strpos in 8 MB", strpos),
        ],
    );
    bombs.push(Bomb::new(
        "engine: four concurrent strpos in 8 MB",
        Action::Concurrent(Target::Delivery, vec![strpos.to_owned(); 4]),
    ));
    // 64 KiB is the limit for the text of such a statement.
    bombs.extend(nested(Target::Delivery, 15_000));
    bombs
}

pub fn postgres() -> Vec<Bomb> {
    let columns_200 = format!("select {} from generate_series(1, 100)", columns(200, "repeat('x', 1000000)"));
    let columns_1600 = format!("select {} from generate_series(1, 1000)", columns(1600, "repeat('x', 1000)"));
    let mut bombs = fixed(
        Target::Postgres,
        &[
            ("one value of 1 GB", "select repeat('x', 1000000000)"),
            ("values of 60 MB", "select repeat('x', 60000000) from generate_series(1, 1000)"),
            (
                "a value of 256 MB that does not compress",
                "select string_agg(md5(i::text), '') from generate_series(1, 8000000) i",
            ),
            ("200 columns of 1 MB", &columns_200),
            ("1,600 columns", &columns_1600),
            (
                "cross join with wide rows",
                "select repeat('x', 10000), a, b from generate_series(1, 100000) a, generate_series(1, 100000) b",
            ),
            ("rows of nulls", "select null::text from generate_series(1, 1000000000)"),
            ("array of 1 MB texts", "select array_fill(repeat('x', 1000000), array[500])"),
            ("array of 20 million numbers", "select array_agg(i) from generate_series(1, 20000000) i"),
            (
                "array of records",
                "select array(select row(i, repeat('x', 1000)) from generate_series(1, 100000) i)",
            ),
            ("bytea of 500 MB", "select convert_to(repeat('x', 500000000), 'UTF8')"),
            ("jsonb of 200 MB", "select to_jsonb(repeat('x', 200000000))"),
            ("json of 200 MB of quotes", "select to_json(repeat('\"', 200000000))"),
            (
                "json_agg of a million rows",
                "select json_agg(json_build_object('i', i, 't', repeat('x', 200))) from generate_series(1, 1000000) i",
            ),
            ("bits", "select repeat('10', 40000000)::varbit"),
            ("numbers of 100,000 digits", "select 10::numeric ^ 100000 + i from generate_series(1, 10000) i"),
            ("an error of 100 MB", "select ('x' || repeat('y', 100000000))::int"),
            ("control characters", "select repeat(chr(1), 100000000)"),
        ],
    );
    let slow = "select repeat('x', 1000000) from generate_series(1, 1000)";
    bombs.push(Bomb::new("PostgreSQL: a slow reader", Action::SlowReader(Target::Postgres, slow.to_owned())));
    bombs.push(Bomb::new(
        "PostgreSQL: four concurrent statements with values of 60 MB",
        Action::Concurrent(
            Target::Postgres,
            vec!["select repeat('x', 60000000) from generate_series(1, 20)".to_owned(); 4],
        ),
    ));
    bombs.extend(nested(Target::Postgres, 200_000));
    bombs
}

pub fn mariadb() -> Vec<Bomb> {
    const SERIES: &str = "with recursive n as (select 1 i union all select i + 1 from n where i < 900)";
    let eight = format!("select {}", columns(8, "repeat('x', 60000000)"));
    let many = format!("{SERIES} select repeat('x', 60000000) from n");
    let wide = format!("{SERIES} select rpad('x', 100000, 'y'), a.i x, b.i y from n a, n b");
    let columns_2000 = format!("{SERIES} select {} from n", columns(2000, "repeat('x', 1000)"));
    let group = format!("{SERIES} select group_concat(repeat('x', 1000000)) from n");
    let array = format!("{SERIES} select json_arrayagg(repeat('x', 1000)) from n a, n b");
    let nulls = format!("{SERIES} select null x from n a, n b, n c");
    let mut bombs = fixed(
        Target::MariaDb,
        &[
            ("a value of 60 MB", "select repeat('x', 60000000)"),
            ("one value of 1 GB", "select repeat('x', 1000000000)"),
            ("eight columns of 60 MB", &eight),
            ("values of 60 MB", &many),
            ("group_concat", &group),
            ("json_arrayagg", &array),
            ("recursion with wide rows", &wide),
            ("2,000 columns", &columns_2000),
            ("rows of nulls", &nulls),
            ("hex of 300 MB", "select hex(repeat('x', 300000000))"),
            ("binary value of 500 MB", "select cast(repeat('x', 500000000) as binary)"),
            ("control characters", "select repeat(char(1), 100000000)"),
        ],
    );
    bombs.extend(nested(Target::MariaDb, 200_000));
    bombs
}

pub fn sqlite() -> Vec<Bomb> {
    const SERIES: &str = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)";
    let text = "printf('%.*c', 1000000, 'x')";
    let columns_2000 = format!("select {}", columns(2000, text));
    let group = format!("{SERIES} select group_concat(printf('%.*c', 900, 'x')) from n");
    let array = format!("{SERIES} select json_group_array(printf('%.*c', 900, 'x')) from n");
    let wide = format!("{SERIES} select printf('%.*c', 10000, 'x'), a.i, b.i from n a, n b");
    let sort = format!("{SERIES} select {text} || i from n order by 1");
    let nulls = format!("{SERIES} select null from n a, n b");
    let many: Vec<String> = (0..180).map(|at| format!("max(hex(zeroblob({})))", 30_000_000 + at)).collect();
    let many = format!("select {}", many.join(", "));
    let held: Vec<String> = (0..20).map(|at| format!("randomblob(60000000) c{at}")).collect();
    let held = format!("select length(c0) + length(c19) from (select {} limit 1)", held.join(", "));
    let part = "(select hex(zeroblob(30000000)) a, replace(hex(zeroblob(15000000)), '1', '0') || '1' b)";
    let instr = format!("select instr(a, b) from {part}");
    let replace = format!("select length(replace(a, b, 'x')) from {part}");
    let trim = format!("select length(trim(a, b)) from {part}");
    let zone = "select landreeve_tz(printf('%.*c', 60000000, 'x'), 'UTC', 'UTC')";
    let mut bombs = fixed(
        Target::Sqlite,
        &[
            ("180 aggregates of 60 MB", &many),
            ("20 values of 60 MB at one time", &held),
            ("instr in 60 MB", &instr),
            ("replace in 60 MB", &replace),
            ("trim of 60 MB", &trim),
            ("a time of 60 MB", zone),
            ("printf of 1 GB", "select printf('%1000000000d', 1)"),
            ("zeroblob of 900 MB", "select zeroblob(900000000)"),
            ("hex of a zeroblob", "select hex(zeroblob(400000000))"),
            ("quote of a zeroblob", "select quote(zeroblob(400000000))"),
            ("random bytes", "select randomblob(500000000)"),
            ("printf of 900 MB", "select printf('%.*c', 900000000, 'x')"),
            ("replace that grows", "select replace(hex(zeroblob(10000)), '0', hex(zeroblob(10000)))"),
            ("group_concat", &group),
            ("json_group_array", &array),
            ("2,000 columns of 1 MB", &columns_2000),
            ("cross join with wide rows", &wide),
            ("sort of wide rows", &sort),
            ("rows of nulls", &nulls),
            (
                "recursion that doubles",
                "with recursive r(t) as (select 'x' union all select t || t from r) select t from r",
            ),
            (
                "instr in 1 MB",
                "select instr(printf('%.*c', 1000000, 'a'), printf('%.*c', 500000, 'a') || 'b')",
            ),
        ],
    );
    bombs.extend(nested(Target::Sqlite, 200_000));
    bombs
}

fn fixed(target: Target, statements: &[(&str, &str)]) -> Vec<Bomb> {
    let bomb = |(name, sql): &(&str, &str)| {
        let action = Action::Sequence(target, vec![(*sql).to_owned()]);
        Bomb::new(format!("{}: {name}", target.name()), action)
    };
    statements.iter().map(bomb).collect()
}

/// An expression inside itself.
fn within(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// `expression as c1, expression as c2, …`
fn columns(count: usize, expression: &str) -> String {
    (1..=count).map(|number| format!("{expression} as c{number}")).collect::<Vec<_>>().join(", ")
}

/// Statements with deeply nested syntax, which can use up the stack of a parser or of anything that walks its result.
fn nested(target: Target, depth: usize) -> Vec<Bomb> {
    let some = depth / 4;
    let statements = [
        ("nested parentheses", format!("select {}1{}", "(".repeat(some), ")".repeat(some))),
        ("a long sum", format!("select 1{}", "+1".repeat(depth))),
        ("a long list", format!("select 1 where 1 in (0{})", ",1".repeat(depth))),
        ("a chain of NOT", format!("select {}true", "not ".repeat(some))),
        ("a chain of UNION ALL", format!("select 1{}", " union all select 1".repeat(depth / 10))),
        (
            "nested subqueries",
            format!(
                "select * from {}(select 1 x) t{}",
                "(select * from ".repeat(some / 10),
                ") t".repeat(some / 10)
            ),
        ),
    ];
    let statements = statements.each_ref().map(|(name, sql)| (*name, sql.as_str()));
    fixed(target, &statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_columns() {
        assert_eq!(columns(2, "1"), "1 as c1, 1 as c2");
    }

    #[test]
    fn statements_are_as_long_as_their_target_accepts() {
        for (bombs, limit) in
            [(engine(), 64 << 10), (postgres(), 1 << 20), (mariadb(), 1 << 20), (sqlite(), 1 << 20)]
        {
            for bomb in bombs {
                if let Action::Sequence(_, statements) | Action::Concurrent(_, statements) = &bomb.action {
                    let longest = statements.iter().map(String::len).max();
                    assert!(longest.is_some_and(|longest| longest <= limit), "{}: {longest:?}", bomb.name);
                }
            }
        }
    }
}
