//! One line of Prometheus' text format 0.0.4, as the strictest of its readers takes it.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

/// Labels of one sample; telling that all of them differ compares each with each.
const MAX_LABELS: usize = 64;

/// What the samples of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram, Self::Summary, Self::Untyped]
            .into_iter()
            .find(|kind| kind.name() == word)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// Endings of the names that belong to a family beside its own.
    pub(super) fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            Self::Counter | Self::Gauge | Self::Untyped => &[],
        }
    }

    /// The label whose value must be a number.
    fn bound(self) -> Option<&'static str> {
        match self {
            Self::Histogram => Some("le"),
            Self::Summary => Some("quantile"),
            Self::Counter | Self::Gauge | Self::Untyped => None,
        }
    }
}

/// A line, and what it says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    Help {
        family: &'a str,
        text: &'a str,
    },
    Type {
        family: &'a str,
        kind: Kind,
    },
    Sample(Sample<'a>),
    /// Nothing that matters: empty, another comment, or one that is malformed.
    Comment,
    Malformed,
}

/// One measured value. Escapes in it are as they were written.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, &'a str)>,
    /// Name and labels.
    pub(super) series: &'a str,
    /// The number, and perhaps the moment it was measured.
    pub(super) value: &'a str,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        match line.strip_prefix('#') {
            Some(comment) => Self::parse_comment(comment).unwrap_or(Self::Comment),
            None if line.is_empty() => Self::Comment,
            None => Sample::parse(line).map_or(Self::Malformed, Self::Sample),
        }
    }

    fn parse_comment(comment: &'a str) -> Option<Self> {
        let (keyword, rest) = comment.strip_prefix(' ')?.split_once(' ')?;
        let (family, text) = rest.split_once(' ').unwrap_or((rest, ""));
        if !is_name(family) {
            return None;
        }
        match keyword {
            "HELP" => is_escaped(text).then_some(Self::Help { family, text }),
            "TYPE" => Kind::parse(text).map(|kind| Self::Type { family, kind }),
            _ => None,
        }
    }
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let series = &line[..line.len() - rest.len()];
        let value = rest.strip_prefix(' ')?;
        (is_name(name) && is_value(value)).then_some(Self { name, labels, series, value })
    }

    /// False where a label says a bound of its bucket or quantile that is no number.
    pub(super) fn fits(&self, kind: Kind) -> bool {
        let Some(bound) = kind.bound() else { return true };
        self.labels.iter().all(|(name, value)| *name != bound || is_number(value))
    }
}

/// Labels up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let is_new = labels.len() < MAX_LABELS && labels.iter().all(|(known, _)| *known != name);
        if !is_label_name(name) || !is_new {
            return None;
        }
        let (value, behind) = parse_quoted(behind)?;
        labels.push((name, value));
        rest = behind.strip_prefix(',').or_else(|| behind.starts_with('}').then_some(behind))?;
    }
}

/// A value up to its closing quote, and what follows it.
fn parse_quoted(text: &str) -> Option<(&str, &str)> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' if !matches!(bytes.next()?.1, b'\\' | b'"' | b'n') => return None,
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && name.bytes().all(is_inner)
}

fn is_label_name(name: &str) -> bool {
    is_name(name) && !name.contains(':') && name != "__name__"
}

/// In the text of a HELP the backslash and the end of a line are escaped, quotes are not.
fn is_escaped(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && !matches!(bytes.next(), Some(b'\\' | b'n')) {
            return false;
        }
    }
    true
}

/// A number, and perhaps a moment in milliseconds.
fn is_value(text: &str) -> bool {
    match text.split_once(' ') {
        Some((number, moment)) => is_number(number) && moment.parse::<i64>().is_ok(),
        None => is_number(text),
    }
}

/// What is too large for a double is an error to Go's readers and infinite to Rust's.
fn is_number(text: &str) -> bool {
    matches!(text, "+Inf" | "-Inf" | "NaN") || text.parse::<f64>().is_ok_and(f64::is_finite)
}
