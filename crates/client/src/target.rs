use std::{fmt::Write, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{Consistency, GetOptions, PutOptions, Replicas};

/// Keys may be any bytes; these stand for themselves in a path.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The path and query of a write.
pub(crate) fn of_write(key: &[u8], options: &PutOptions) -> String {
    // An answer that says who lacks the write comes at the node's deadline, and must come in time.
    let spared =
        |after: Duration| if options.wait_for_owners { after / 10 } else { Duration::ZERO };
    let timeout = options.timeout.map(|after| after - spared(after));
    let PutOptions { w, sloppy, consistency, wait_for_owners, .. } = *options;
    of_key(key, "w", w, sloppy, consistency, timeout, wait_for_owners)
}

/// The path and query of a read.
pub(crate) fn of_read(key: &[u8], options: &GetOptions) -> String {
    let GetOptions { r, sloppy, consistency, timeout } = *options;
    of_key(key, "r", r, sloppy, consistency, timeout, false)
}

fn of_key(
    key: &[u8],
    name: &str,
    replicas: Option<Replicas>,
    sloppy: Option<bool>,
    consistency: Option<Consistency>,
    timeout: Option<Duration>,
    wait: bool,
) -> String {
    let mut target = String::with_capacity("/kv/".len() + key.len());
    target.push_str("/kv/");
    target.extend(percent_encode(key, ENCODED));
    let parameters = [
        replicas.map(|replicas| format!("{name}={replicas}")),
        sloppy.map(|sloppy| format!("sloppy={sloppy}")),
        consistency.map(|level| format!("consistency={level}")),
        timeout.map(|timeout| format!("timeout_ms={}", timeout.as_millis().max(1))),
        wait.then(|| "wait=owners".to_owned()),
    ];
    for (parameter, mark) in parameters.into_iter().flatten().zip("?&&&&".chars()) {
        write!(target, "{mark}{parameter}").expect("writing into memory cannot fail");
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_bytes_and_slashes_stay() {
        for (key, path) in [
            (&b"cat"[..], "/kv/cat"),
            (b"a/b//../c", "/kv/a/b//../c"),
            (b"AZaz09-._~", "/kv/AZaz09-._~"),
            (b"a b?c#d%e+f", "/kv/a%20b%3Fc%23d%25e%2Bf"),
            (b"\0\xff\xc3\xa9", "/kv/%00%FF%C3%A9"),
        ] {
            assert_eq!(of_write(key, &PutOptions::default()), path);
        }
    }

    #[test]
    fn only_what_is_asked_for_is_in_the_query() {
        let timeout = Some(Duration::from_millis(800));
        let consistency = Some(Consistency::Atomic);
        let (w, sloppy) = (Some(Replicas::All), Some(false));
        let put = PutOptions { w, sloppy, consistency, timeout, wait_for_owners: false };
        assert_eq!(
            of_write(b"k", &put),
            "/kv/k?w=all&sloppy=false&consistency=atomic&timeout_ms=800"
        );
        let put = PutOptions { wait_for_owners: true, ..PutOptions::default() };
        assert_eq!(of_write(b"k", &put), "/kv/k?wait=owners");
        let put = PutOptions { timeout, ..put };
        assert_eq!(of_write(b"k", &put), "/kv/k?timeout_ms=720&wait=owners");
        let get = GetOptions { r: Some(Replicas::Count(2)), ..GetOptions::default() };
        assert_eq!(of_read(b"k", &get), "/kv/k?r=2");
        let get = GetOptions { timeout: Some(Duration::ZERO), ..GetOptions::default() };
        assert_eq!(of_read(b"k", &get), "/kv/k?timeout_ms=1");
    }
}
