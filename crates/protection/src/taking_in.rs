//! Enters the backups that are in a repository into the catalogue: of an attached repository all, of another one those whose
//! run was killed after it had saved them.

use std::collections::HashSet;

use landreeve_core::vault::{
    CancellationToken, Repository as Opened, SnapshotId, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_core::{Error, Result};
use landreeve_estate::args;
use tokio::sync::mpsc;

use crate::backups::{self, Found};
use crate::ids::RepositoryId;
use crate::manifest::{Manifest, TAG};
use crate::plane::Protection;
use crate::repositories::{self, Repository};

/// Manifests that were read and not entered yet. One may have 256 MiB.
const AHEAD: usize = 1;
/// Maximum number of snapshots whose manifest cannot be read that are told one by one.
const MAX_TOLD: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct TakenIn {
    pub entered: u64,
    /// Why others could not be entered.
    pub unreadable: Vec<String>,
}

pub(crate) async fn take_in(
    plane: &Protection,
    repository: &Repository,
    stop: CancellationToken,
) -> std::result::Result<TakenIn, Stopped> {
    let spec = repositories::spec(plane, repository).await?;
    let known = known(plane, repository.id).await?;
    let vault = plane.vault();
    let (found, mut founds) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let opened = vault.open(&spec, stop)?;
        read(&*opened, &known, |read| found.blocking_send(read).is_ok())
    });
    let mut taken = TakenIn::default();
    // If this ends early, the reader cannot send any more, and ends as well.
    while let Some(found) = founds.recv().await {
        match found {
            Ok(found) => {
                backups::enter(plane, repository.id, found).await?;
                taken.entered += 1;
            }
            Err(why) if taken.unreadable.len() < MAX_TOLD => taken.unreadable.push(why),
            Err(_) => {}
        }
    }
    reading.await.map_err(Error::internal)??;
    Ok(taken)
}

/// Why it ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    Vault(VaultError),
    Store(Error),
}

impl Stopped {
    pub fn into_error(self) -> Error {
        match self {
            Stopped::Vault(error) => error.into_error(),
            Stopped::Store(error) => error,
        }
    }
}

impl From<VaultError> for Stopped {
    fn from(error: VaultError) -> Stopped {
        Stopped::Vault(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Store(error)
    }
}

async fn known(plane: &Protection, repository: RepositoryId) -> Result<HashSet<String>> {
    let sql = "SELECT snapshot_id FROM backups WHERE repository_id = $1";
    let rows = plane.estate().store().read().await?.all(sql, args![repository]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// The manifests of our snapshots that are not known, until `each` says that it wants no more.
fn read(
    opened: &dyn Opened,
    known: &HashSet<String>,
    mut each: impl FnMut(std::result::Result<Found, String>) -> bool,
) -> VaultResult<()> {
    for snapshot in own(opened)?.into_iter().filter(|snapshot| !known.contains(snapshot.as_str())) {
        let read = match Manifest::read(opened, &snapshot) {
            Ok(manifest) => Ok(Found { snapshot, manifest, made: None }),
            Err(error) if matches!(error.kind, VaultErrorKind::Damaged | VaultErrorKind::NotFound) => {
                Err(error.message)
            }
            Err(error) => return Err(error),
        };
        if !each(read) {
            break;
        }
    }
    Ok(())
}

/// The snapshots that are backups of ours.
fn own(opened: &dyn Opened) -> VaultResult<Vec<SnapshotId>> {
    let all = opened.snapshots()?.into_iter();
    let own = all.filter(|snapshot| snapshot.head.tags.iter().any(|tag| tag == TAG));
    Ok(own.map(|snapshot| snapshot.id).collect())
}
