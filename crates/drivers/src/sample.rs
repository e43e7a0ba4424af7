//! The sample data of every estate: TPC-H at scale 0.01 in a SQLite file.
//!
//! Keys, dates and amounts are those of the TPC-H generator. The comments differ from `dbgen`'s: they come from a text
//! pool of 4 MB instead of 300 MB, which would stay in the memory of a small server forever.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, params_from_iter};
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

const SCALE: f64 = 0.01;
const TEXT_POOL: i32 = 4 * 1024 * 1024;
/// Approximate total number of rows, for the progress.
const ROWS: f32 = 86_800.0;
const STEP: u32 = 2000;

#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("the sample file cannot be written: {0}")]
    Io(#[from] std::io::Error),
    #[error("the sample database cannot be written: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("creating the sample was cancelled")]
    Stopped,
}

const TABLES: &str = "
CREATE TABLE region (r_regionkey INTEGER NOT NULL PRIMARY KEY, r_name TEXT NOT NULL, r_comment TEXT NOT NULL);
CREATE TABLE nation (n_nationkey INTEGER NOT NULL PRIMARY KEY, n_name TEXT NOT NULL,
  n_regionkey INTEGER NOT NULL REFERENCES region, n_comment TEXT NOT NULL);
CREATE TABLE part (p_partkey INTEGER NOT NULL PRIMARY KEY, p_name TEXT NOT NULL, p_mfgr TEXT NOT NULL,
  p_brand TEXT NOT NULL, p_type TEXT NOT NULL, p_size INTEGER NOT NULL, p_container TEXT NOT NULL,
  p_retailprice DECIMAL(15,2) NOT NULL, p_comment TEXT NOT NULL);
CREATE TABLE supplier (s_suppkey INTEGER NOT NULL PRIMARY KEY, s_name TEXT NOT NULL, s_address TEXT NOT NULL,
  s_nationkey INTEGER NOT NULL REFERENCES nation, s_phone TEXT NOT NULL, s_acctbal DECIMAL(15,2) NOT NULL,
  s_comment TEXT NOT NULL);
CREATE TABLE partsupp (ps_partkey INTEGER NOT NULL REFERENCES part, ps_suppkey INTEGER NOT NULL REFERENCES supplier,
  ps_availqty INTEGER NOT NULL, ps_supplycost DECIMAL(15,2) NOT NULL, ps_comment TEXT NOT NULL,
  PRIMARY KEY (ps_partkey, ps_suppkey));
CREATE TABLE customer (c_custkey INTEGER NOT NULL PRIMARY KEY, c_name TEXT NOT NULL, c_address TEXT NOT NULL,
  c_nationkey INTEGER NOT NULL REFERENCES nation, c_phone TEXT NOT NULL, c_acctbal DECIMAL(15,2) NOT NULL,
  c_mktsegment TEXT NOT NULL, c_comment TEXT NOT NULL);
CREATE TABLE orders (o_orderkey INTEGER NOT NULL PRIMARY KEY, o_custkey INTEGER NOT NULL REFERENCES customer,
  o_orderstatus TEXT NOT NULL, o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL,
  o_orderpriority TEXT NOT NULL, o_clerk TEXT NOT NULL, o_shippriority INTEGER NOT NULL, o_comment TEXT NOT NULL);
CREATE TABLE lineitem (l_orderkey INTEGER NOT NULL REFERENCES orders, l_partkey INTEGER NOT NULL REFERENCES part,
  l_suppkey INTEGER NOT NULL REFERENCES supplier, l_linenumber INTEGER NOT NULL, l_quantity DECIMAL(15,2) NOT NULL,
  l_extendedprice DECIMAL(15,2) NOT NULL, l_discount DECIMAL(15,2) NOT NULL, l_tax DECIMAL(15,2) NOT NULL,
  l_returnflag TEXT NOT NULL, l_linestatus TEXT NOT NULL, l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL,
  l_receiptdate DATE NOT NULL, l_shipinstruct TEXT NOT NULL, l_shipmode TEXT NOT NULL, l_comment TEXT NOT NULL,
  PRIMARY KEY (l_orderkey, l_linenumber));
";

const INDEXES: &str = "
CREATE INDEX orders_by_date ON orders (o_orderdate);
CREATE INDEX orders_by_customer ON orders (o_custkey);
ANALYZE;
";

