//! What we write, stock restic reads.

use landreeve_core::vault::{CancellationToken, Repository};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Place, file, files, head, noise, on_every_storage};

on_every_storage! {
    restic_restores_what_was_saved
    any_files_come_back
    what_is_unchanged_is_not_stored_again
}

/// Everything that a snapshot has at a path, read in pieces of any size from any position.
fn read(
    repository: &dyn Repository,
    snapshot: &landreeve_core::vault::SnapshotId,
    path: &str,
    piece: usize,
) -> Vec<u8> {
    let stored = repository.file(snapshot, path).unwrap();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < stored.size() {
        bytes.extend_from_slice(&stored.read_at(bytes.len() as u64, piece).unwrap());
    }
    assert!(stored.read_at(stored.size(), 10).unwrap().is_empty(), "past the end");
    bytes
}

fn restic_restores_what_was_saved(place: &Place) {
    let repository = place.create();
    // Around the least and the greatest size of a chunk, and odd names.
    let sizes = [0, 1, 64, 131_071, 131_072, 131_073, 524_288, 2_097_152, 2_097_153, 5_000_000];
    let mut content: Vec<(String, Vec<u8>)> = Vec::new();
    for (seed, size) in (1..).zip(sizes) {
        content.push((format!("tables/public/t{size:07}/part-0.parquet"), noise(seed, size)));
    }
    content.push(("tables/\u{fc}ber \"quoted\" \\ back/a b".to_owned(), b"odd".to_vec()));
    content.push(("zzz.json".to_owned(), b"{}".to_vec()));
    content.sort();
    let given = content.iter().map(|(path, bytes)| file(path, bytes.clone())).collect();
    let saved = repository.save(&head(), files(given)).unwrap();
    assert_eq!(saved.files, content.len() as u64);
    assert_eq!(saved.bytes_read, content.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());

    place.assert_intact();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().to_str().unwrap();
    place.restic(&["restore", saved.id.as_str(), "--target", to]).unwrap();
    for (path, bytes) in &content {
        assert!(std::fs::read(target.path().join(path)).unwrap() == *bytes, "{path}, by restic");
        assert!(read(&*repository, &saved.id, path, 100_000) == *bytes, "{path}, by us");
    }
    let listed = place.restic(&["snapshots", "--json"]).unwrap();
    for part in [
        r#""time":"2026-01-15T12:00:00Z""#,
        r#""hostname":"landreeve""#,
        r#""asset=7","estate""#,
        saved.id.as_str(),
    ] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    // And as we list it, after opening it again.
    let listed = place.open(&CancellationToken::new()).snapshots().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, &listed[0].head), (&saved.id, &head()));
}

fn any_files_come_back(place: &Place) {
    let repository = place.create();
    let name = "[a-z0-9 ._-]{1,12}".prop_filter("not allowed", |name| !matches!(name.as_str(), "." | ".."));
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let one = (path, 0..400_000_usize, any::<u64>());
    let all = (prop::collection::vec(one, 0..8), 1..300_000_usize);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&all, |(wanted, piece)| {
            let mut content: Vec<(String, Vec<u8>)> = Vec::new();
            for (path, size, seed) in wanted {
                // A file is no folder.
                let clashes = |other: &str| {
                    other == path
                        || other.starts_with(&format!("{path}/"))
                        || path.starts_with(&format!("{other}/"))
                };
                if !content.iter().any(|(other, _)| clashes(other)) {
                    content.push((path, noise(seed, size)));
                }
            }
            content.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
            let given = content.iter().map(|(path, bytes)| file(path, bytes.clone())).collect();
            let saved = repository.save(&head(), files(given)).unwrap();
            let opened = place.open(&CancellationToken::new());
            for (path, bytes) in &content {
                prop_assert!(read(&*opened, &saved.id, path, piece) == *bytes, "{}", path);
            }
            Ok(())
        })
        .unwrap();
    place.assert_intact();
}

fn what_is_unchanged_is_not_stored_again(place: &Place) {
    let repository = place.create();
    let mut bytes = noise(1, 20_000_000);
    let first = repository.save(&head(), files(vec![file("a", bytes.clone())])).unwrap();
    assert!(first.bytes_added > 20_000_000);
    assert!(read(repository.as_ref(), &first.id, "a", 1_000_000) == bytes);
    let again = repository.save(&head(), files(vec![file("a", bytes.clone())])).unwrap();
    assert!(again.bytes_added < 20_000, "{} bytes for nothing new", again.bytes_added);
    // The same size and time, and another content: a parent would keep the old one.
    bytes[10_000_000] ^= 1;
    let changed = repository.save(&head(), files(vec![file("a", bytes.clone())])).unwrap();
    assert!(changed.bytes_added < 5_000_000, "{} bytes for one", changed.bytes_added);
    // Also by a value that has read the index before.
    assert!(read(repository.as_ref(), &changed.id, "a", 1_000_000) == bytes);
    assert!(read(&*repository_of(place), &changed.id, "a", 1_000_000) == bytes);
    place.assert_intact();
}

fn repository_of(place: &Place) -> Box<dyn Repository> {
    place.open(&CancellationToken::new())
}
