//! The typed ids of this plane's resources.

landreeve_estate::ids! {
    VirtualNodeId = "virtual_node";
    EnvironmentId = "environment";
    ClusterId = "cluster";
    ServerId = "server";
    PropertyId = "property";
    RevisionId = "revision";
    TaskId = "deployment_task";
}
