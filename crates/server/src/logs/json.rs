//! Formats a log line as JSON: the time, the level, the event's fields, its target, and the request that it belongs to.
//! The library's formatter builds a map of the fields for every line, which costs more than everything else.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use landreeve_http::CurrentRequest;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        now(&mut writer)?;
        writer.write_str("\",\"level\":\"")?;
        writer.write_str(meta.level().as_str())?;
        writer.write_char('"')?;
        let mut fields = Fields { writer: writer.by_ref(), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writer.write_str(",\"target\":")?;
        text(&mut writer, meta.target())?;
        if let Some(CurrentRequest { id, face }) = CurrentRequest::get() {
            writer.write_str(",\"span\":{\"name\":\"request\",\"id\":\"")?;
            writer.write_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))?;
            writer.write_str("\",\"face\":\"")?;
            writer.write_str(face)?;
            writer.write_str("\"}")?;
        }
        writer.write_str("}\n")
    }
}

/// Writes each field as a JSON member.
struct Fields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        // `r#type` is logged as `type`.
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.result = self.result.and_then(|()| {
            // A name is an identifier or a path: there is nothing to escape.
            self.writer.write_str(",\"")?;
            self.writer.write_str(name)?;
            self.writer.write_str("\":")?;
            write(&mut self.writer)
        });
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if !value.is_finite() {
            return self.add(field, |writer| writer.write_str("null"));
        }
        self.add(field, |writer| writer.write_str(zmij::Buffer::new().format_finite(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |writer| writer.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |writer| text(writer, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, |writer| {
            writer.write_char('"')?;
            write!(Escaping(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

thread_local! {
    /// The second of this thread's last line, and its text.
    static SECOND: Cell<(i64, [u8; 19])> = const { Cell::new((i64::MIN, [0; 19])) };
}

/// RFC 3339 with microseconds. The text of a second is kept, because many lines have the same.
fn now(writer: &mut Writer<'_>) -> fmt::Result {
    #[expect(clippy::disallowed_methods, reason = "log lines have the time of the machine")]
    let now = Timestamp::now();
    let (mut second, mut text) = SECOND.get();
    if second != now.as_second() {
        second = now.as_second();
        let shown = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        text = shown.as_bytes().try_into().unwrap_or([b'?'; 19]);
        SECOND.set((second, text));
    }
    writer.write_str(std::str::from_utf8(&text).unwrap_or_default())?;
    // A leading one keeps the zeros.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(1_000_000 + now.subsec_microsecond());
    writer.write_char('.')?;
    writer.write_str(digits.get(1..).unwrap_or_default())?;
    writer.write_char('Z')
}

fn text(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaping(writer).write_str(text)?;
    writer.write_char('"')
}

/// Escapes text for the inside of a JSON string.
struct Escaping<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|char: char| char < ' ' || char == '"' || char == '\\') {
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = tail.chars();
            match chars.next() {
                Some('"') => self.0.write_str("\\\"")?,
                Some('\\') => self.0.write_str("\\\\")?,
                Some('\n') => self.0.write_str("\\n")?,
                Some(other) => write!(self.0, "\\u{:04x}", u32::from(other))?,
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
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

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    #[test]
    fn lines_are_valid_json_whatever_they_contain() {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt::layer().event_format(Lines);
        let subscriber = tracing_subscriber::registry().with(lines.with_writer(kept.clone()));
        let odd = "a \"quote\", a \\, a line\nend, a \u{1} and é";
        tracing::subscriber::with_default(subscriber, || {
            CurrentRequest { id: uuid::Uuid::nil(), face: "dx" }.enter(|| {
                tracing::info!(target: "access", n = 1_u64, ms = 0.25, yes = true, shown = ?odd, odd, "answered {odd}");
            });
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], format!("answered {odd}"));
        assert_eq!((&line["n"], &line["ms"], &line["yes"]), (&1.into(), &0.25.into(), &true.into()));
        assert_eq!((&line["odd"], &line["shown"]), (&odd.into(), &format!("{odd:?}").into()));
        assert_eq!(line["target"], "access");
        assert_eq!(
            line["span"],
            serde_json::json!({ "name": "request", "id": uuid::Uuid::nil().to_string(), "face": "dx" })
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
