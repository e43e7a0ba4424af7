//! What fails leaves no snapshot, and a repository in which restic finds nothing wrong.

use std::io::Cursor;

use landreeve_core::Secret;
use landreeve_core::vault::{
    Address, CancellationToken, CheckDepth, NewFile, NewFiles, RepositorySpec, SnapshotId, StorageLogin,
    Vault, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_testkit::RestStorage;
use landreeve_vault::Repositories;

use crate::support::{Broken, Place, file, files, head, noise, on_every_storage};

on_every_storage! {
    a_source_that_fails_leaves_no_snapshot
    a_cancel_leaves_no_snapshot
    a_repository_is_made_in_an_empty_place_only
    a_repository_is_opened_where_there_is_one_with_its_password
    what_does_not_exist_is_not_found
    a_cancelled_check_is_no_finding
    damage_is_found
}

/// A file whose content is not what it says.
fn odd(path: &str, size: u64, content: Vec<u8>) -> VaultResult<NewFile> {
    Ok(NewFile { path: path.to_owned(), size, content: Box::new(Cursor::new(content)) })
}

fn a_source_that_fails_leaves_no_snapshot(place: &Place) {
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
    let repository = place.create();
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

fn a_cancel_leaves_no_snapshot(place: &Place) {
    drop(place.create());
    for at in 0..4_u64 {
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
    }
    place.assert_intact();
}

fn a_repository_is_made_in_an_empty_place_only(place: &Place) {
    drop(place.create());
    let exists = |why: &str| {
        let error = place.repositories.create(&place.spec()).err().unwrap();
        assert_eq!(error.kind, VaultErrorKind::Exists);
        assert!(error.message.ends_with(why), "{error}");
    };
    exists("already has a repository");
    let (config, _) = place.files("config").pop().unwrap();
    // What an interrupted one left is no obstacle: folders, and a key that opens nothing.
    place.change(&config, |_| None);
    let repository = place.create();
    repository.save(&head(), files(vec![file("a", "1")])).unwrap();
    place.assert_intact();
    place.change(&config, |_| None);
    exists("is not empty");
}

fn a_repository_is_opened_where_there_is_one_with_its_password(place: &Place) {
    let open =
        |spec: &RepositorySpec| place.repositories.open(spec, CancellationToken::new()).err().unwrap().kind;
    assert_eq!(open(&place.spec()), VaultErrorKind::Missing);
    drop(place.create());
    for wrong in ["wrong", "", "correct horse battery staple "] {
        let spec = RepositorySpec { password: Secret::new(wrong), ..place.spec() };
        assert_eq!(open(&spec), VaultErrorKind::WrongPassword, "{wrong:?}");
    }
}

fn what_does_not_exist_is_not_found(place: &Place) {
    let repository = place.create();
    let saved = repository.save(&head(), files(vec![file("a/b", "1")])).unwrap();
    let none = SnapshotId::parse(&"0".repeat(64)).unwrap();
    for (snapshot, path) in
        [(&none, "a/b"), (&saved.id, "a"), (&saved.id, "b"), (&saved.id, "a/b/c"), (&saved.id, "")]
    {
        let error = place.open(&CancellationToken::new()).file(snapshot, path).err().unwrap();
        assert_eq!(error.kind, VaultErrorKind::NotFound, "{path}: {error}");
    }
}

fn a_cancelled_check_is_no_finding(place: &Place) {
    place.create().save(&head(), files(vec![file("a", noise(3, 1_500_000))])).unwrap();
    let stop = CancellationToken::new();
    let repository = place.open(&stop);
    stop.cancel();
    let error = repository.check(CheckDepth::Data).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Cancelled, "{error}");
}

/// What becomes of a pack.
type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

fn damage_is_found(place: &Place) {
    let repository = place.create();
    let saved = repository.save(&head(), files(vec![file("a", noise(3, 1_500_000))])).unwrap();
    let (largest, _) = place.files("data").into_iter().max_by_key(|(_, size)| *size).unwrap();
    let mut whole = Vec::new();
    place.change(&largest, |bytes| {
        whole.clone_from(&bytes);
        Some(bytes)
    });
    let cases: [(&str, Damage); 3] = [
        ("a flipped byte", |mut bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            Some(bytes)
        }),
        ("a pack that was cut", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("an empty pack", |_| Some(Vec::new())),
    ];
    for (case, damage) in cases {
        place.change(&largest, damage);
        let repository = place.open(&CancellationToken::new());
        let findings = repository.check(CheckDepth::Data).unwrap();
        assert!(findings.iter().any(|finding| finding.is_error), "{case}: {findings:?}");
        let stored = repository.file(&saved.id, "a").unwrap();
        let read: Result<Vec<_>, _> = (0..15).map(|piece| stored.read_at(piece * 100_000, 100_000)).collect();
        assert!(read.is_err(), "{case}: it was read as if nothing were wrong");
        if case == "a flipped byte" {
            // It tries again and again to read the others.
            assert!(place.restic(&["check", "--read-data"]).is_err());
        }
        place.change(&largest, |_| Some(whole.clone()));
    }
    place.assert_intact();
}

#[test]
fn a_folder_that_cannot_be_written_leaves_no_snapshot() {
    let place = Place::folder();
    let repository = place.create();
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
fn a_folder_with_other_files_has_no_room_for_a_repository() {
    let place = Place::folder();
    std::fs::create_dir_all(place.path()).unwrap();
    std::fs::write(place.path().join("notes.txt"), "mine").unwrap();
    let error = place.repositories.create(&place.spec()).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Exists);
    assert!(error.message.ends_with("is not empty"), "{error}");
}

#[test]
fn a_server_is_reached_with_its_login_only() {
    // ann:pass:word
    let storage = RestStorage::with_login("YW5uOnBhc3M6d29yZA==");
    let place = Place::rest(storage);
    let as_ann = |password: &str| {
        let login = StorageLogin { user: "ann".to_owned(), password: Secret::new(password) };
        RepositorySpec { login: Some(login), ..place.spec() }
    };
    for (spec, case) in [(place.spec(), "none"), (as_ann("wrong"), "wrong")] {
        let error = place.repositories.create(&spec).err().unwrap();
        assert_eq!(error.kind, VaultErrorKind::Unavailable, "{case}");
        assert!(error.message.contains("does not accept the user name or password"), "{case}: {error}");
    }
    drop(place.repositories.create(&as_ann("pass:word")).unwrap());
    place.repositories.open(&as_ann("pass:word"), CancellationToken::new()).unwrap();
}

#[test]
fn a_server_that_is_gone_or_out_of_reach_is_unavailable() {
    let place = Place::rest(RestStorage::start());
    drop(place.create());
    let gone = {
        let other = RestStorage::start();
        RepositorySpec {
            address: Address::parse(&format!("rest:http://{}/", other.address())).unwrap(),
            ..place.spec()
        }
    };
    let error = place.repositories.open(&gone, CancellationToken::new()).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
    let stopped = CancellationToken::new();
    stopped.cancel();
    let error = place.repositories.open(&gone, stopped).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Cancelled, "{error}");
    // A command that reaches no other machine.
    let error = Repositories::default().open(&place.spec(), CancellationToken::new()).err().unwrap();
    assert!(error.message.contains("cannot be reached here"), "{error}");
}
