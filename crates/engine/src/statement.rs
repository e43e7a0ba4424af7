//! Prepares a statement for the planner: parses it, checks that it is a single SELECT that only reads, and fills in the
//! variables.

use datafusion::sql::sqlparser::ast::Statement;
use landreeve_core::source::SourceError;
use landreeve_core::table::Variable;

use crate::flavour::Flavour;
use crate::{reading, variables};

pub fn prepare(
    sql: &str,
    flavour: &Flavour,
    values: &[(String, Variable)],
) -> Result<Statement, SourceError> {
    let mut statement = flavour.parse(sql)?;
    reading::check(&statement)?;
    variables::fill(&mut statement, values)?;
    flavour.translate(&mut statement);
    Ok(statement)
}

#[cfg(test)]
mod tests {
    use landreeve_core::source::SourceErrorKind;
    use landreeve_core::table::Scalar;

    use super::*;
    use crate::flavour::POSTGRESQL;

    fn prepared(sql: &str, variables: &[(&str, Variable)]) -> Result<String, SourceError> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        prepare(sql, &POSTGRESQL, &variables).map(|statement| statement.to_string())
    }

    #[test]
    fn rejects_everything_but_a_single_select() {
        for sql in [
            "",
            ";",
            "select 1; select 2",
            "insert into deployments values (1)",
            "update deployments set id = 1",
            "delete from deployments",
            "drop table deployments",
            "create table x as select 1",
            "create external table x stored as csv location '/etc/passwd'",
            "copy deployments to '/tmp/x'",
            "select 1 into x",
            "with x as (insert into t values (1) returning 1) select * from x",
            "with x as (select 1 into y) select * from x",
            "select * from deployments for update",
            "set datafusion.execution.batch_size = 1",
            "explain select 1",
            "show tables",
            "begin",
            "prepare x as select 1",
        ] {
            assert_eq!(prepared(sql, &[]).unwrap_err().kind, SourceErrorKind::NotReadOnly, "{sql}");
        }
    }

    #[test]
    fn variables_are_values_and_never_sql() {
        let one = |text: &str| Variable::One(Scalar::Text(text.to_owned()));
        assert_eq!(
            prepared("select $a", &[("a", one("x' or '1'='1"))]).unwrap(),
            "SELECT 'x'' or ''1''=''1'"
        );
        let ids = Variable::Many(vec![Scalar::Integer(1), Scalar::Integer(-2)]);
        assert_eq!(
            prepared("select 1 where x in ($ids)", &[("ids", ids.clone())]).unwrap(),
            "SELECT 1 WHERE x IN (1, -2)"
        );
        assert_eq!(
            prepared("select 1 where x = any($ids)", &[("ids", ids.clone())]).unwrap(),
            "SELECT 1 WHERE x IN (1, -2)"
        );
        let none = [("ids", Variable::Many(Vec::new()))];
        assert_eq!(prepared("select 1 where x in ($ids)", &none).unwrap(), "SELECT 1 WHERE false");
        assert_eq!(prepared("select 1 where x not in ($ids)", &none).unwrap(), "SELECT 1 WHERE true");
        assert_eq!(prepared("select $n", &[("n", Variable::Null)]).unwrap(), "SELECT NULL");
        assert_eq!(prepared("select $ids", &[("ids", ids)]).unwrap_err().code.unwrap(), "array_variable");
        assert_eq!(prepared("select $x", &[]).unwrap_err().code.unwrap(), "missing_variable");
        assert_eq!(prepared("select '$x', \"$x\"", &[]).unwrap(), "SELECT '$x', \"$x\"");
    }

    #[test]
    fn rejects_deep_nesting() {
        let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(prepared(&deep, &[]).is_err());
    }
}
