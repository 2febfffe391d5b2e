use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use super::{ReadRepair, SyncPolicy};

/// Why some text is not the value it should be; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// Reads an address: `127.0.0.1:9001`, `[::1]:9001` or `localhost:9001`.
///
/// # Errors
/// If it is none of these, or the port is 0.
pub fn parse_addr(text: &str) -> Result<SocketAddr, ValueError> {
    let addr = match text.strip_prefix("localhost:") {
        Some(port) => {
            port.parse().ok().map(|port| (IpAddr::from(Ipv4Addr::LOCALHOST), port).into())
        }
        None => text.parse().ok(),
    };
    addr.filter(|addr: &SocketAddr| addr.port() != 0).ok_or_else(|| {
        ValueError(format!("{text:?} is no address; write one like \"127.0.0.1:9001\""))
    })
}

/// Lets only loopback addresses through, which is all that is safe without a cluster secret.
///
/// # Errors
/// For every other address: without a secret nodes cannot tell whether a peer is one of them, so
/// whoever reached the port could read and write everything.
pub fn check_loopback(addr: SocketAddr) -> Result<SocketAddr, ValueError> {
    if addr.ip().to_canonical().is_loopback() {
        return Ok(addr);
    }
    Err(ValueError(format!(
        "{addr} is not a loopback address, and without a cluster secret anybody who reaches it could \
         read and change all data; give all nodes the same cluster_secret (as \
         QUORATE_CLUSTER_SECRET, for example), or write 127.0.0.1:{0} (or [::1]:{0}); --insecure \
         starts the node nonetheless",
        addr.port()
    )))
}

/// Reads a span of time: `1500ms`, `3s`, `5m`, `2h`, or a bare number of seconds.
///
/// # Errors
/// For anything else, and for more than ten years.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let ms = number.zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    ms.filter(|&ms| ms <= 10 * 366 * 24 * 3_600_000).map(Duration::from_millis).ok_or_else(|| {
        ValueError(format!(
            "{text:?} is no span of time; write one like 1500ms, 3s, 5m or 2h (a bare number is seconds)"
        ))
    })
}

impl FromStr for SyncPolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let interval_ms = text.strip_suffix("ms").and_then(|ms| ms.parse::<u64>().ok());
        match (text, interval_ms) {
            ("always", _) => Ok(Self::Always),
            ("os", _) => Ok(Self::Os),
            (_, Some(ms @ 1..=60_000)) => Ok(Self::Interval(Duration::from_millis(ms))),
            _ => Err(ValueError(format!(
                "{text:?} is no way to sync; write \"always\", \"os\", or an interval of 1 to 60000 \
                 milliseconds like \"50ms\""
            ))),
        }
    }
}

impl FromStr for ReadRepair {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "async" => Ok(Self::Async),
            "blocking" => Ok(Self::Blocking),
            _ => Err(ValueError(format!(
                "{text:?} is no way to repair; write \"async\" or \"blocking\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_loopback_and_other_names_are_no_addresses() {
        assert_eq!(parse_addr("localhost:9001").unwrap(), "127.0.0.1:9001".parse().unwrap());
        assert_eq!(parse_addr("[::1]:9001").unwrap(), "[::1]:9001".parse().unwrap());
        for bad in ["", ":9001", "9001", "127.0.0.1", "127.0.0.1:0", "localhost:x", "db1:9001"] {
            assert!(parse_addr(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_loopback_may_be_listened_on() {
        for good in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(check_loopback(good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:7", "[::]:7", "10.0.0.1:7", "[2001:db8::1]:7"] {
            let error = check_loopback(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("write 127.0.0.1:7"), "{error}");
        }
    }

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!(parse_duration("3").unwrap(), Duration::from_secs(3));
        assert_eq!(parse_duration("3s").unwrap(), Duration::from_secs(3));
        assert_eq!(parse_duration("1500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        for bad in ["", "ms", "-1s", "1.5s", "3d", "99999999999h", "١s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_sync_interval_has_a_unit_and_bounds() {
        assert_eq!("always".parse(), Ok(SyncPolicy::Always));
        assert_eq!("os".parse(), Ok(SyncPolicy::Os));
        assert_eq!("50ms".parse(), Ok(SyncPolicy::Interval(Duration::from_millis(50))));
        for bad in ["", "never", "50", "0ms", "60001ms", "1s"] {
            assert!(bad.parse::<SyncPolicy>().is_err(), "{bad:?}");
        }
    }
}
