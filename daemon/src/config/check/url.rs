//! URLs of cameras and brokers: scheme, host, and a login that must not stay in them.

use vedette_core::Secret;
use vedette_core::secret::redacted;

/// A URL with its login taken out.
#[derive(Debug)]
pub(super) struct CleanUrl {
    pub(super) url: String,
    pub(super) scheme: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

impl CleanUrl {
    /// Of an address that cannot hold any.
    pub(super) fn without_login(url: &str, scheme: &str) -> Self {
        Self { url: url.to_owned(), scheme: scheme.to_owned(), user: None, password: None }
    }
}

/// Takes a URL apart; the error never holds its login.
pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<CleanUrl, String> {
    let choices = || {
        let all: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
        all.join(", ")
    };
    let mut url = url::Url::parse(text).map_err(|error| {
        let reason = match error {
            url::ParseError::RelativeUrlWithoutBase => String::new(),
            other => format!(" ({other})"),
        };
        format!("`{}` is no URL{reason}; there are: {}", redacted(text), choices())
    })?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("`{}:` is not supported; there are: {}", url.scheme(), choices()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("`{}` names no host", redacted(text)));
    }
    let user = (!url.username().is_empty()).then(|| percent_decoded(url.username()));
    let password = url.password().map(|p| Secret::new(percent_decoded(p)));
    if user.is_some() || password.is_some() {
        // Cannot fail: there is a host.
        let (_, _) = (url.set_password(None), url.set_username(""));
    }
    Ok(CleanUrl { user, password, ..CleanUrl::without_login(url.as_str(), url.scheme()) })
}

/// What to do about a login in a URL.
pub(super) fn login_remedy(table: &str, id: &str) -> String {
    format!(
        "the URL holds a login that everybody who may read this file can see: move it to `vedette.secrets`: \
         [{table}.{id}] user = …, password = …"
    )
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let decoded = digits.filter(|_| first == b'%').and_then(|d| u8::from_str_radix(d, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_taken_out() {
        let url = parse("rtsp://me:p%40ss@10.0.0.17:8554/a?x=1", &["rtsp"]).unwrap();
        assert_eq!(url.url, "rtsp://10.0.0.17:8554/a?x=1");
        assert_eq!(url.user.as_deref(), Some("me"));
        assert_eq!(url.password.unwrap().reveal(), "p@ss");
    }

    #[test]
    fn errors_hold_no_login() {
        for text in ["rtsp://me:hunter2@:99999/a", "rtsp://me:hunter2@", "http://me:hunter2@h/", "hunter2@h"]
        {
            let error = parse(text, &["rtsp", "file"]).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("%zz"), "%zz");
    }
}