/// Writes the file under a temporary name next to `path`, then renames it; an existing file is replaced. `progress` is
/// called with values from 0 to 1; if it returns `false`, the work stops and nothing is left behind.
pub fn write_sample(path: &Path, progress: &mut dyn FnMut(f32) -> bool) -> Result<(), SampleError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    remove(&new)?;
    let written = write(&new, progress);
    if let Err(error) = written {
        let _ = remove(&new);
        return Err(error);
    }
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    progress(1.0);
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, progress: &mut dyn FnMut(f32) -> bool) -> Result<(), SampleError> {
    let connection = Connection::open(path)?;
    // The file is not in use until it is complete, so a crash before that costs nothing.
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch("BEGIN")?;
    connection.execute_batch(TABLES)?;
    let words = Distributions::static_default();
    let pool = TextPool::new(TEXT_POOL, words);
    let mut fill = Fill { connection: &connection, progress, rows: 0 };
    fill.table("region", RegionGenerator::new_with_distributions_and_text_pool(words, &pool).iter())?;
    fill.table("nation", NationGenerator::new_with_distributions_and_text_pool(words, &pool).iter())?;
    fill.table(
        "part",
        PartGenerator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &pool).iter(),
    )?;
    fill.table(
        "supplier",
        SupplierGenerator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &pool).iter(),
    )?;
    fill.table("partsupp", PartSuppGenerator::new_with_text_pool(SCALE, 1, 1, &pool).iter())?;
    fill.table(
        "customer",
        CustomerGenerator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &pool).iter(),
    )?;
    fill.table(
        "orders",
        OrderGenerator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &pool).iter(),
    )?;
    fill.table(
        "lineitem",
        LineItemGenerator::new_with_distributions_and_text_pool(SCALE, 1, 1, words, &pool).iter(),
    )?;
    connection.execute_batch(INDEXES)?;
    connection.execute_batch("COMMIT")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

struct Fill<'a> {
    connection: &'a Connection,
    progress: &'a mut dyn FnMut(f32) -> bool,
    rows: u32,
}

impl Fill<'_> {
    /// A row formats itself as TPC-H text: each value followed by a bar. The columns' affinities turn them back into
    /// numbers.
    fn table(&mut self, name: &str, rows: impl Iterator<Item = impl Display>) -> Result<(), SampleError> {
        let mut insert = None;
        for row in rows {
            let line = row.to_string();
            let values: Vec<&str> = line.trim_end_matches('|').split('|').collect();
            let insert = match &mut insert {
                Some(insert) => insert,
                none => {
                    let places = vec!["?"; values.len()].join(",");
                    none.insert(self.connection.prepare(&format!("INSERT INTO {name} VALUES ({places})"))?)
                }
            };
            insert.execute(params_from_iter(values))?;
            self.rows += 1;
            if self.rows.is_multiple_of(STEP) && !(self.progress)((self.rows as f32 / ROWS).min(0.99)) {
                return Err(SampleError::Stopped);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sample.db");
        let mut last = 0.0;
        write_sample(&path, &mut |done| {
            assert!(done >= last);
            last = done;
            true
        })
        .expect("is written");
        assert!((last - 1.0).abs() < f32::EPSILON);
        let connection = Connection::open(&path).expect("opens");
        let one = |sql: &str| -> String { connection.query_row(sql, [], |row| row.get(0)).expect("runs") };
        assert_eq!(one("SELECT group_concat(n) FROM (SELECT count(*) n FROM region UNION ALL SELECT count(*) FROM nation
            UNION ALL SELECT count(*) FROM part UNION ALL SELECT count(*) FROM supplier UNION ALL
            SELECT count(*) FROM partsupp UNION ALL SELECT count(*) FROM customer UNION ALL SELECT count(*) FROM orders
            UNION ALL SELECT count(*) FROM lineitem)"), "5,25,2000,100,8000,1500,15000,60175");
        assert_eq!(one("SELECT printf('%.2f', sum(l_extendedprice)) FROM lineitem"), "2152189760.47");
        assert_eq!(
            one("SELECT min(l_shipdate) || ' ' || typeof(min(l_shipdate)) FROM lineitem"),
            "1992-01-04 text"
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
    }

    #[test]
    fn cancelling_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sample.db");
        assert!(matches!(write_sample(&path, &mut |_| false), Err(SampleError::Stopped)));
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
    }
}
