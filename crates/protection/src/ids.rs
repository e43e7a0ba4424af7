//! The typed ids of this plane's resources.

landreeve_estate::ids! {
    RepositoryId = "repository";
    AssetId = "asset";
    BackupId = "backup";
    PolicyId = "policy";
    AlertId = "alert";
}
