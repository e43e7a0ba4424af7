//! Forgetting, pruning, locks of other programs, append-only repositories.

use std::io::Read as _;
use std::process::Stdio;

use landreeve_core::vault::{CancellationToken, CheckDepth, RepositorySpec, Vault, VaultErrorKind};
use landreeve_testkit::RestStorage;

use crate::support::{Place, file, files, head, noise, on_every_storage};

on_every_storage! {
    pruning_deletes_in_two_steps
    an_append_only_repository_forgets_nothing
    a_lock_of_another_program_is_seen
}

fn pruning_deletes_in_two_steps(place: &Place) {
    let repository = place.create();
    let kept = repository.save(&head(), files(vec![file("a", noise(1, 2_000_000))])).unwrap();
    let forgotten = repository.save(&head(), files(vec![file("a", noise(2, 6_000_000))])).unwrap();
    repository.forget(std::slice::from_ref(&forgotten.id)).unwrap();
    // Again, and one that never was.
    repository.forget(std::slice::from_ref(&forgotten.id)).unwrap();
    let before = place.files("data");
    let now = head().time;
    let first = repository.prune(now).unwrap();
    assert!(first.bytes_marked > 5_000_000, "{first:?}");
    assert_eq!(first.bytes_deleted, 0);
    let after = place.files("data");
    assert!(before.iter().all(|pack| after.contains(pack)), "a backup that runs meanwhile may need them");
    place.assert_intact();
    // The library looks at the machine's clock, so the second step cannot be waited for here.
    let second = repository.prune(now).unwrap();
    assert_eq!(second.bytes_deleted, 0, "too soon");
    let found: Vec<_> = repository.snapshots().unwrap().into_iter().map(|found| found.id).collect();
    assert_eq!(found, [kept.id]);
    assert!(repository.check(CheckDepth::Data).unwrap().iter().all(|finding| !finding.is_error));
    // What was marked is found again by the next backup that needs it.
    repository.save(&head(), files(vec![file("a", noise(2, 6_000_000))])).unwrap();
    place.assert_intact();
}

fn an_append_only_repository_forgets_nothing(place: &Place) {
    let saved = place.create().save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let spec = RepositorySpec { append_only: true, ..place.spec() };
    let repository = place.repositories.open(&spec, CancellationToken::new()).unwrap();
    let error = repository.forget(std::slice::from_ref(&saved.id)).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::AppendOnly);
    let before = place.files("");
    assert_eq!(repository.prune(head().time).unwrap_err().kind, VaultErrorKind::AppendOnly);
    assert_eq!(place.files(""), before);
    repository.save(&head(), files(vec![file("a", noise(2, 1_000_000))])).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), 2);
    place.assert_intact();
}

fn a_lock_of_another_program_is_seen(place: &Place) {
    let repository = place.create();
    assert_eq!(repository.lock().unwrap(), None);
    // restic locks while it works, here for as long as what it dumps is read.
    let saved = repository.save(&head(), files(vec![file("a", noise(1, 30_000_000))])).unwrap();
    let mut dump =
        place.restic_command(&["dump", saved.id.as_str(), "/a"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = dump.stdout.take().unwrap();
    out.read_exact(&mut [0; 1]).unwrap();
    let lock = repository.lock().unwrap().expect("restic has locked it");
    assert_eq!(lock.name.len(), 64);
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(dump.wait().unwrap().success());
    assert_eq!(repository.lock().unwrap(), None);
}

#[test]
fn a_lock_tells_its_age_in_a_folder() {
    let place = Place::folder();
    let repository = place.create();
    let name = "5".repeat(64);
    std::fs::write(place.path().join("locks").join(&name), "encrypted").unwrap();
    let lock = repository.lock().unwrap().unwrap();
    assert_eq!(lock.name, name);
    assert!(lock.since.unwrap() > head().time);
}

#[test]
fn a_storage_may_refuse_to_delete_and_to_overwrite() {
    let place = Place::rest(RestStorage::that_keeps_all());
    let repository = place.create();
    let first = repository.save(&head(), files(vec![file("a", noise(1, 3_000_000))])).unwrap();
    let second = repository.save(&head(), files(vec![file("a", noise(1, 3_000_000))])).unwrap();
    assert!(second.bytes_added < 20_000);
    let before = place.files("");
    let error = repository.forget(std::slice::from_ref(&first.id)).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unavailable);
    assert!(error.message.contains("refuses DELETE snapshots/"), "{error}");
    assert_eq!(place.files(""), before, "history stays");
    assert_eq!(place.open(&CancellationToken::new()).snapshots().unwrap().len(), 2);
    place.assert_intact();
}

#[test]
fn a_server_may_know_no_ranges() {
    let place = Place::rest(RestStorage::without_ranges());
    let saved = place.create().save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let repository = place.open(&CancellationToken::new());
    let stored = repository.file(&saved.id, "a").unwrap();
    assert!(stored.read_at(300_000, 400_000).unwrap() == noise(1, 1_000_000)[300_000..700_000]);
}

#[test]
fn unfinished_files_are_removed_after_a_day() {
    let place = Place::folder();
    let repository = place.create();
    let unfinished = place.path().join("tmp/1-1");
    std::fs::write(&unfinished, "half").unwrap();
    let written: jiff::Timestamp = unfinished.metadata().unwrap().modified().unwrap().try_into().unwrap();
    repository.prune(written + jiff::SignedDuration::from_hours(23)).unwrap();
    assert!(unfinished.exists());
    repository.prune(written + jiff::SignedDuration::from_hours(25)).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn what_is_written_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::folder();
    place.create().save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for (name, _) in place.files("") {
        let path = std::path::Path::new(&name);
        assert_eq!(mode(path), 0o600, "{name}");
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{name}");
    }
}
