//! A camera's address: what is accepted, and how credentials in it are kept out of sight.

use std::fmt;
use std::sync::Arc;

use url::Url;
use vedette_core::{CameraId, Secret, secret::redacted};

use crate::{Fault, FaultClass, Local, Route, Trust};

/// How RTP reaches us.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, and UDP where the camera refuses that; back to TCP where no datagram arrives. With `rtsps` TCP alone, since
    /// datagrams are not encrypted. The default.
    #[default]
    Auto,
    /// Interleaved in the RTSP connection: passes every firewall, loses nothing.
    Tcp,
    /// Datagrams: for servers that refuse TCP.
    Udp,
}

impl Transport {
    /// As in configuration; without `auto` as in `rtspsrc protocols=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One camera to receive from.
#[derive(Clone)]
pub struct SourceConfig {
    /// Its name, for threads and log lines.
    pub camera: CameraId,
    /// `rtsp://` or `rtsps://` (also `rtspt://` and `rtspu://`, which name the transport), or one of [`Local`].
    pub url: String,
    /// Wins over a user in the address.
    pub user: Option<String>,
    /// Wins over a password in the address.
    pub password: Option<Secret>,
    /// TCP or UDP, or what works.
    pub transport: Transport,
    /// What the camera's earlier connections learnt: give all of them the same one.
    pub route: Arc<Route>,
    /// Which certificate of an `rtsps` camera is good.
    pub trust: Trust,
    /// A description of kind `receive` or `source`; by the codec where absent.
    pub pipeline: Option<String>,
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("camera", &self.camera)
            .field("url", &redacted(&self.url))
            .field("transport", &self.transport)
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}

/// A checked address, its credentials apart from it.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without credentials.
    pub(crate) location: String,
    /// Without credentials and query: for messages.
    pub(crate) shown: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// TCP or UDP.
    pub(crate) transport: Transport,
    /// Where the other transport may be tried.
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) trust: Trust,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    /// A camera on this machine: host, port and login are empty.
    pub(crate) local: Option<Local>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Target {
    /// Checks the address of a camera.
    pub(crate) fn new(config: &SourceConfig) -> Result<Self, Fault> {
        let shown = redacted(&config.url);
        let wrong = |what: String, remedy: &str| Fault::new(FaultClass::BadUrl, what, remedy);
        let example = "write it as rtsp://HOST[:PORT]/PATH";
        if let Some(local) = Local::of(&config.url) {
            let local = local.map_err(|what| wrong(what, "correct `url`"))?;
            return local.look().map(|()| Self::of_local(local));
        }
        let mut url = Url::parse(&config.url)
            .map_err(|error| wrong(format!("`{shown}` is no address: {error}"), example))?;
        let (scheme, transport) = match url.scheme() {
            "rtsp" | "rtsps" => (url.scheme().to_owned(), config.transport),
            "rtspt" => ("rtsp".to_owned(), Transport::Tcp),
            "rtspu" => ("rtsp".to_owned(), Transport::Udp),
            other => {
                let remedy = "cameras are received by rtsp://, rtsps://, file://, v4l2:// or test://";
                return Err(wrong(format!("`{shown}`: cannot receive `{other}`"), remedy));
            }
        };
        let host = match url.host_str() {
            Some(host) if !host.is_empty() => host.trim_matches(['[', ']']).to_owned(),
            _ => return Err(wrong(format!("`{shown}` has no host"), example)),
        };
        let user =
            config.user.clone().or_else(|| (!url.username().is_empty()).then(|| unescaped(url.username())));
        let password = config.password.clone().or_else(|| url.password().map(|p| Secret::new(unescaped(p))));
        let tls = scheme == "rtsps";
        let port = url.port().unwrap_or(if tls { 322 } else { 554 });
        let stripped = url.set_username("").is_ok() && url.set_password(None).is_ok();
        if !stripped {
            return Err(wrong(
                format!("`{shown}` cannot hold credentials"),
                "set `user` and `password` instead",
            ));
        }
        // `Url::set_scheme` refuses some pairs of schemes; the text after the scheme is the same for all.
        let location = format!("{scheme}{}", &url.as_str()[url.scheme().len()..]);
        let route = (transport == Transport::Auto && !tls).then(|| Arc::clone(&config.route));
        let transport = match (transport, &route) {
            (Transport::Auto, Some(route)) => route.next(),
            (Transport::Auto, None) => Transport::Tcp,
            (fixed, _) => fixed,
        };
        let (shown, trust) = (redacted(&location), config.trust.clone());
        Ok(Self { location, shown, host, port, tls, transport, route, trust, user, password, local: None })
    }

    fn of_local(local: Local) -> Self {
        Self {
            location: local.address().to_owned(),
            shown: local.address().to_owned(),
            host: String::new(),
            port: 0,
            tls: false,
            transport: Transport::Tcp,
            route: None,
            trust: Trust::System,
            user: None,
            password: None,
            local: Some(local),
        }
    }
}

