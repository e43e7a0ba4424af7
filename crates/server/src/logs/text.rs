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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_begins_with_its_request() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).event_format(Lines::default());
        let lines = lines.with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::info!("outside");
            CurrentRequest { id: uuid::Uuid::nil(), face: "dx" }.enter(|| tracing::info!(n = 1, "inside"));
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let [outside, inside] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(outside.ends_with("outside") && !outside.contains("dx"), "{outside}");
        let request = format!("dx {} ", uuid::Uuid::nil());
        assert!(inside.starts_with(&request) && inside.ends_with("inside n=1"), "{inside}");
    }
}
