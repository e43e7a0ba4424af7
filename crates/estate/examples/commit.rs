//! How long the store takes to commit single rows durably, one after another:
//! `commit FILE|postgres://… [COUNT]` prints a line for each, in microseconds.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that may stop at the first error")]

use landreeve_estate::args;
use landreeve_estate::store::{Location, Migrations, Store};
use tokio::time::Instant;

/// Not measured: opening connections, preparing statements, growing files.
const WARM_UP: i64 = 20;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().expect("a file, or the address of a PostgreSQL database");
    let count: i64 = arguments.next().map_or(300, |text| text.parse().expect("a number"));
    let store = Store::open(&Location::parse(&place), &Migrations::with(&[])).await.expect("opens");
    let made = store.write(|tx| {
        Box::pin(async move {
            tx.exec("DROP TABLE IF EXISTS bench_commits", args![]).await?;
            let table = "CREATE TABLE bench_commits (id BIGINT PRIMARY KEY, note TEXT NOT NULL)";
            tx.exec(table, args![]).await.map(drop)
        })
    });
    made.await.expect("a table");
    for id in 0..WARM_UP + count {
        let begun = Instant::now();
        let written = store.write(move |tx| {
            Box::pin(async move {
                let insert = "INSERT INTO bench_commits (id, note) VALUES ($1, $2)";
                tx.exec(insert, args![id, "one row"]).await.map(drop)
            })
        });
        written.await.expect("a commit");
        if id >= WARM_UP {
            println!("{}", begun.elapsed().as_micros());
        }
    }
    store.close().await;
}
