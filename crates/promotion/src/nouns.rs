//! The nouns of this plane's permissions.

use landreeve_core::Noun;
use landreeve_estate::plane::NounSpec;

/// A node with virtual databases; the word *node* alone means a server process.
pub const VIRTUAL_NODE: Noun = Noun::new("virtual_node");
/// An environment with its clusters and servers.
pub const ENVIRONMENT: Noun = Noun::new("environment");
/// Revisions: use your own, manage everybody's.
pub const REVISION: Noun = Noun::new("revision");
/// Deployments to the environments of one scenario: use is to deploy your own revisions, manage to deploy any, and to change
/// properties, deployment configuration and variables there.
pub const DEPLOY_DEVELOPMENT: Noun = Noun::new("deploy_development");
pub const DEPLOY_STAGING: Noun = Noun::new("deploy_staging");
pub const DEPLOY_PRODUCTION: Noun = Noun::new("deploy_production");

pub const SPECS: [NounSpec; 6] = [
    NounSpec::content(VIRTUAL_NODE),
    NounSpec::administrative(ENVIRONMENT),
    NounSpec::administrative(REVISION),
    NounSpec::administrative(DEPLOY_DEVELOPMENT),
    NounSpec::administrative(DEPLOY_STAGING),
    NounSpec::administrative(DEPLOY_PRODUCTION),
];
