//! One webhook: what its URL allows, its token, that its certificate file is there.

use std::collections::BTreeMap;

use vedette_core::{Name, Secret};

use super::super::raw::RawWebhook;
use super::super::{Broker, Options, Webhook};
use super::url;
use super::{Check, broker};
use crate::sinks::webhook::bearer;

/// Checks a webhook; `None` where none could be made of it.
pub(super) fn build(
    check: &mut Check<'_>,
    id: &str,
    raw: RawWebhook,
    brokers: &BTreeMap<Name, Broker>,
    options: &Options,
) -> Option<Webhook> {
    let RawWebhook { url, token, ca, replay, filter } = raw;
    let name = check.name(&["webhook", id], Name::unreserved);
    // Both are names in the outbox. A broker's further connections have their dialect behind its name.
    let taken = brokers.keys().any(|broker| id.strip_prefix(broker.as_str()).is_some_and(is_rest));
    if taken {
        let message =
            format!("`webhook.{id}` has the name of a broker or of one of its connections: give it another");
        check.key_error(&["webhook", id], message);
    }
    let ca = ca.map(|path| options.config_dir.join(path));
    if let Some(file) = &ca
        && let Err(error) = std::fs::File::open(file)
    {
        let message = format!("{} cannot be opened: {error}", file.display());
        check.value_error(&["webhook", id, "ca"], message);
    }
    let token = token.map(Secret::new);
    if token.as_ref().is_some_and(|token| bearer(token).is_none()) {
        check
            .value_error(&["webhook", id, "token"], "holds what no header can: use visible ASCII characters");
    }
    let filter = broker::check_filter(check, ["webhook", id], filter);
    if url.is_none() && !check.has(&["webhook", id, "url"]) {
        check.missing(&["webhook", id, "url"], "give `https://HOST/PATH`");
    }
    let url = url.and_then(|text| check_url(check, id, &text))?;
    Some(Webhook { id: name?, url, token, ca, replay, filter })
}

/// Whether this, behind a broker's name, makes the name of one of its connections.
fn is_rest(rest: &str) -> bool {
    rest.is_empty() || rest.strip_prefix('-').is_some_and(|rest| crate::wire::dialect(rest).is_some())
}

fn check_url(check: &mut Check<'_>, id: &str, text: &str) -> Option<String> {
    let keys = ["webhook", id, "url"];
    match url::parse(text, &["https"]) {
        Ok(clean) if clean.user.is_some() || clean.password.is_some() => {
            let message = "holds a login, which is not sent: a receiver knows the daemon by `token` in \
                           `vedette.secrets`: [webhook.NAME] token = …";
            check.value_error(&keys, message);
            None
        }
        Ok(clean) => Some(clean.url),
        Err(message) => {
            check.value_error(&keys, message);
            None
        }
    }
}
