//! The typed ids of this plane's resources.

landreeve_estate::ids! {
    DashboardId = "dashboard";
    ReportId = "report";
    FilterId = "filter";
    SnippetId = "snippet";
}
