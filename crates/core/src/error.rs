//! The error catalogue: every fault that a caller can meet, with its stable slug.
//!
//! Each door maps [`Code`] to its own status numbers in one table; a `match` without a wildcard makes an unmapped
//! entry a compile error.

use std::fmt;

/// At most this many bytes of a client's data are quoted in a message.
pub const ECHO_BYTES: usize = 256;
/// At most this many of them by one [`echo`]: a message quotes two things at most, a name and what it stands for.
const QUOTE_BYTES: usize = ECHO_BYTES / 2;

macro_rules! catalogue {
    ($($name:ident $slug:literal $doc:literal,)+) => {
        /// What went wrong, independent of any protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $doc] $name,)+
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The stable name that clients may compare with.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Code::$name => $slug,)+ }
            }

            /// The code of this name.
            #[must_use]
            pub fn from_slug(slug: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.slug() == slug)
            }

            /// One sentence for the reference page.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $doc,)+ }
            }
        }
    };
}

catalogue! {
    InvalidRequest "invalid_request" "The request is malformed: its JSON, its headers or its body.",
    InvalidInput "invalid_input" "An input does not fit the model's signature.",
    UnknownOutput "unknown_output" "The request wants an output that the model does not have.",
    InvalidName "invalid_name" "A model or version name has characters that no name may have.",
    UnknownModel "unknown_model" "No model of this name is configured.",
    UnknownVersion "unknown_version" "The model has no such version.",
    NotFound "not_found" "Nothing is served at this path.",
    MethodNotAllowed "method_not_allowed" "The path exists, but not for this method.",
    UnsupportedMediaType "unsupported_media_type" "The body's content type or encoding is not understood here.",
    PayloadTooLarge "payload_too_large" "The body is larger than the limit.",
    UriTooLong "uri_too_long" "The request target is longer than 8 KiB.",
    BodyTimeout "body_timeout" "The body arrived too slowly.",
    ForbiddenOrigin "forbidden_origin" "A browser page of another origin may not call this engine.",
    ForbiddenHost "forbidden_host" "The Host header names another machine than the one that is bound.",
    ControlDisabled "control_disabled" "Models may not be loaded or unloaded over this door.",
    QueueFull "queue_full" "The model's queue is full; try again later.",
    Overloaded "overloaded" "The engine holds as many requests or bytes as it may; try again later.",
    NotReady "not_ready" "The model is loading or restarting.",
    ModelFailed "model_failed" "The model could not be loaded, or died too often.",
    ShuttingDown "shutting_down" "The engine is draining and takes no new requests.",
    DeadlineExceeded "deadline_exceeded" "The deadline passed before the answer was there.",
    Cancelled "cancelled" "The caller went away.",
    WorkerLost "worker_lost" "The worker died while it ran a request that may not run twice.",
    PoisonItem "poison_item" "The worker died each time it ran this request.",
    ModelError "model_error" "The model raised an exception.",
    BadModelOutput "bad_model_output" "The model returned what does not fit its signature.",
    CallCycle "call_cycle" "A model calls itself, directly or through others.",
    LoadFailed "load_failed" "A load that was asked for did not succeed.",
    Internal "internal" "A fault of the engine itself.",
}

/// A fault with its explanation: what was got, what was wanted, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The entry of the catalogue.
    pub code: Code,
    /// For people; lower case, at most [`ECHO_BYTES`] of client data.
    pub message: String,
    /// Whole seconds after which a retry makes sense (`Retry-After`).
    pub retry_after_s: Option<u32>,
}

impl Error {
    /// An error of the catalogue with its explanation.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None }
    }

    /// The same error with a hint when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}]", self.message, self.code.slug())
    }
}

impl std::error::Error for Error {}

/// `text` as it may stand in a message beside one other: at most half of [`ECHO_BYTES`], escaped where invisible.
#[must_use]
pub fn echo(text: &str) -> String {
    excerpt(text, QUOTE_BYTES)
}

/// A client's shape as it may stand in a message: 16 axes can be 350 characters.
#[must_use]
pub fn echo_shape(shape: &[u64]) -> String {
    echo(&format!("{shape:?}"))
}

/// At most `limit` bytes of `text` and a mark where it was cut; what a reader could not see (controls, characters that turn
/// or hide the text beside them) is escaped.
#[must_use]
pub fn excerpt(text: &str, limit: usize) -> String {
    let mut quoted = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let escaped = match character {
            '"' | '\'' | '\\' => character.to_string(),
            _ => character.escape_debug().to_string(),
        };
        if quoted.len() + escaped.len() > limit {
            quoted.push('…');
            break;
        }
        quoted.push_str(&escaped);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_snake_case() {
        let mut slugs: Vec<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert!(slugs.iter().all(|slug| slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert!(Code::ALL.iter().all(|code| Code::from_slug(code.slug()) == Some(*code)));
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Code::ALL.len());
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(echo("it's \"ü\" \\ 世界"), "it's \"ü\" \\ 世界");
        assert_eq!(echo("\u{feff}a\u{202e}b\u{2028}\u{1b}\0"), "\\u{feff}a\\u{202e}b\\u{2028}\\u{1b}\\0");
    }

    #[test]
    fn echo_is_bounded_and_has_no_control_characters() {
        let quoted = echo(&"é\n".repeat(1_000));
        assert!(quoted.len() <= QUOTE_BYTES + '…'.len_utf8());
        assert!(!quoted.contains('\n'));
    }
}
