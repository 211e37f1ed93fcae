//! Metrics of user code, put on one page with the engine's own.
//!
//! Each sample gets the labels `model`, `version` and `instance` in front of its own; one of the same name becomes
//! `exported_<name>`, as at Prometheus itself. A family stands in one place with one HELP and one TYPE, those of the
//! first worker that has it. What cannot stand on one page with the rest is left out, and told as a [`Loss`]: renaming a
//! family would give it another name from one deployment to the next.
//!
//! Where nothing declares it, `x_created` is a family of its own: the format knows no such ending, and
//! `prometheus_client` declares it as a gauge.

mod line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use self::line::{Kind, Line, Sample};

/// Text that is taken of one worker.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Samples that are taken of one worker.
pub const MAX_SAMPLES: usize = 10_000;
/// Names that begin so are the engine's.
const RESERVED: &str = "samovar_";
/// Labels that say whose a sample is.
const LABELS: [&str; 3] = ["model", "version", "instance"];

/// What one worker told. No two may have the same model, version and instance.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Model name.
    pub model: &'a str,
    /// Version name.
    pub version: &'a str,
    /// Instance.
    pub instance: usize,
    /// Text as `prometheus_client.generate_latest` writes it.
    pub text: &'a str,
}

/// Why samples were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The name of the family is one of the engine's.
    Reserved,
    /// Another worker has a family of this name with another type, or names that cannot be told from this one's.
    TypeConflict,
    /// The line is no sample.
    Malformed,
    /// The worker has told this series already.
    Duplicate,
    /// Too much text or too many samples. Of text that was cut there may be more than is counted.
    Limit,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Reserved, Self::TypeConflict, Self::Malformed, Self::Duplicate, Self::Limit];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::TypeConflict => "type_conflict",
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate",
            Self::Limit => "limit",
        }
    }

    /// What it means, and what to do about it.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Reserved => "names that begin with samovar_ are the engine's; choose another name",
            Self::TypeConflict => "another worker has this name with another type; give one of them another name",
            Self::Malformed => "lines that Prometheus' text format does not know; look at what collects them",
            Self::Duplicate => "a worker told a series twice; give each its own labels",
            Self::Limit => "a worker may tell 10,000 samples in 1 MiB; use labels that have fewer values",
        }
    }
}

/// Samples of one worker that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Place of the worker among those that were given.
    pub worker: usize,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub samples: u64,
    /// The first of them: its name, or the line if it has none.
    pub first: String,
}

/// One page.
#[derive(Debug)]
pub struct Merged {
    /// The text.
    pub text: String,
    /// What is not in it; one entry per worker and reason.
    pub losses: Vec<Loss>,
}

/// Put what workers told behind the engine's `own` text.
#[must_use]
pub fn merge(own: &str, workers: &[Told<'_>]) -> Merged {
    let mut page = Page::of_engine(own);
    for (index, told) in workers.iter().enumerate() {
        page.add(index, told);
    }
    Merged { text: page.write(own), losses: page.losses }
}

#[derive(Debug, Default)]
struct Page<'a> {
    families: BTreeMap<&'a str, Family<'a>>,
    losses: Vec<Loss>,
}

#[derive(Debug)]
struct Family<'a> {
    kind: Kind,
    help: Option<&'a str>,
    /// The engine's; it has its lines elsewhere and takes none.
    is_own: bool,
    lines: String,
}

/// One worker while its lines are read.
#[derive(Debug)]
struct Worker<'a> {
    /// Written in front of those of each sample.
    labels: String,
    /// What its comments declare; where they disagree, the first one.
    kinds: HashMap<&'a str, Kind>,
    helps: HashMap<&'a str, &'a str>,
    /// Series so far.
    series: HashSet<&'a str>,
}

impl<'a> Worker<'a> {
    fn new(told: &Told<'_>, text: &'a str) -> Self {
        let (kinds, helps) = declarations(text);
        Self { labels: labels_of(told), kinds, helps, series: HashSet::new() }
    }
}

impl<'a> Page<'a> {
    fn of_engine(own: &'a str) -> Self {
        let family = |(name, kind)| (name, Family { kind, help: None, is_own: true, lines: String::new() });
        Self { families: declarations(own).0.into_iter().map(family).collect(), losses: Vec::new() }
    }

    fn add(&mut self, index: usize, told: &Told<'a>) {
        let (text, rest) = told.text.split_at(whole_lines(told.text));
        let mut worker = Worker::new(told, text);
        for line in text.split('\n') {
            let lost = match Line::parse(line) {
                Line::Sample(sample) => self.take(&sample, &mut worker).err().map(|reason| (reason, sample.name)),
                Line::Malformed => Some((Reason::Malformed, line)),
                Line::Help { .. } | Line::Type { .. } | Line::Comment => None,
            };
            if let Some((reason, what)) = lost {
                self.lose(index, reason, 1, what);
            }
        }
        if !rest.is_empty() {
            let samples = rest.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u64;
            self.lose(index, Reason::Limit, samples.max(1), rest.lines().next().unwrap_or_default());
        }
    }

