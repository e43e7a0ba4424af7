//! A deployment as it is stored.

use jiff::Timestamp;
use landreeve_core::ids::OuId;
use landreeve_core::{Error, Result};
use landreeve_estate::store::Row;

use crate::Metadata;
use crate::ids::{DeploymentId, RepoId, ServiceId, TargetId};
use crate::sha::Sha;

#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: DeploymentId,
    pub ou: OuId,
    /// How it was recorded.
    pub origin: String,
    pub service: ServiceId,
    pub repo: Option<RepoId>,
    /// Where it was deployed; `None` without a repository.
    pub target: Option<TargetId>,
    pub environment: String,
    pub deployed_at: Timestamp,
    pub success: bool,
    pub commit_sha: Option<Sha>,
    pub listed: Vec<Sha>,
    pub integration_branch: Option<String>,
    /// What it covers; `None` as long as its commit is unknown.
    pub place: Option<Place>,
    /// Whether it has been matched with changes.
    pub attributed: bool,
    pub source_url: Option<String>,
    pub source_name: Option<String>,
    pub metadata: Option<Metadata>,
}

/// The changes on this line that landed up to this position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub line: String,
    /// Microseconds since 1970.
    pub position: i64,
}

/// Selects deployments for `Deployment::from_row`; additional columns follow these 18.
macro_rules! deployment_columns {
    () => {
        "d.id, d.ou_id, d.origin, d.service_id, d.repo_id, d.target_id, d.environment, d.deployed_at, d.success, \
         d.commit_sha, d.merge_commit_shas, d.integration_branch, d.line, d.position, d.attributed_at, d.source_url, \
         d.source_name, d.metadata"
    };
}

macro_rules! deployments {
    ($rest:literal) => {
        concat!("SELECT ", $crate::deployment::deployment_columns!(), " FROM delivery_deployments d ", $rest)
    };
}

pub(crate) use {deployment_columns, deployments};

/// The fields that do not affect which changes a deployment covers.
const DETAILS: [&str; 3] = ["source_url", "source_name", "metadata"];

impl Deployment {
    pub fn from_row(row: &Row) -> Result<Deployment> {
        let listed: Vec<String> = match row.text_opt(10)? {
            Some(json) => serde_json::from_str(&json).map_err(Error::internal)?,
            None => Vec::new(),
        };
        let place = row.text_opt(12)?.zip(row.int_opt(13)?);
        Ok(Deployment {
            id: row.id(0)?,
            ou: row.id(1)?,
            origin: row.text(2)?,
            service: row.id(3)?,
            repo: row.id_opt(4)?,
            target: row.id_opt(5)?,
            environment: row.text(6)?,
            deployed_at: row.time(7)?,
            success: row.flag(8)?,
            commit_sha: row.text_opt(9)?.map(Sha::kept),
            listed: listed.into_iter().map(Sha::kept).collect(),
            integration_branch: row.text_opt(11)?,
            place: place.map(|(line, position)| Place { line, position }),
            attributed: row.int_opt(14)?.is_some(),
            source_url: row.text_opt(15)?,
            source_name: row.text_opt(16)?,
            metadata: row.text_opt(17)?.as_deref().and_then(Metadata::kept),
        })
    }

    /// The names of the fields that differ.
    pub fn differences(&self, other: &Deployment) -> Vec<&'static str> {
        let pairs = [
            ("service", self.service == other.service),
            ("repository", self.repo == other.repo),
            ("environment", self.environment == other.environment),
            ("deployed_at", self.deployed_at == other.deployed_at),
            ("success", self.success == other.success),
            ("commit_sha", self.commit_sha == other.commit_sha),
            ("merge_commit_shas", self.listed == other.listed),
            ("integration_branch", self.integration_branch == other.integration_branch),
            ("source_url", self.source_url == other.source_url),
            ("source_name", self.source_name == other.source_name),
            ("metadata", self.metadata == other.metadata),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// Whether all fields that describe the deployment are equal.
    pub fn has_values_of(&self, other: &Deployment) -> bool {
        self.differences(other).is_empty()
    }

    /// Whether all fields that determine its changes are equal.
    pub fn covers_like(&self, other: &Deployment) -> bool {
        self.differences(other).iter().all(|name| DETAILS.contains(name))
    }

    /// Whether both name the same commits of the same repository.
    pub fn names_commits_of(&self, other: &Deployment) -> bool {
        (self.repo, &self.commit_sha, &self.listed) == (other.repo, &other.commit_sha, &other.listed)
    }
}
