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

/// Takes a URL apart; the error never holds its login.
pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<CleanUrl, String> {
    let choices = || {
        let all: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
        all.join(", ")
    };
    let mut url = url::Url::parse(text)
        .map_err(|e| format!("`{}` is no URL ({e}): it begins with one of {}", redacted(text), choices()))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("`{}:` is not supported; there are: {}", url.scheme(), choices()));
    }
    if url.scheme() == "file" {
        let named = url.path().len() > 1 && url.host_str().is_none();
        return if named { Ok(clean(&url)) } else { Err("names no file: write file:///PATH".to_owned()) };
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
    Ok(CleanUrl { user, password, ..clean(&url) })
}

/// What to do about a login in a URL.
pub(super) fn login_remedy(table: &str, id: &str) -> String {
    format!(
        "the URL holds a login that everybody who may read this file can see: move it to `vedette.secrets`: \
         [{table}.{id}] user = …, password = …"
    )
}

fn clean(url: &url::Url) -> CleanUrl {
    CleanUrl { url: url.to_string(), scheme: url.scheme().to_owned(), user: None, password: None }
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
        assert_eq!(parse("file:///tmp/a.mkv", &["file"]).unwrap().url, "file:///tmp/a.mkv");
    }

    #[test]
    fn errors_hold_no_login() {
        for text in [
            "rtsp://me:hunter2@:99999/a",
            "rtsp://me:hunter2@",
            "http://me:hunter2@h/",
            "hunter2@h",
            "file://",
        ] {
            let error = parse(text, &["rtsp", "file"]).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("%zz"), "%zz");
    }
}
