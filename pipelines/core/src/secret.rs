//! Text that must not appear in logs, events, errors or dumps.

use std::fmt;

/// A password or the like: prints as `…` in every format; [`Secret::reveal`] is the one way to its text.
#[derive(Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the peer that asked for it and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A URL without what is secret in it: the user's part, the query and the fragment are replaced by `…`.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.contains('@') { "…".to_owned() } else { url.to_owned() };
    };
    let cut = rest.find(['?', '#']);
    let (body, tail) = cut.map_or((rest, ""), |at| (&rest[..at], "?…"));
    // The last `@`: an unescaped one in a password must not leave half of it standing.
    let body = body.rsplit_once('@').map_or_else(|| body.to_owned(), |(_, host)| format!("…@{host}"));
    // Some cameras take the login in the path: `/user=admin_password=…`.
    let lower = body.to_ascii_lowercase();
    let telling =
        ["pass", "pwd", "token", "secret"].iter().any(|word| lower.contains(word)) && lower.contains('=');
    let body = match body.split_once('/') {
        Some((host, _)) if telling => format!("{host}/…"),
        _ => body,
    };
    format!("{scheme}://{body}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "… …");
    }

    #[test]
    fn urls_are_redacted() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case("rtsp://10.0.0.1/a", "rtsp://10.0.0.1/a"),
            Case("rtsp://user:p@ss/w@10.0.0.1:554/a", "rtsp://…@10.0.0.1:554/a"),
            Case("rtsp://h/a?token=x#y", "rtsp://h/a?…"),
            Case("user:pw@host", "…"),
            Case("rtsp://10.0.0.1:554/user=admin_password=x_channel=1", "rtsp://10.0.0.1:554/…"),
            Case("embedded", "embedded"),
        ];
        for Case(url, expected) in cases {
            assert_eq!(redacted(url), expected);
        }
    }
}
