//! Log lines on stderr: one per event, for people on a terminal or as JSON, written by a thread of their own.
//!
//! What clients and models wrote is inside them, so control characters are always escaped: a line is a line.

mod sink;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::config::LogFormat;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use self::sink::{Sink, Writer};

/// The field with the last lines of a worker: people have just read each of them.
const WRITTEN_BEFORE: &str = "stderr";
/// Where the lines of requests are from. There may be thousands a second, so they wait for each other.
pub(crate) const ACCESS: &str = "samovar::access";
/// Back to the first column, and what stands there is gone.
const ERASE_LINE: &str = "\r\x1b[K";

/// Keeps the log going; dropping it writes what waits.
#[derive(Debug)]
pub struct Guard {
    writer: Writer,
    /// While a start draws its progress on the terminal, in the line where the next one of the log will be.
    erases: Arc<AtomicBool>,
}

impl Guard {
    /// Lines that were dropped because stderr was too slow.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.writer.dropped_lines()
    }

    /// Progress is no longer drawn: lines erase nothing from now on.
    pub fn leave_terminal(&self) {
        self.erases.store(false, Ordering::Relaxed);
    }
}

/// Send the events of this process, from INFO up, to stderr. The first call wins.
#[must_use]
pub fn init(format: LogFormat) -> Guard {
    let (sink, writer) = Writer::start(std::io::stderr());
    let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let erases = Arc::new(AtomicBool::new(is_terminal && format == LogFormat::Text));
    tracing::subscriber::set_global_default(Lines { format, colour, erases: Arc::clone(&erases), sink }).ok();
    Guard { writer, erases }
}

/// Events as lines. Spans are none of them.
struct Lines {
    format: LogFormat,
    colour: bool,
    erases: Arc<AtomicBool>,
    sink: Sink,
}

thread_local! {
    /// The line being written; kept for its memory.
    static LINE: RefCell<Line> = RefCell::default();
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        LINE.with(|line| {
            // A Debug implementation that logs would come here twice; its inner line gets a buffer of its own.
            match line.try_borrow_mut() {
                Ok(mut line) => self.write(&mut line, event),
                Err(_) => self.write(&mut Line::default(), event),
            }
        });
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Lines {
    fn write(&self, line: &mut Line, event: &Event<'_>) {
        line.text.clear();
        if self.erases.load(Ordering::Relaxed) {
            line.text.push_str(ERASE_LINE);
        }
        match self.format {
            LogFormat::Json => line.json(event),
            LogFormat::Text => line.text(event, self.colour),
        }
        self.sink.push(line.text.as_bytes(), event.metadata().target() != ACCESS);
        if line.text.capacity() > 1 << 16 {
            line.text = String::new();
        }
    }
}

/// A line, and the second in which the last one was written: of those that are many, few begin a new one.
#[derive(Default)]
struct Line {
    text: String,
    second: u64,
    /// `second` as `2026-01-31T23:59:59.`
    date: String,
}

impl Line {
    fn json(&mut self, event: &Event<'_>) {
        self.text.push_str("{\"timestamp\":\"");
        self.time(SystemTime::now());
        self.text.push_str("\",\"level\":\"");
        self.text.push_str(event.metadata().level().as_str());
        self.text.push('"');
        event.record(&mut JsonFields(&mut self.text));
        self.text.push_str("}\n");
    }

    fn text(&mut self, event: &Event<'_>, colour: bool) {
        self.time(SystemTime::now());
        let level = *event.metadata().level();
        let (on, off) = match level {
            _ if !colour => ("", ""),
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            _ => ("\x1b[32m", "\x1b[0m"),
        };
        write!(self.text, " {on}{:5}{off}", level.as_str()).ok();
        event.record(&mut TextFields(&mut self.text));
        self.text.push('\n');
    }

    /// `2026-01-31T23:59:59.999Z`.
    fn time(&mut self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.date.is_empty() || since.as_secs() != self.second {
            self.second = since.as_secs();
            self.date.clear();
            push_date(&mut self.date, self.second);
        }
        self.text.push_str(&self.date);
        push_padded(&mut self.text, u64::from(since.subsec_millis()), 3, 'Z');
    }
}

/// Members of one flat object.
struct JsonFields<'a>(&'a mut String);

impl JsonFields<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn plain(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.0.push_str(value);
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.0.push('"');
        escape(self.0, value, Escapes::Json);
        self.0.push('"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.key(field);
        self.0.push('"');
        write!(Escaping(self.0, Escapes::Json), "{value:?}").ok();
        self.0.push('"');
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let mut buffer = zmij::Buffer::new();
        self.plain(field, if value.is_finite() { buffer.format_finite(value) } else { "null" });
    }
}

