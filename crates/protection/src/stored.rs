//! The JSON in this plane's rows.

use landreeve_core::vault::CheckDepth;
use landreeve_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::ids::RepositoryId;

/// The input of a run that works on one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredUpkeep {
    version: u32,
    repository: i64,
    #[serde(default)]
    read_data: bool,
}

impl StoredUpkeep {
    pub fn new(repository: RepositoryId, depth: CheckDepth) -> StoredUpkeep {
        StoredUpkeep { version: 1, repository: repository.0, read_data: depth == CheckDepth::Data }
    }

    pub fn as_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    pub fn parse(text: &str) -> Result<StoredUpkeep> {
        serde_json::from_str(text).map_err(Error::internal)
    }

    pub fn repository(&self) -> RepositoryId {
        RepositoryId(self.repository)
    }

    pub fn depth(&self) -> CheckDepth {
        if self.read_data { CheckDepth::Data } else { CheckDepth::Structure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        let fixture = r#"{"version":1,"repository":7,"read_data":true}"#;
        let stored = StoredUpkeep::parse(fixture).unwrap();
        assert_eq!((stored.repository(), stored.depth()), (RepositoryId(7), CheckDepth::Data));
        assert_eq!(StoredUpkeep::new(RepositoryId(7), CheckDepth::Data).as_json().unwrap(), fixture);
    }
}
