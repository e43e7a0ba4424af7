//! Formats a log line for a terminal: the library's format, after the request that the line belongs to.

use std::fmt;

use landreeve_http::CurrentRequest;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Default)]
pub struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(CurrentRequest { id, face }) = CurrentRequest::get() {
            write!(writer, "{face} {id} ")?;
        }
        self.0.format_event(context, writer, event)
    }
}
