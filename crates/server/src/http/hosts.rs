use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

/// The hosts that a request may name as the one it means. Ports are not compared.
///
/// A browser that was led here by a name that someone else controls names that name, and gets
/// nothing.
#[derive(Debug)]
pub(super) struct Hosts(BTreeSet<String>);

impl Hosts {
    /// Localhost, every loopback address, and these, each with or without a port.
    pub(super) fn new<'a>(allowed: impl IntoIterator<Item = &'a String>) -> Self {
        let host = |text: &String| host(text).unwrap_or(text).to_ascii_lowercase();
        Self(allowed.into_iter().map(host).collect())
    }

    /// Whether `authority` (`host` or `host:port`) is one of them.
    pub(super) fn allow(&self, authority: &str) -> bool {
        host(authority).is_some_and(|host| {
            host.eq_ignore_ascii_case("localhost")
                || is_loopback(host)
                || self.0.contains(host)
                || self.0.contains(&host.to_ascii_lowercase())
        })
    }

    /// Whether `origin` (`http://host:port`) is one of them.
    pub(super) fn allow_origin(&self, origin: &str) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| self.allow(authority))
    }
}

/// The part before the port; `None` if `authority` is malformed.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = authority.len() - rest.len() + rest.find(']')? + 1;
            let port = &authority[end..];
            (&authority[..end], if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let good = !host.is_empty()
        && host.bytes().all(plain)
        && port.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse().is_ok_and(|v6: Ipv6Addr| v6.is_loopback()),
        None => host.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4() && ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(&["10.0.0.7:9001".into(), "Store.Example".into(), "[2001:db8::1]:9001".into()])
    }

    #[test]
    fn loopback_and_the_configured_ones_are_allowed_at_any_port() {
        for good in [
            "localhost",
            "LOCALHOST:9001",
            "127.0.0.1:9001",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
            "10.0.0.7:1",
            "store.example",
            "STORE.example:443",
            "[2001:DB8::1]",
        ] {
            assert!(hosts().allow(good), "{good}");
        }
    }

    #[test]
    fn others_and_malformed_ones_are_not() {
        for bad in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80:80",
            "127.0.0.1:x",
            "user@localhost",
            "10.0.0.8",
            "[::1",
            "[::1]x",
            "::1",
            "0.0.0.0",
            "[::ffff:10.0.0.8]",
        ] {
            assert!(!hosts().allow(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_an_allowed_host() {
        assert!(hosts().allow_origin("http://localhost:9001"));
        assert!(hosts().allow_origin("https://store.example"));
        for bad in ["null", "localhost", "http://evil.example", "file://", "http://localhost/x"] {
            assert!(!hosts().allow_origin(bad), "{bad}");
        }
    }
}