    fn take(&mut self, sample: &Sample<'a>, worker: &mut Worker<'a>) -> Result<(), Reason> {
        if worker.series.len() == MAX_SAMPLES {
            return Err(Reason::Limit);
        }
        if !worker.series.insert(sample.series) {
            return Err(Reason::Duplicate);
        }
        let (name, kind) = family_of(sample.name, |name| worker.kinds.get(name).copied());
        if !sample.fits(kind) {
            return Err(Reason::Malformed);
        }
        self.check(name, kind)?;
        let help = worker.helps.get(name).copied();
        let family = self.families.entry(name).or_insert(Family { kind, help, is_own: false, lines: String::new() });
        write_sample(&mut family.lines, sample, &worker.labels);
        Ok(())
    }

    /// May samples of this family stand here?
    fn check(&self, name: &str, kind: Kind) -> Result<(), Reason> {
        match self.families.get(name) {
            Some(family) if family.is_own => return Err(Reason::Reserved),
            Some(family) if family.kind == kind => return Ok(()),
            Some(_) => return Err(Reason::TypeConflict),
            None => {}
        }
        let mut names = vec![name.to_owned()];
        names.extend(kind.suffixes().iter().map(|suffix| format!("{name}{suffix}")));
        if names.iter().any(|name| name.starts_with(RESERVED)) {
            return Err(Reason::Reserved);
        }
        if names.iter().any(|name| self.is_taken(name)) { Err(Reason::TypeConflict) } else { Ok(()) }
    }

    /// True if samples of this name belong to a family that stands here.
    fn is_taken(&self, name: &str) -> bool {
        let (family, _) = family_of(name, |name| self.families.get(name).map(|family| family.kind));
        self.families.contains_key(family)
    }

    fn lose(&mut self, worker: usize, reason: Reason, samples: u64, first: &str) {
        match self.losses.iter_mut().rev().find(|loss| loss.worker == worker && loss.reason == reason) {
            Some(loss) => loss.samples += samples,
            None => self.losses.push(Loss { worker, reason, samples, first: first.to_owned() }),
        }
    }

    fn write(&self, own: &str) -> String {
        let mut text = own.to_owned();
        if !matches!(own.as_bytes().last(), None | Some(b'\n')) {
            text.push('\n');
        }
        for (name, family) in self.families.iter().filter(|(_, family)| !family.is_own) {
            if let Some(help) = family.help {
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {}", family.kind.name());
            text.push_str(&family.lines);
        }
        text
    }
}

/// Types and helps of the families that `text` declares; a comment may stand behind the samples that it is about.
fn declarations(text: &str) -> (HashMap<&str, Kind>, HashMap<&str, &str>) {
    let (mut kinds, mut helps) = (HashMap::new(), HashMap::new());
    for line in text.split('\n').filter(|line| line.starts_with('#')) {
        match Line::parse(line) {
            Line::Type { family, kind } => _ = kinds.entry(family).or_insert(kind),
            Line::Help { family, text } => _ = helps.entry(family).or_insert(text),
            Line::Sample(_) | Line::Comment | Line::Malformed => {}
        }
    }
    (kinds, helps)
}

/// The family of a sample of this name, and its type, if `kind_of` knows the types of families.
fn family_of(name: &str, kind_of: impl Fn(&str) -> Option<Kind>) -> (&str, Kind) {
    if let Some(kind) = kind_of(name) {
        return (name, kind);
    }
    let of_suffix = |suffix: &&str| {
        let base = name.strip_suffix(suffix)?;
        let kind = kind_of(base).filter(|kind| kind.suffixes().contains(suffix))?;
        Some((base, kind))
    };
    Kind::Histogram.suffixes().iter().find_map(of_suffix).unwrap_or((name, Kind::Untyped))
}

/// Bytes of `text` that are taken, up to the end of a line.
fn whole_lines(text: &str) -> usize {
    if text.len() <= MAX_TEXT_BYTES {
        return text.len();
    }
    text.as_bytes()[..MAX_TEXT_BYTES].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn labels_of(told: &Told<'_>) -> String {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let [model, version, instance] = LABELS;
    format!(
        "{model}=\"{}\",{version}=\"{}\",{instance}=\"{}\"",
        escaped(told.model),
        escaped(told.version),
        told.instance
    )
}

fn write_sample(lines: &mut String, sample: &Sample<'_>, labels: &str) {
    let _ = write!(lines, "{}{{{labels}", sample.name);
    for (name, value) in &sample.labels {
        let _ = write!(lines, ",{}=\"{value}\"", exported(name, &sample.labels));
    }
    let _ = writeln!(lines, "}} {}", sample.value);
}

/// The name that a label of user code gets beside ours.
fn exported<'a>(name: &'a str, labels: &[(&str, &str)]) -> Cow<'a, str> {
    if !LABELS.contains(&name) {
        return Cow::Borrowed(name);
    }
    let mut exported = format!("exported_{name}");
    while labels.iter().any(|(other, _)| *other == exported) {
        exported.insert_str(0, "exported_");
    }
    Cow::Owned(exported)
}
