//! The typed ids of delivery data.

landreeve_estate::ids! {
    RepoId = "repo";
    ServiceId = "service";
    /// A service deployed from a repository into an environment.
    TargetId = "target";
    DeploymentId = "deployment";
    /// A pull request, or a commit pushed without one.
    ChangeId = "change";
    PullServiceId = "pull_service";
    IncidentId = "incident";
    PipelineRunId = "pipeline_run";
    CustomDataId = "custom_data";
    PersonId = "person";
    TeamId = "team";
    MembershipId = "membership";
    TeamEventId = "team_event";
    FeedId = "feed";
}
