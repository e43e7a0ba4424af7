//! A plane with its own store, and repositories in a folder of its own.

use std::path::PathBuf;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::{Input, OpCtx, Result, RunState, Secret, page};
use landreeve_estate::ops::datasources::datasource_create;
use landreeve_estate::ops::{Datasource, DatasourceDetails, Run};
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::backups::{Backup, BackupFilter, backup_get, backup_list};
use landreeve_protection::repositories::{NewRepository, Origin, Repository, repository_add};
use landreeve_protection::restoring::{NewRestore, restore_start};
use landreeve_protection::{Protection, ProtectionOptions};
use landreeve_testkit::Kit;
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

pub struct World {
    pub kit: Kit,
    pub plane: Protection,
    pub ctx: OpCtx,
    folder: TempDir,
}

impl World {
    pub async fn sqlite() -> World {
        World::over(Kit::new().await).await
    }

    /// With other options.
    pub async fn with(change: impl FnOnce(&mut ProtectionOptions)) -> World {
        World::made(Kit::new().await, change).await
    }

    pub async fn postgres() -> World {
        World::over(Kit::postgres().await).await
    }

    async fn over(kit: Kit) -> World {
        World::made(kit, |_| {}).await
    }

    async fn made(kit: Kit, change: impl FnOnce(&mut ProtectionOptions)) -> World {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ProtectionOptions {
            scratch_dir: folder.path().join("scratch"),
            default_folder: folder.path().join("default"),
            files_dir: folder.path().join("files"),
            max_value_bytes: 1_000_000,
            lock_timeout_seconds: 1,
            ..ProtectionOptions::default()
        };
        change(&mut options);
        let (plane, slot) = landreeve_protection::plane(
            kit.engine(),
            landreeve_testkit::codec(),
            landreeve_testkit::vault(),
            options,
        );
        let kit = kit.reopen_with(vec![plane], landreeve_testkit::drivers()).await;
        kit.start_planes().await;
        World { plane: slot.get().unwrap(), ctx: kit.operator(), kit, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn wanted(&self, name: &str, folder: &str) -> NewRepository {
        NewRepository {
            name: name.to_owned(),
            url: self.path(folder).to_str().unwrap().to_owned(),
            append_only: false,
            shared: false,
            password: None,
        }
    }

    pub async fn add(&self, new: NewRepository) -> Result<Repository> {
        repository_add(&self.plane, &self.ctx, Input::of(new), Origin::New).await
    }

    pub async fn attach(&self, new: NewRepository, password: &Secret) -> Result<Repository> {
        let new = NewRepository { password: Some(password.clone()), ..new };
        repository_add(&self.plane, &self.ctx, Input::of(new), Origin::Existing).await
    }

    /// A SQLite file with this content, and its datasource in a unit.
    pub async fn database(&self, ctx: &OpCtx, name: &str, sql: &str) -> Datasource {
        let path = self.path(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let details = DatasourceDetails {
            name: name.to_owned(),
            database_type: DatabaseType::Sqlite,
            database: Some(path.to_str().unwrap().to_owned()),
            nightly_schema: false,
            ..DatasourceDetails::default()
        };
        datasource_create(&self.kit.estate, ctx, details, Vec::new()).await.unwrap()
    }

    /// Backs up and returns what the catalogue has.
    pub async fn back_up(&self, datasource: &Datasource, new: NewBackup) -> Backup {
        let run = backup_start(&self.plane, &self.ctx, datasource.id, new).await.unwrap();
        assert_eq!(self.ended(run.clone()).await, (RunState::Succeeded, String::new()));
        backup_get(&self.plane, &self.ctx, run.uuid).await.unwrap()
    }

    /// The ids of all backups, the newest first.
    pub async fn listed(&self) -> Vec<Uuid> {
        let filter = BackupFilter::default();
        let all = page::collect(|after| backup_list(&self.plane, &self.ctx, &filter, after)).await.unwrap();
        all.into_iter().map(|backup| backup.uuid).collect()
    }

    pub async fn restore(&self, backup: &Backup, file: &str, compare: bool) -> Result<Run> {
        let database = self.path(file).to_str().unwrap().to_owned();
        let new = NewRestore { compare, ..to(backup, database) };
        restore_start(&self.plane, &self.ctx, new).await
    }

    pub async fn ended(&self, run: Run) -> (RunState, String) {
        let run = self.kit.ended(&run).await;
        (run.state, run.error.map(|error| error.message).unwrap_or_default())
    }
}

/// A restore to this database on the backup's own server.
pub fn to(backup: &Backup, database: String) -> NewRestore {
    NewRestore {
        backup: backup.uuid,
        to: None,
        database,
        name: None,
        schemas: Vec::new(),
        tables: Vec::new(),
        owners: false,
        compare: false,
    }
}

/// Runs each of these functions on both metadata stores.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let world = super::World::postgres().await;
                super::$name(&world).await;
                world.kit.remove().await;
            })*
        }
    };
}

pub(crate) use on_both;
