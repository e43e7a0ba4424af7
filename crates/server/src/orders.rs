//! What a command asks the protection plane to do: a run, here or in the server that uses the data directory.

use landreeve_core::ids::DatasourceId;
use landreeve_core::vault::CheckDepth;
use landreeve_core::{Input, OpCtx, Result};
use landreeve_estate::ops::Run;
use landreeve_protection::Protection;
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::estate_backup::estate_backup_start;
use landreeve_protection::policies::{Assignment, policy_assign, policy_delete};
use landreeve_protection::restoring::{NewRestore, backup_verify, restore_start};
use landreeve_protection::upkeep::{repository_check, repository_prune};
use serde::{Deserialize, Serialize};

use crate::cli::uuid_of;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restore {
    pub backup: String,
    pub to: Option<i64>,
    pub database: String,
    pub name: Option<String>,
    #[serde(default)]
    pub schemas: Vec<String>,
    #[serde(default)]
    pub tables: Vec<String>,
    pub owners: bool,
    pub compare: bool,
}

impl Restore {
    pub fn wanted(self) -> Result<NewRestore> {
        let Restore { backup, to, database, name, schemas, tables, owners, compare } = self;
        let (backup, to) = (uuid_of("backup", &backup)?, to.map(DatasourceId));
        Ok(NewRestore { backup, to, database, name, schemas, tables, owners, compare })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    CheckRepository { repository: String, read_data: bool },
    PruneRepository { repository: String },
    BackUpEstate { repository: Option<String>, keep: Option<String> },
    BackUp { datasource: i64, repository: Option<String>, keep: Option<String> },
    VerifyBackup { backup: String },
    Restore(Restore),
    AssignPolicy { datasources: Vec<String>, policy: Option<String> },
    DeletePolicy { policy: String },
}

impl Order {
    pub async fn start(self, plane: &Protection, ctx: &OpCtx) -> Result<Run> {
        match self {
            Order::CheckRepository { repository, read_data } => {
                let depth = if read_data { CheckDepth::Data } else { CheckDepth::Structure };
                repository_check(plane, ctx, &repository, depth).await
            }
            Order::PruneRepository { repository } => repository_prune(plane, ctx, &repository).await,
            Order::BackUpEstate { repository, keep } => {
                estate_backup_start(plane, ctx, Input::of(NewBackup { repository, keep })).await
            }
            Order::BackUp { datasource, repository, keep } => {
                let new = Input::of(NewBackup { repository, keep });
                backup_start(plane, ctx, DatasourceId(datasource), new).await
            }
            Order::VerifyBackup { backup } => backup_verify(plane, ctx, uuid_of("backup", &backup)?).await,
            Order::AssignPolicy { datasources, policy } => {
                let policy = policy.map(|text| uuid_of("policy", &text)).transpose()?;
                let item =
                    |text: &String| Ok(Assignment { datasource: uuid_of("datasource", text)?, policy });
                let items = datasources.iter().map(item).collect::<Result<_>>()?;
                policy_assign(plane, ctx, Input::of(items)).await
            }
            Order::DeletePolicy { policy } => policy_delete(plane, ctx, uuid_of("policy", &policy)?).await,
            Order::Restore(restore) => restore_start(plane, ctx, Input::of(restore.wanted()?)).await,
        }
    }
}
