//! What fails leaves no snapshot, and a repository in which restic finds nothing wrong.

use std::io::Cursor;

use landreeve_core::Secret;
use landreeve_core::vault::{
    Address, CancellationToken, CheckDepth, NewFile, NewFiles, RepositorySpec, SnapshotId, Vault, VaultError,
    VaultErrorKind, VaultResult,
};
use landreeve_vault::Repositories;

use crate::support::{Broken, Place, file, files, head, noise};

/// A file whose content is not what it says.
fn odd(path: &str, size: u64, content: Vec<u8>) -> VaultResult<NewFile> {
    Ok(NewFile { path: path.to_owned(), size, content: Box::new(Cursor::new(content)) })
}

#[test]
fn a_source_that_fails_leaves_no_snapshot() {
    let broken = |path: &str, size: u64| {
        let content = Box::new(Broken(Cursor::new(noise(7, 3_000_000))));
        Ok(NewFile { path: path.to_owned(), size, content })
    };
    let gone = || Err(VaultError::new(VaultErrorKind::Source, "the database is gone"));
    let long = "n".repeat(256);
    let cases: Vec<(&str, NewFiles, VaultErrorKind)> = vec![
        (
            "an error in a file",
            files(vec![file("a", noise(1, 10)), broken("b", 3_000_000)]),
            VaultErrorKind::Source,
        ),
        ("an error at once", files(vec![gone()]), VaultErrorKind::Source),
        ("an error after files", files(vec![file("a", noise(2, 900_000)), gone()]), VaultErrorKind::Source),
        ("a file that is shorter", files(vec![odd("a", 100, vec![0; 99])]), VaultErrorKind::Source),
        ("a file that is longer", files(vec![odd("a", 100, vec![0; 101])]), VaultErrorKind::Source),
        ("an empty file that is not", files(vec![odd("a", 0, vec![0])]), VaultErrorKind::Source),
        ("a file without content", files(vec![odd("a", 10, Vec::new())]), VaultErrorKind::Source),
        ("names out of order", files(vec![file("b", "1"), file("a", "2")]), VaultErrorKind::Internal),
        ("a name twice", files(vec![file("a", "1"), file("a", "2")]), VaultErrorKind::Internal),
        ("a folder above", files(vec![file("a/../b", "1")]), VaultErrorKind::Internal),
        ("an absolute name", files(vec![file("/etc/passwd", "1")]), VaultErrorKind::Internal),
        ("an empty name", files(vec![file("", "1")]), VaultErrorKind::Internal),
        ("a name that is too long", files(vec![file(&long, "1")]), VaultErrorKind::Internal),
    ];
    let (place, repository) = Place::new();
    for (case, files, kind) in cases {
        let error = repository.save(&head(), files).expect_err(case);
        assert_eq!(error.kind, kind, "{case}: {error}");
        assert!(place.files("snapshots").is_empty(), "{case}");
    }
    place.assert_intact();
    // The next one works.
    repository.save(&head(), files(vec![file("a", noise(7, 3_000_000))])).unwrap();
    assert_eq!(place.files("snapshots").len(), 1);
    place.assert_intact();
}

#[test]
fn a_cancel_leaves_no_snapshot() {
    for at in 0..4_u64 {
        let (place, _) = Place::new();
        let stop = CancellationToken::new();
        let repository = place.open(&stop);
        let given = (0..4_u64).map(move |number| {
            if number == at {
                stop.cancel();
            }
            file(&format!("f{number}"), noise(number, 2_000_000))
        });
        let error = repository.save(&head(), Box::new(given)).unwrap_err();
        assert_eq!(error.kind, VaultErrorKind::Cancelled, "{error}");
        assert!(place.files("snapshots").is_empty());
        place.assert_intact();
    }
}

