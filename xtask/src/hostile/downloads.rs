//! Concurrent readers of a stored result whose one value is as large as the server accepts.

use std::time::Duration;

use super::caller::{Caller, Ending, Target};

const READERS: usize = 10;
/// Megabytes. Each is tried until one is refused; the largest that was stored is read.
const SIZES: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000];

#[derive(Clone, Copy, Debug)]
pub enum Format {
    Json,
    Csv,
    Parquet,
    Arrow,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Parquet, Self::Arrow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A stored result with one value.
pub struct Stored {
    execution: String,
    pub megabytes: u32,
}

/// Stores larger and larger values of PostgreSQL until one is refused.
pub fn largest_value(caller: &Caller) -> (Vec<Ending>, Option<Stored>) {
    let mut stored = None;
    let mut endings = Vec::new();
    for megabytes in SIZES {
        let sql = format!("select repeat('x', {megabytes}000000)");
        match caller.execute(&caller.postgres, &sql) {
            Ok(Ok(execution)) => {
                stored = Some(Stored { execution, megabytes });
                endings.push(Ending::Succeeded);
                continue;
            }
            Ok(Err(ending)) => endings.push(ending),
            Err(error) => endings.push(Ending::Failed(format!("{megabytes} MB: {error:#}"))),
        }
        break;
    }
    (endings, stored)
}

/// How each of the readers ended.
pub fn read(caller: &Caller, stored: Option<&Stored>, format: Format) -> Vec<Ending> {
    let (Some(stored), Some(access)) = (stored, caller.access(Target::Postgres)) else {
        return vec![Ending::Failed("no value could be stored".to_owned())];
    };
    let one = || caller.read(access, &stored.execution, format.media_type(), Duration::ZERO);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(one)).collect();
        let ending = |read: std::thread::Result<anyhow::Result<Ending>>| match read {
            Ok(Ok(ending)) => ending,
            Ok(Err(error)) => Ending::Failed(format!("{error:#}")),
            Err(_) => Ending::Failed("the reader panicked".to_owned()),
        };
        readers.into_iter().map(|reader| ending(reader.join())).collect()
    })
}
