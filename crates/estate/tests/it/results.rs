//! Stored results that were modified, and uploads interrupted by a kill.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use landreeve_core::{ErrorKind, clock};
use landreeve_estate::ops::runs::submit;
use landreeve_estate::ops::sign_in;
use landreeve_estate::runs::NewRun;
use landreeve_estate::{Estate, args, results};
use uuid::Uuid;

use crate::support::{QUERY, Site, exec};

conformance![
    a_damaged_blob_is_never_a_complete_result,
    a_damaged_small_result_is_never_a_complete_result,
    a_result_without_a_checksum_is_read,
];

/// More than one piece of a stream.
fn bytes() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A run that has succeeded with these bytes as its stored result.
async fn kept(site: &Site, estate: &Estate, bytes: &[u8], checksum: bool, blob: bool) -> (Uuid, PathBuf) {
    let new = NewRun::new(&QUERY, landreeve_core::ids::OuId::ROOT, "{}");
    let run = submit(estate, &sign_in::operator(estate), new).await.unwrap();
    let name = format!("results/{}.arrows", run.uuid);
    let output = if checksum {
        let crc32 = crc32fast::hash(bytes);
        format!(
            r#"{{"version":2,"columns":1,"rows":1,"bytes":{},"zone":"UTC","crc32":{crc32}}}"#,
            bytes.len()
        )
    } else {
        format!(r#"{{"version":1,"columns":1,"rows":1,"bytes":{},"zone":"UTC"}}"#, bytes.len())
    };
    let path = site.blobs().join(&name);
    if blob {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let (result, named) = if blob { (None, Some(name)) } else { (Some(bytes.to_vec()), None) };
    exec(
        estate,
        "UPDATE runs SET state = 'succeeded', finished_at = submitted_at, started_at = submitted_at, output = $2, \
         result = $3, result_blob = $4 WHERE id = $1",
        args![run.id, output, result, named],
    )
    .await;
    (run.uuid, path)
}

/// Everything that a reader gets, or why it got less.
async fn read(estate: &Estate, uuid: Uuid) -> Result<Vec<u8>, String> {
    let opened = results::open(estate, uuid).await.map_err(|error| {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        error.message
    })?;
    let mut kept = opened.expect("the run has a result").kept;
    let mut all = Vec::new();
    while let Some(piece) = kept.next().await {
        all.extend(piece.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

async fn a_damaged_blob_is_never_a_complete_result(site: &Site) {
    let estate = site.open().await;
    let whole = bytes();
    let (uuid, path) = kept(site, &estate, &whole, true, true).await;
    assert_eq!(read(&estate, uuid).await.unwrap(), whole);
    type Damage = fn(&Path, Vec<u8>);
    let cases: [(&str, Damage); 5] = [
        ("bytes", |path, _| std::fs::write(path, "").unwrap()),
        ("bytes", |path, whole| std::fs::write(path, &whole[1..]).unwrap()),
        ("damaged", |path, mut whole| {
            whole[0] ^= 1;
            std::fs::write(path, whole).unwrap();
        }),
        ("damaged", |path, mut whole| {
            *whole.last_mut().unwrap() ^= 128;
            std::fs::write(path, whole).unwrap();
        }),
        ("missing", |path, _| std::fs::remove_file(path).unwrap()),
    ];
    for (told, damage) in cases {
        damage(&path, whole.clone());
        let why = read(&estate, uuid).await.expect_err("damage is detected");
        assert!(why.contains(told) && why.contains("damaged"), "{why}");
    }
}

async fn a_damaged_small_result_is_never_a_complete_result(site: &Site) {
    let estate = site.open().await;
    let (uuid, _) = kept(site, &estate, b"a small result", true, false).await;
    assert_eq!(read(&estate, uuid).await.unwrap(), b"a small result");
    for other in ["a small resulT", "a small resul", ""] {
        let sql = "UPDATE runs SET result = $2 WHERE uuid = $1";
        exec(&estate, sql, args![uuid, other.as_bytes().to_vec()]).await;
        assert!(read(&estate, uuid).await.expect_err(other).contains("damaged"));
    }
}

async fn a_result_without_a_checksum_is_read(site: &Site) {
    let estate = site.open().await;
    let (uuid, path) = kept(site, &estate, b"an old result", false, true).await;
    assert_eq!(read(&estate, uuid).await.unwrap(), b"an old result");
    std::fs::write(path, "").unwrap();
    assert!(read(&estate, uuid).await.expect_err("its length is known").contains("damaged"));
}

#[tokio::test]
async fn interrupted_uploads_are_removed_and_nothing_else() {
    let site = Site::sqlite();
    let estate = site.open().await;
    let folder = site.blobs().join("results");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["a.arrows", "a.arrows#1", "b.arrows#27", "c#x", "d#", "#e"] {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    let hour = Duration::from_secs(3_600);
    let written = std::fs::metadata(folder.join("a.arrows#1")).unwrap().modified().unwrap();
    let at = |time: std::time::SystemTime| {
        let micros = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        clock::from_micros(i64::try_from(micros).unwrap())
    };
    assert_eq!(estate.blobs().remove_interrupted(at(written - hour)).await.unwrap(), 0, "they may continue");
    assert_eq!(estate.blobs().remove_interrupted(at(written + hour)).await.unwrap(), 2);
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["#e", "a.arrows", "c#x", "d#"]);
}
