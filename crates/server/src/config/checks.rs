use std::{fmt::Display, str::FromStr, time::Duration};

use super::{MIN_SECRET_CHARS, Secret};

/// Most requests or connections at once, or records at a time, that may be asked for.
pub(super) const MAX_LIMIT: u64 = 1_000_000;

/// Longest span that may be given in seconds.
pub(super) const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;

/// Most bytes of a token or a file with a secret.
pub(super) const MAX_NAME_BYTES: usize = 4096;

/// Most characters of a cluster secret.
const MAX_SECRET_CHARS: usize = 1024;

const MAX_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn check_host(host: String) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let fits = (1..=255).contains(&host.len()) && host.bytes().all(plain);
    if fits {
        Ok(host)
    } else {
        Err(format!("{host:?} is no host name; write one like \"db.example\""))
    }
}

/// One secret, or two that are separated by white space.
pub(super) fn check_secrets(text: &Secret) -> Result<Vec<Secret>, String> {
    let secrets: Vec<_> = text.reveal().split_whitespace().collect();
    match secrets.len() {
        1 | 2 => secrets.into_iter().map(check_secret).collect(),
        0 => Err("is empty".to_owned()),
        count => Err(format!("has {count} secrets; two are enough to replace one by another")),
    }
}

/// It goes into a header, too. What is wrong with it must not show it.
pub(super) fn check_secret(text: &str) -> Result<Secret, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a secret is visible ASCII without spaces".to_owned());
    }
    let chars = text.len();
    if chars < MIN_SECRET_CHARS {
        return Err(format!(
            "has {chars} characters, and a secret needs at least {MIN_SECRET_CHARS}"
        ));
    }
    if chars > MAX_SECRET_CHARS {
        return Err(format!("has {chars} characters, and a secret at most {MAX_SECRET_CHARS}"));
    }
    Ok(Secret::new(text))
}

pub(super) fn check_token(token: String) -> Result<String, String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(token)
    } else {
        Err("a token is visible ASCII without spaces, and not empty".to_owned())
    }
}

pub(super) fn check_timeout(timeout: Duration) -> Result<Duration, String> {
    if (Duration::from_millis(1)..=MAX_TIMEOUT).contains(&timeout) {
        return Ok(timeout);
    }
    Err(format!("must be 1 ms to {} s", MAX_TIMEOUT.as_secs()))
}

pub(super) fn check_ae_interval(interval: Duration) -> Result<Duration, String> {
    if (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&interval) {
        return Ok(interval);
    }
    Err("must be 10 ms to 24 h; to switch anti-entropy off, set anti_entropy to false".to_owned())
}

pub(super) fn check_ae_max(max: usize) -> Result<usize, String> {
    within(max, 1, to_usize(MAX_LIMIT), "to switch anti-entropy off, set anti_entropy to false")
}

pub(super) fn within(count: usize, least: usize, most: usize, why: &str) -> Result<usize, String> {
    if (least..=most).contains(&count) {
        return Ok(count);
    }
    Err(format!("{count} is out of range: {least} to {most} ({why})"))
}

pub(super) fn between(count: u64, least: u64, most: u64) -> Result<u64, String> {
    if (least..=most).contains(&count) {
        return Ok(count);
    }
    Err(format!("{count} is out of range: {least} to {most}"))
}

pub(super) fn to_usize(limit: u64) -> usize {
    usize::try_from(limit).expect("limits fit in 32 bits")
}

pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