#[test]
fn a_storage_that_fails_leaves_no_snapshot() {
    let (place, repository) = Place::new();
    // Packs cannot be written: their folder is a file.
    let data = place.path().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, "").unwrap();
    let error = repository.save(&head(), files(vec![file("a", noise(1, 3_000_000))])).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("data"), "{error}");
    assert!(place.files("snapshots").is_empty());
    std::fs::remove_file(&data).unwrap();
    repository.save(&head(), files(vec![file("a", noise(1, 3_000_000))])).unwrap();
    place.assert_intact();
}

#[test]
fn a_repository_is_made_in_an_empty_place_only() {
    let (place, _) = Place::new();
    let error = Repositories.create(&place.spec()).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Exists);
    assert!(error.message.ends_with("already has a repository"), "{error}");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("notes.txt"), "mine").unwrap();
    let spec = RepositorySpec { address: Address::Folder(other.path().to_owned()), ..place.spec() };
    let error = Repositories.create(&spec).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Exists);
    assert!(error.message.ends_with("is not empty"), "{error}");
    // What an interrupted one left is no obstacle: folders, and a key that opens nothing.
    std::fs::remove_file(place.path().join("config")).unwrap();
    Repositories.create(&place.spec()).unwrap().save(&head(), files(vec![file("a", "1")])).unwrap();
    place.assert_intact();
    let config = std::fs::read(place.path().join("config")).unwrap();
    std::fs::remove_file(place.path().join("config")).unwrap();
    assert_eq!(Repositories.create(&place.spec()).err().unwrap().kind, VaultErrorKind::Exists, "it has data");
    std::fs::write(place.path().join("config"), config).unwrap();
    // And opened only where there is one, with its password.
    let open = |spec: &RepositorySpec| Repositories.open(spec, CancellationToken::new()).err().unwrap();
    assert_eq!(open(&spec).kind, VaultErrorKind::Missing);
    let missing = RepositorySpec { address: Address::Folder(other.path().join("none")), ..place.spec() };
    assert_eq!(open(&missing).kind, VaultErrorKind::Missing);
    let wrong = RepositorySpec { password: Secret::new("wrong"), ..place.spec() };
    assert_eq!(open(&wrong).kind, VaultErrorKind::WrongPassword);
    let empty = RepositorySpec { password: Secret::new(""), ..place.spec() };
    assert_eq!(open(&empty).kind, VaultErrorKind::WrongPassword);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let (place, repository) = Place::new();
    let saved = repository.save(&head(), files(vec![file("a/b", "1")])).unwrap();
    let none = SnapshotId::parse(&"0".repeat(64)).unwrap();
    for (snapshot, path) in
        [(&none, "a/b"), (&saved.id, "a"), (&saved.id, "b"), (&saved.id, "a/b/c"), (&saved.id, "")]
    {
        let error = place.open(&CancellationToken::new()).file(snapshot, path).err().unwrap();
        assert_eq!(error.kind, VaultErrorKind::NotFound, "{path}: {error}");
    }
}

#[test]
fn damage_is_found() {
    for (case, damage) in [
        (
            "a flipped byte",
            (|bytes: &mut Vec<u8>| {
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
            }) as fn(&mut Vec<u8>),
        ),
        ("a pack that was cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("an empty pack", Vec::clear),
    ] {
        let (place, repository) = Place::new();
        let saved = repository.save(&head(), files(vec![file("a", noise(3, 1_500_000))])).unwrap();
        let largest =
            place.files("data").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = std::fs::read(&largest).unwrap();
        damage(&mut bytes);
        std::fs::write(&largest, bytes).unwrap();
        let repository = place.open(&CancellationToken::new());
        let findings = repository.check(CheckDepth::Data).unwrap();
        assert!(findings.iter().any(|finding| finding.is_error), "{case}: {findings:?}");
        let stored = repository.file(&saved.id, "a").unwrap();
        let read: Result<Vec<_>, _> = (0..15).map(|piece| stored.read_at(piece * 100_000, 100_000)).collect();
        assert!(read.is_err(), "{case}: it was read as if nothing were wrong");
        assert!(place.restic(&["check", "--read-data"]).is_err(), "{case}");
    }
}
