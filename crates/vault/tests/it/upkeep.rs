//! Forgetting, pruning, locks of other programs, append-only repositories.

use landreeve_core::vault::{CancellationToken, CheckDepth, RepositorySpec, Vault, VaultErrorKind};
use landreeve_vault::Repositories;

use crate::support::{Place, file, files, head, noise};

#[test]
fn pruning_deletes_in_two_steps() {
    let (place, repository) = Place::new();
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
    assert!(before.iter().all(|pack| pack.exists()), "a backup that runs meanwhile may need them");
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

#[test]
fn an_append_only_repository_forgets_nothing() {
    let (place, repository) = Place::new();
    let saved = repository.save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let spec = RepositorySpec { append_only: true, ..place.spec() };
    let repository = Repositories.open(&spec, CancellationToken::new()).unwrap();
    let error = repository.forget(std::slice::from_ref(&saved.id)).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::AppendOnly);
    let before = (place.files("data"), place.files("index"), place.files("snapshots"));
    assert_eq!(repository.prune(head().time).unwrap_err().kind, VaultErrorKind::AppendOnly);
    assert_eq!((place.files("data"), place.files("index"), place.files("snapshots")), before);
    repository.save(&head(), files(vec![file("a", noise(2, 1_000_000))])).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), 2);
    place.assert_intact();
}

#[test]
fn a_lock_of_another_program_is_seen() {
    let (place, repository) = Place::new();
    assert_eq!(repository.lock().unwrap(), None);
    // As restic leaves one: its name is a hash, its content is encrypted.
    let name = "5".repeat(64);
    std::fs::write(place.path().join("locks").join(&name), "…").unwrap();
    let lock = repository.lock().unwrap().unwrap();
    assert_eq!(lock.name, name);
    assert!(lock.since > head().time);
}

#[test]
fn unfinished_files_are_removed_after_a_day() {
    let (place, repository) = Place::new();
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
    let (place, repository) = Place::new();
    repository.save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for path in place.files("") {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }
}
