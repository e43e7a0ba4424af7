//! A plane with its own store, and repositories in a folder of its own.

use std::path::PathBuf;

use landreeve_core::{Input, OpCtx, Result, RunState, Secret};
use landreeve_estate::ops::Run;
use landreeve_protection::repositories::{NewRepository, Origin, Repository, repository_add};
use landreeve_protection::{Protection, ProtectionOptions};
use landreeve_testkit::Kit;
use tempfile::TempDir;

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

    pub async fn postgres() -> World {
        World::over(Kit::postgres().await).await
    }

    async fn over(kit: Kit) -> World {
        let (plane, slot) =
            landreeve_protection::plane(landreeve_testkit::vault(), ProtectionOptions::default());
        let kit = kit.reopen(vec![plane]).await;
        kit.start_planes().await;
        World { plane: slot.get().unwrap(), ctx: kit.operator(), kit, folder: tempfile::tempdir().unwrap() }
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

    pub async fn ended(&self, run: Run) -> (RunState, String) {
        let run = self.kit.ended(&run).await;
        (run.state, run.error.map(|error| error.message).unwrap_or_default())
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
