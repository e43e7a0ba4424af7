//! A condition with bound values that is built step by step, and lists that are read with it page by page. The SQL text
//! comes only from the program; values from requests are bound.

use landreeve_core::{Error, Page, PageOf, Part, Result};

use super::{Arg, Conn, Dialect, Row};

/// Maximum number of rows in a page of a list.
pub const PAGE_ROWS: usize = 200;
/// Maximum total size of a page, measured with `Listing::size`. A single larger row is a page by itself.
pub const PAGE_BYTES: i64 = 1_024 * 1_024;

/// A condition. A new one is true for every row.
#[derive(Debug, Clone)]
pub struct Where {
    dialect: Dialect,
    sql: String,
    args: Vec<Arg>,
}

/// A SELECT that is read in pages: `SELECT columns FROM from WHERE … ORDER BY order`. The order must be total.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    pub columns: &'static str,
    pub from: &'static str,
    pub order: &'static str,
    /// An expression for the size of a row in bytes. `None` if all rows are small.
    pub size: Option<&'static str>,
}

impl Where {
    pub fn new(dialect: Dialect) -> Where {
        Where { dialect, sql: String::from("1 = 1"), args: Vec::new() }
    }

    pub fn sql(&self) -> &str {
        &self.sql
    }

    pub fn args(&self) -> &[Arg] {
        &self.args
    }

    pub fn into_parts(self) -> (String, Vec<Arg>) {
        (self.sql, self.args)
    }

    /// Binds a value and returns its placeholder.
    pub fn bind(&mut self, value: impl Into<Arg>) -> String {
        self.args.push(value.into());
        format!("${}", self.args.len())
    }

