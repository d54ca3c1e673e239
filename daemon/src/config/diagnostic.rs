//! What is wrong with a configuration, where, and what would be right: `file:line:col: message`, the source line
//! and carets under the culprit.
//!
//! Owns: the form of a diagnostic and what of a source line may be shown. Does not know: the configuration's keys.

use std::fmt;
use std::ops::Range;

use vedette_core::secret::redacted;

/// Whether a start is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The start is refused.
    Error,
    /// The daemon starts and says so.
    Warning,
}

/// The source line of a diagnostic, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Snippet {
    /// The line as written, without its end.
    pub text: String,
    /// Where the carets begin, in characters from 0.
    pub from: usize,
    /// How many carets, at least 1.
    pub length: usize,
}

/// One thing to say about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// The file as found, or `environment`.
    pub file: String,
    /// From 1; none where no line is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
    /// The line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<Snippet>,
}

impl Diagnostic {
    /// An error that no line is to blame for.
    pub fn error(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            file: file.into(),
            line: None,
            column: None,
            message: message.into(),
            snippet: None,
        }
    }

    /// The same, as a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { level: Level::Warning, ..self }
    }

    /// Puts it at bytes `span` of `text`; `mask` says what of the line may be shown.
    #[must_use]
    pub(super) fn at(mut self, text: &str, span: &Range<usize>, mask: Mask) -> Self {
        let start = floor_char(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count();
        // The line ends before its `\r`, the fault may lie on the `\n` behind.
        let end = floor_char(text, span.end.min(line_start + line.len())).max(start);
        let shown = mask.apply(line);
        let width = shown.chars().count();
        // A masked line is shorter than it was: the carets stay within what is shown.
        let from = column.min(width);
        let length = text[start..end].chars().count().min(width.saturating_sub(from)).max(1);
        self.line = Some(text[..start].matches('\n').count() + 1);
        self.column = Some(column + 1);
        self.snippet = Some(Snippet { text: shown, from, length });
        self
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What of a source line may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// All of it but a user's part in URLs.
    Urls,
    /// A table's header, or a key alone: the value is secret.
    Values,
    /// Nothing: a secret may go over several lines, and no line tells by itself whether it belongs to it.
    All,
}

impl Mask {
    fn apply(self, line: &str) -> String {
        match self {
            Self::Values => {
                let header = line.trim_start().starts_with('[') && !line.contains(['=', '"', '\'']);
                let key =
                    line.split_once('=').map(|(key, _)| key).filter(|key| key.trim().bytes().all(is_bare));
                match key {
                    _ if header => line.to_owned(),
                    Some(key) => format!("{key}= …"),
                    None => "…".to_owned(),
                }
            }
            Self::All => "…".to_owned(),
            Self::Urls => {
                // A password may hold what ends a word: from the scheme to the last `@` nothing is shown.
                let login =
                    line.split_once("://").and_then(|(head, rest)| Some((head, rest.rsplit_once('@')?.1)));
                let line = login.map_or_else(|| line.to_owned(), |(head, host)| format!("{head}://…@{host}"));
                line.split_inclusive(['"', '\'', ' ']).map(redact_word).collect()
            }
        }
    }
}

/// Whether it may stand in a key without quotes.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn redact_word(word: &str) -> String {
    let may_tell = word.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?', '#', '=']));
    if !may_tell {
        return word.to_owned();
    }
    let quote = word.trim_end_matches(['"', '\'', ' ']).len();
    format!("{}{}", redacted(&word[..quote]), &word[quote..])
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        let level = if self.level == Level::Warning { "warning: " } else { "" };
        write!(f, ": {level}{}", self.message)?;
        if let (Some(snippet), Some(line)) = (&self.snippet, self.line) {
            let blanks: String =
                snippet.text.chars().take(snippet.from).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n{line:>5} | {}\n      | {blanks}{}", snippet.text, "^".repeat(snippet.length))?;
        }
        Ok(())
    }
}

/// All there is to say about a configuration, in the order of its files and lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether a start is refused.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Those that refuse a start.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|d| d.level == Level::Error)
    }

    /// How much is wrong: `2 errors, 1 warning`; `no errors` where there is nothing.
    pub fn summary(&self) -> String {
        let errors = self.errors().count();
        let count = |n: usize, what: &str| (n > 0).then(|| crate::words::count(n, what));
        let parts = [count(errors, "error"), count(self.0.len() - errors, "warning")];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if text.is_empty() { "no errors".to_owned() } else { text }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>, mask: Mask) -> String {
        Diagnostic::error("f.toml", "wrong").at(text, &span, mask).to_string()
    }

    #[test]
    fn carets_stand_under_the_culprit() {
        let text = "a = 1\nfp = 2\n";
        assert_eq!(shown(text, 6..8, Mask::Urls), "f.toml:2:1: wrong\n    2 | fp = 2\n      | ^^");
        // Tabs stay tabs, so that the carets stay under the word; characters count, not bytes.
        assert_eq!(shown("\tä = 5", 6..7, Mask::Urls), "f.toml:1:6: wrong\n    1 | \tä = 5\n      | \t    ^");
    }

    #[test]
    fn a_span_at_or_past_the_end_shows_one_caret() {
        assert_eq!(shown("a =", 3..3, Mask::Urls), "f.toml:1:4: wrong\n    1 | a =\n      |    ^");
        assert_eq!(shown("", 9..12, Mask::Urls), "f.toml:1:1: wrong\n    1 | \n      | ^");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "password = \"hunter2\" # hunter2";
        assert_eq!(
            shown(text, 11..20, Mask::Values),
            "f.toml:1:12: wrong\n    1 | password = …\n      |            ^"
        );
        assert!(!shown("hunter2\"\"\"", 0..3, Mask::Values).contains("hunter"));
        assert!(!shown("\"hunter2=\"", 0..3, Mask::Values).contains("hunter"));
        assert!(!shown("hunter2 = ", 0..3, Mask::All).contains("hunter"));
        let url = "url = \"rtsp://me:hunter2@10.0.0.1/a\"";
        let seen = shown(url, 6..36, Mask::Urls);
        assert!(seen.contains("rtsp://…@10.0.0.1/a\"") && !seen.contains("hunter2"), "{seen}");
    }
}