/// The message, then `key=value`.
struct TextFields<'a>(&'a mut String);

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == WRITTEN_BEFORE {
            return;
        }
        self.0.push(' ');
        if field.name() == "message" {
            return escape(self.0, value, Escapes::Text);
        }
        self.0.push_str(field.name());
        self.0.push('=');
        if value.is_empty() || value.contains([' ', '"', '=', '\\']) {
            self.0.push('"');
            escape(self.0, value, Escapes::Quoted);
            self.0.push('"');
        } else {
            escape(self.0, value, Escapes::Text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.push(' ');
            write!(Escaping(self.0, Escapes::Text), "{value:?}").ok();
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// What is escaped besides control characters.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// Quote and backslash, in JSON's forms.
    Json,
    /// Nothing.
    Text,
    /// Quote and backslash.
    Quoted,
}

/// Escapes what is written through it.
struct Escaping<'a>(&'a mut String, Escapes);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, self.1);
        Ok(())
    }
}

fn escape(line: &mut String, text: &str, escapes: Escapes) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // Without a way out in the middle, which keeps the compiler from looking at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return line.push_str(text);
    }
    for character in text.chars() {
        match character {
            '"' | '\\' if escapes != Escapes::Text => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            _ if !is_hidden(character) => line.push(character),
            _ if escapes == Escapes::Json => _ = write!(line, "\\u{:04x}", u32::from(character)),
            _ => line.extend(character.escape_unicode()),
        }
    }
}

/// Control characters, line separators, and what turns the direction of text: all below U+10000.
fn is_hidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `2026-01-31T23:59:59.`, so many seconds after the epoch. Days to date: Hinnant's `civil_from_days`.
fn push_date(line: &mut String, seconds: u64) {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // March is 0
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    push_padded(line, year, 4, '-');
    push_padded(line, month, 2, '-');
    push_padded(line, day, 2, 'T');
    push_padded(line, seconds / 3_600 % 24, 2, ':');
    push_padded(line, seconds / 60 % 60, 2, ':');
    push_padded(line, seconds % 60, 2, '.');
}

fn push_padded(line: &mut String, value: u64, width: usize, end: char) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    line.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    line.push_str(digits);
    line.push(end);
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        written(format, false, log)
    }

    fn written(format: LogFormat, erases: bool, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let erases = Arc::new(AtomicBool::new(erases));
        let (sink, writer) = Writer::start(memory.clone());
        tracing::subscriber::with_default(Lines { format, colour: false, erases, sink }, log);
        drop(writer);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = logged(LogFormat::Json, || {
            let absent: Option<&str> = None;
            tracing::info!(
                status = 200,
                model = "stn",
                version = absent,
                duration_ms = 1.25,
                ok = true,
                "request {}",
                7
            );
            tracing::debug!("not from this level on");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert_eq!((time.len(), &time[19..20], &time[23..]), (24, ".", "Z"));
        let wanted = serde_json::json!({"timestamp": time, "level": "INFO", "message": "request 7", "status": 200,
            "model": "stn", "duration_ms": 1.25, "ok": true});
        assert_eq!(line, wanted);
        assert!(text.starts_with("{\"timestamp\":") && text.ends_with("}\n"));
    }

    #[test]
    fn text_lines_do_not_repeat_what_a_worker_wrote() {
        let log = || tracing::info!(stderr = "one | two", model = "stn", "it failed");
        assert!(logged(LogFormat::Text, log).ends_with(" it failed model=stn\n"));
        assert!(logged(LogFormat::Json, log).contains("one | two"));
    }

    #[test]
    fn a_line_takes_the_place_of_the_progress_that_is_drawn() {
        let text = written(LogFormat::Text, true, || tracing::info!("one"));
        assert!(text.starts_with(ERASE_LINE) && text.ends_with("one\n"));
    }

    const POISON: &str = "a\n{\"level\":\"ERROR\"}\u{1b}[31m\u{7f}\u{85}\u{2028}\u{202e}\0\\\"é😀";

    #[test]
    fn a_poisoned_json_line_is_one_line() {
        let text = logged(LogFormat::Json, || tracing::warn!(path = POISON, shown = %POISON, "{POISON}"));
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().contains(is_hidden));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in ["message", "path", "shown"] {
            assert_eq!(line[key], POISON, "{key}");
        }
    }

    #[test]
    fn a_poisoned_text_line_is_one_line() {
        let text = logged(LogFormat::Text, || tracing::warn!(path = POISON, shown = %POISON, empty = "", "{POISON}"));
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().contains(is_hidden));
        assert!(text.contains(r#"path="a\n{\"level\""#), "{text}");
        assert!(text.contains("empty=\"\""));
    }

    #[test]
    fn text_lines_are_readable() {
        let text =
            logged(LogFormat::Text, || tracing::info!(status = 200, model = "stn", why = "two words", "request"));
        assert!(text.ends_with("Z INFO  request status=200 model=stn why=\"two words\"\n"), "{text}");
    }

    #[test]
    fn times_are_utc() {
        let mut line = Line::default();
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            line.text.clear();
            line.time(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(line.text, wanted);
        }
    }
}