    pub fn and(&mut self, condition: &str) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
    }

    /// `$$` is replaced by the value's placeholder.
    pub fn and_value(&mut self, condition: &str, value: impl Into<Arg>) {
        let place = self.bind(value);
        self.and(&condition.replace("$$", &place));
    }

    /// The column has one of these values. No values mean no condition.
    pub fn and_any(&mut self, column: &str, values: impl IntoIterator<Item = Arg>) {
        let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        match places.as_slice() {
            [] => {}
            [one] => self.and(&format!("{column} = {one}")),
            many => self.and(&format!("{column} IN ({})", many.join(", "))),
        }
    }

    /// The column has one of these ids. There can be none, or very many.
    pub fn and_ids(&mut self, column: &str, ids: impl IntoIterator<Item = i64>) {
        let ids = self.ids(ids);
        self.and(&format!("{column} IN ({ids})"));
    }

    /// The column has one of these texts.
    pub fn and_texts(&mut self, column: &str, texts: &[String]) -> Result<()> {
        let list = self.list(texts)?;
        self.and(&match self.dialect {
            Dialect::Sqlite => format!("{column} IN (SELECT value FROM json_each({list}))"),
            Dialect::Postgres => {
                format!("{column} IN (SELECT value FROM json_array_elements_text(CAST({list} AS json)))")
            }
        });
        Ok(())
    }

    /// The column contains this text. Case matters.
    pub fn and_contains(&mut self, column: &str, text: &str) {
        let find = self.dialect.pick("instr", "strpos");
        self.and_value(&format!("{find}({column}, $$) > 0"), text);
    }

    /// The column begins with this text. Case matters.
    pub fn and_begins(&mut self, column: &str, text: &str) {
        let place = self.bind(text);
        self.and(&format!("substr({column}, 1, length({place})) = {place}"));
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn list(&mut self, texts: &[String]) -> Result<String> {
        Ok(self.bind(serde_json::to_string(texts).map_err(Error::internal)?))
    }

    /// Rows after this key, in the order of the columns.
    pub fn and_after(&mut self, columns: &str, key: Vec<Arg>) {
        let places: Vec<String> = key.into_iter().map(|value| self.bind(value)).collect();
        self.and(&format!("({columns}) > ({})", places.join(", ")));
    }

    /// A SELECT of these ids. They are bound as one value, because the number of values in a statement is limited.
    pub fn ids(&mut self, ids: impl IntoIterator<Item = i64>) -> String {
        let list = ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        let place = self.bind(format!("[{list}]"));
        match self.dialect {
            Dialect::Sqlite => format!("SELECT value FROM json_each({place})"),
            Dialect::Postgres => {
                format!("SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST({place} AS json))")
            }
        }
    }

    /// A SELECT of the units at or below these paths. Prefixes are compared for equality, because the order of strings
    /// depends on the database's collation.
    pub fn units(&mut self, paths: &[String]) -> Result<String> {
        if let [path] = paths {
            let place = self.bind(path);
            return Ok(format!("SELECT v.id FROM ous v WHERE substr(v.path, 1, length({place})) = {place}"));
        }
        let place = self.list(paths)?;
        let roots = match self.dialect {
            Dialect::Sqlite => format!("json_each({place}) AS r"),
            Dialect::Postgres => format!("json_array_elements_text(CAST({place} AS json)) AS r(value)"),
        };
        Ok(format!("SELECT v.id FROM ous v JOIN {roots} ON substr(v.path, 1, length(r.value)) = r.value"))
    }

    /// Counts the rows that meet the condition.
    pub async fn count(&self, conn: &mut Conn, from: &str) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {from} WHERE {}", self.sql);
        let rows = conn.select(sql, self.args.clone()).await?;
        rows.first().map_or(Ok(0), |row| row.int(0).map(i64::unsigned_abs))
    }

    /// Reads a numbered page of a list, and counts all its rows.
    pub async fn numbered<T>(
        mut self,
        conn: &mut Conn,
        listing: &Listing,
        page: Page,
        from_row: impl Fn(&Row) -> Result<T>,
    ) -> Result<PageOf<T>> {
        let Listing { columns, from, order, .. } = listing;
        let total = self.count(conn, from).await?;
        let limit = self.bind(page.limit);
        let offset = self.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
        let (condition, args) = self.into_parts();
        let sql = format!(
            "SELECT {columns} FROM {from} WHERE {condition} ORDER BY {order} LIMIT {limit} OFFSET {offset}"
        );
        let rows = conn.select(sql, args).await?;
        let items = rows.iter().map(from_row).collect::<Result<_>>()?;
        Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
    }

    /// Reads the next page of a list. Checks the size of the rows before it reads them.
    pub async fn page<T, K>(
        self,
        conn: &mut Conn,
        listing: &Listing,
        from_row: impl Fn(&Row) -> Result<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Part<T, K>> {
        let Listing { columns, from, order, size } = listing;
        let (condition, args) = self.into_parts();
        let tail = format!("FROM {from} WHERE {condition} ORDER BY {order} LIMIT ${}", args.len() + 1);
        let limited = |limit: usize| {
            let mut args = args.clone();
            args.push(Arg::from(i64::try_from(limit).unwrap_or(i64::MAX)));
            args
        };
        let (limit, cut) = match size {
            None => (PAGE_ROWS + 1, false),
            Some(size) => {
                let sizes = conn.select(format!("SELECT {size} {tail}"), limited(PAGE_ROWS + 1)).await?;
                let sizes = sizes.iter().map(|row| row.int(0)).collect::<Result<Vec<_>>>()?;
                let fit = fitting(&sizes);
                (fit, fit < sizes.len())
            }
        };
        let rows = conn.select(format!("SELECT {columns} {tail}"), limited(limit)).await?;
        let more = cut || rows.len() > PAGE_ROWS;
        let items = rows.iter().take(PAGE_ROWS).map(from_row).collect::<Result<Vec<_>>>()?;
        let next = items.last().filter(|_| more).map(key);
        Ok(Part { items, next })
    }
}

/// How many rows of these sizes fit into a page: at least one.
fn fitting(sizes: &[i64]) -> usize {
    let mut bytes = 0_i64;
    let fit = sizes.iter().take(PAGE_ROWS).take_while(|size| {
        bytes = bytes.saturating_add(**size);
        bytes <= PAGE_BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_rows_that_fit_and_at_least_one() {
        assert_eq!(fitting(&[]), 1);
        assert_eq!(fitting(&[PAGE_BYTES * 9, 1]), 1);
        assert_eq!(fitting(&[PAGE_BYTES / 2, PAGE_BYTES / 2, 1]), 2);
        assert_eq!(fitting(&vec![1; PAGE_ROWS * 2]), PAGE_ROWS);
        assert_eq!(fitting(&[i64::MAX, i64::MAX]), 1);
    }

    #[test]
    fn binds_values_in_order() {
        let mut filter = Where::new(Dialect::Sqlite);
        filter.and_value("a = $$", 1_i64);
        filter.and_any("b", ["x", "y"].map(Arg::from));
        filter.and_any("c", []);
        filter.and_after("d, e", vec![Arg::from("k"), Arg::from(7_i64)]);
        assert_eq!(filter.sql(), "1 = 1 AND a = $1 AND b IN ($2, $3) AND (d, e) > ($4, $5)");
        assert_eq!(filter.args().len(), 5);
    }
}
