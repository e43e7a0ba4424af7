//! The typed ids of what people make here.

landreeve_estate::ids! {
    DashboardId = "dashboard";
    ReportId = "report";
    FilterId = "filter";
    SnippetId = "snippet";
}
