//! Every keyword as a name: wherever a server accepts one, so does the gate.

use landreeve_core::datasource::SqlDialect;

use super::{Server, check};

/// Puts each keyword for `%` in each template. Checks that the gate lets every statement through that the server runs.
async fn keywords_are_names_where_the_server_says(
    server: &mut Server,
    dialect: SqlDialect,
    keywords: &[String],
    templates: &[&str],
) {
    let mut accepted = 0;
    let mut refused = Vec::new();
    for template in templates {
        let before = accepted;
        for keyword in keywords {
            let sql = template.replace('%', keyword);
            if server.ask(&sql).await.is_none() {
                continue;
            }
            accepted += 1;
            if let Err(error) = check(&sql, dialect) {
                refused.push(format!("{sql}: {error}"));
            }
        }
        assert!(accepted > before, "{dialect:?} accepts no keyword in {template}");
    }
    assert!(refused.is_empty(), "{dialect:?} refuses what only reads:\n{}", refused.join("\n"));
    assert!(accepted > 10 * templates.len(), "{accepted} accepted statements are too few");
}

#[tokio::test]
async fn keywords_are_names_where_postgresql_says() {
    const TEMPLATES: [&str; 42] = [
        "with % as (select 1 as a) select a from %",
        "with %(a) as (select 1) select a from %",
        "with recursive % as (select 1 as a) select a from %",
        "with recursive %(%) as (select 1) select % from %",
        "with x as (select 1), % as not materialized (select 2) table %",
        "with x(%) as (select 1) select x.% from x",
        "with x as (select 1 as %) select (%) + 1, (%), % from x",
        "with x as materialized (select 1 as %) select % from x",
        "with U&\"\\0078\" as (select 1 as %) select % from x",
        "with recursive x(%) as (select 1 union all select % + 1 from x where % < 3) search depth first by % set o \
         select count(*) from x",
        "with recursive x(a) as (select 1 union all select a + 1 from x where a < 3) search breadth first by a set % \
         select count(*) from x",
        "with recursive x(%) as (select 1 union all select % from x) cycle % set m using p select 1 from x",
        "with recursive x(a) as (select 1 union all select a from x) cycle a set % to 'into' default 'x' using p \
         select 1 from x",
        "with recursive x(a) as (select 1 union all select a from x) cycle a set m using %, y as (select 1) table y",
        "select 1 as %",
        "select 1 %",
        "select 1 as %, 2 as %, 3 as as, 4 as into",
        "select % from (select 1 as %) s",
        "select s.%, s. %, s./**/% from (select 1 as %) s",
        "select (s).% from (select 1 as %) s",
        "select (%), (%) + 1 from (select 1 as %) s order by %",
        "select distinct on (%) % from (select 1 as %) s",
        "select count(*) from (select 1 as %) s group by %",
        "select count(*) from (select 1 as %) a join (select 1 as %) b using (%)",
        "select * from (select 1) %",
        "select * from (select 1) as %",
        "select * from (select 1) %(a)",
        "select %.a from (select 1 as a) as %",
        "select row_to_json(%) from (select 1) as %",
        "select sum(1) over % from (select 1) s window % as (order by 1)",
        "select * from json_to_record('{}') as x(% int)",
        "select * from generate_series(1, 2) with ordinality as x(%, n)",
        "select % from (values (1)) as v(%)",
        "select xmlelement(name %)",
        "select xmlelement(name %, xmlattributes(1 as %))",
        "select xmlforest(1 as %), xmlpi(name %)",
        "select cast(1 as int) as %",
        "select 1 as % union select 2 as %",
        "explain select 1 as %",
        "explain (costs off) select % from (select 1 as %) s",
        "explain (analyze, costs off) select % from (select 1 as %) s",
        "((select 1 as %))",
    ];
    let mut server = Server::open(SqlDialect::Postgres).await;
    let list = server.ask("select string_agg(word, ',') from pg_get_keywords()").await;
    let keywords = words(list);
    keywords_are_names_where_the_server_says(&mut server, SqlDialect::Postgres, &keywords, &TEMPLATES).await;
}