impl Target {
    /// Whether a refused connection may have a reason that `rtspsrc` does not tell: a name without an address, TLS.
    pub(crate) fn wants_a_closer_look(&self) -> bool {
        self.local.is_none() && (self.tls || self.host.parse::<std::net::IpAddr>().is_err())
    }
}

/// Undoes `%41`; leaves what is no escape as it stands.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        if let Some(value) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            bytes.push(value);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> SourceConfig {
        SourceConfig {
            camera: CameraId::new("gate").unwrap(),
            url: url.into(),
            user: None,
            password: None,
            transport: Transport::Tcp,
            route: Arc::default(),
            trust: Trust::System,
            pipeline: None,
        }
    }

    #[test]
    fn credentials_leave_the_address() {
        let target = Target::new(&config("rtsp://admin:p%40ss%zz@10.0.0.1/a?channel=1&subtype=0")).unwrap();
        assert_eq!(target.location, "rtsp://10.0.0.1/a?channel=1&subtype=0");
        assert_eq!((target.host.as_str(), target.port, target.tls), ("10.0.0.1", 554, false));
        assert_eq!(target.user.as_deref(), Some("admin"));
        assert_eq!(target.password.as_ref().map(Secret::reveal), Some("p@ss%zz"));
        assert!(!format!("{target:?}").contains("p@ss"));
        assert!(!format!("{:?}", config("rtsp://admin:geheim@cam/")).contains("geheim"));
    }

    proptest::proptest! {
        #[test]
        fn no_address_gives_its_password_away(
            user in "[a-z%0-9@:/]{0,8}", host in "[a-z0-9.:@/?#]{0,12}", scheme in "rtsps?|rtspu|http|",
        ) {
            let config = config(&format!("{scheme}://{user}:GEHEIM@{host}"));
            let shown = match Target::new(&config) {
                Ok(target) => format!("{target:?} {}", target.shown),
                Err(fault) => fault.to_string(),
            };
            proptest::prop_assert!(!shown.contains("GEHEIM"), "{}", shown);
        }
    }

    #[test]
    fn configured_credentials_win_and_schemes_name_transports() {
        let with = SourceConfig { user: Some("me".into()), ..config("rtspu://you@cam/x") };
        let target = Target::new(&with).unwrap();
        assert_eq!((target.user.as_deref(), target.transport), (Some("me"), Transport::Udp));
        assert_eq!(target.location, "rtsp://cam/x");
        let tls = Target::new(&config("rtsps://[fe80::1]:8322/x")).unwrap();
        assert_eq!((tls.host.as_str(), tls.port, tls.tls), ("fe80::1", 8322, true));
    }

    #[test]
    fn what_works_is_asked_for_but_never_datagrams_beside_tls() {
        let auto = |url: &str| SourceConfig { transport: Transport::Auto, ..config(url) };
        let plain = auto("rtsp://cam/x");
        assert_eq!(Target::new(&plain).unwrap().transport, Transport::Tcp);
        plain.route.works(Transport::Udp);
        assert_eq!(Target::new(&plain).unwrap().transport, Transport::Udp);
        let secure = SourceConfig { route: Arc::clone(&plain.route), ..auto("rtsps://cam/x") };
        let target = Target::new(&secure).unwrap();
        assert_eq!((target.transport, target.route.is_none()), (Transport::Tcp, true));
        let named = SourceConfig { route: plain.route, ..auto("rtspt://cam/x") };
        assert_eq!(Target::new(&named).unwrap().transport, Transport::Tcp);
    }

    #[test]
    fn other_addresses_are_refused_without_giving_secrets_away() {
        for url in [
            "",
            "10.0.0.1/a",
            "http://a:geheim@b/",
            "file://host/a.mp4",
            "rtsp://",
            "rtsp:///x",
            "rtsp://u:geheim@:99999/",
        ] {
            let fault = Target::new(&config(url)).expect_err(url);
            assert_eq!(fault.class, FaultClass::BadUrl, "{url}");
            assert!(!fault.to_string().contains("geheim"), "{fault}");
        }
    }
}