#[tokio::test]
async fn keywords_are_names_where_mariadb_says() {
    const TEMPLATES: [&str; 30] = [
        "with % as (select 1 as a) select a from %",
        "with %(a) as (select 1) select a from %",
        "with recursive %(%) as (select 1) select % from %",
        "with x as (select 1), % as (select 2) select * from %",
        "with x(%) as (select 1) select x.% from x",
        "with x as (select 1 as %) select (%) + 1, (%), % from x",
        "with recursive x(%) as (select 1 union select % from x) cycle % restrict select * from x",
        "with recursive x(a, %) as (select 1, 2 union select a, % from x) cycle a, % restrict, % as (select 3) \
         select * from %",
        "select 1 as %",
        "select 1 %",
        "select % from (select 1 as %) s",
        "select s.%, s .% from (select 1 as `%`) s",
        "select `s`.%, `s`.`%` from (select 1 as `%`) s",
        "select (%), (%) + 1 from (select 1 as %) s order by %",
        "select count(*) from (select 1 as %) s group by %",
        "select count(*) from (select 1 as %) a join (select 1 as %) b using (%)",
        "select * from (select 1) %",
        "select * from (select 1) as %",
        "select %.a from (select 1 as a) as %",
        "select %.`a` from (select 1 as a) %",
        "select sum(1) over % from (select 1) s window % as (order by 1)",
        "select substring('abc' from 1 for %) from (select 1 as %) s",
        "select substring((select 'abc') from 1 for %) from (select 1 as %) s",
        "select mid('abc' from % for %) from (select 1 as %) s",
        "select @%, @`%`, @'%', @%.%",
        "select @% as %",
        "select 1 as % union select 2 as %",
        "explain select 1 as %",
        "explain format=json select % from (select 1 as %) s",
        "((select 1 as %))",
    ];
    let mut server = Server::open(SqlDialect::MySql).await;
    let mut keywords = Vec::new();
    let list = "select group_concat(word) from (select word from information_schema.keywords order by word limit 200 \
                offset";
    for offset in [0, 200, 400, 600, 800] {
        keywords.extend(words(server.ask(&format!("{list} {offset}) w")).await));
    }
    keywords.retain(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
    keywords_are_names_where_the_server_says(&mut server, SqlDialect::MySql, &keywords, &TEMPLATES).await;
}

#[tokio::test]
async fn keywords_are_names_where_sqlite_says() {
    const TEMPLATES: [&str; 20] = [
        "with % as (select 1 as a) select a from %",
        "with %(a) as (select 1) select a from %",
        "with recursive %(%) as (select 1) select % from %",
        "with x as (select 1), % as not materialized (select 2) select * from %",
        "with x(%) as (select 1) select x.% from x",
        "with x as (select 1 as %) select (%) + 1, (%), % from x",
        "with [%] as (select 1 as [%]) select `%` from \"%\"",
        "select 1 as %",
        "select 1 %",
        "select % from (select 1 as %) s",
        "select s.%, s. % from (select 1 as %) s",
        "select (%), (%) + 1 from (select 1 as %) s order by %",
        "select count(*) from (select 1 as %) s group by %",
        "select count(*) from (select 1 as %) a join (select 1 as %) b using (%)",
        "select * from (select 1) %",
        "select * from (select 1) as %",
        "select %.a from (select 1 as a) as %",
        "select sum(1) over % from (select 1) s window % as (order by 1)",
        "select 1 as % union select 2 as %",
        "explain select 1 as %",
    ];
    const KEYWORDS: &str = "abort,action,add,after,all,alter,always,analyze,and,as,asc,attach,autoincrement,before,begin,\
        between,by,cascade,case,cast,check,collate,column,commit,conflict,constraint,create,cross,current,current_date,\
        database,default,deferrable,deferred,delete,desc,detach,distinct,do,drop,each,else,end,escape,except,exclude,\
        exclusive,exists,explain,fail,filter,first,following,for,foreign,from,full,generated,glob,group,groups,having,if,\
        ignore,immediate,in,index,indexed,initially,inner,insert,instead,intersect,into,is,isnull,join,key,last,left,like,\
        limit,match,materialized,natural,no,not,nothing,notnull,null,nulls,of,offset,on,or,order,others,outer,over,\
        partition,plan,pragma,preceding,primary,query,raise,range,recursive,references,regexp,reindex,release,rename,\
        replace,restrict,returning,right,rollback,row,rows,savepoint,select,set,table,temp,then,ties,to,transaction,\
        trigger,unbounded,union,unique,update,using,vacuum,values,view,virtual,when,where,window,with,without";
    let keywords = words(Some(vec![Some(KEYWORDS.to_owned())]));
    let mut server = Server::open(SqlDialect::Sqlite).await;
    keywords_are_names_where_the_server_says(&mut server, SqlDialect::Sqlite, &keywords, &TEMPLATES).await;
}

fn words(list: super::Answer) -> Vec<String> {
    let list = list.and_then(|row| row.into_iter().next()).flatten().unwrap_or_default();
    list.split(',').filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}
