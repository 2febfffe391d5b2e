use std::time::Duration;

use quorate_quorum::{Quorum, QuorumError};

use super::{
    HttpSettings, key_path,
    problem::{Problem, shortened},
};

/// How a client's request is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) quorum: Quorum,
    pub(super) atomic: bool,
    pub(super) timeout: Duration,
    /// Whether the answer waits until all owners hold the write.
    pub(super) wait: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Consistency {
    Eventual,
    Quorum,
    Atomic,
}

const MAX_TIMEOUT_MS: u64 = 60_000;

/// Reads the query of a client's request; what it does not name is as `settings` says.
///
/// # Errors
/// `400` on an unknown, repeated, malformed or contradictory parameter.
pub(super) fn ask(query: Option<&str>, settings: &HttpSettings) -> Result<Ask, Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        let (quorum, timeout) = (settings.quorum, settings.timeout);
        return Ok(Ask { quorum, atomic: false, timeout, wait: false });
    };
    let [r, w, sloppy, timeout, consistency, wait] =
        named(query, ["r", "w", "sloppy", "timeout_ms", "consistency", "wait"])?;
    let n = settings.quorum.n();
    let r = r.map(|text| count("r", &text, n)).transpose()?;
    let w = w.map(|text| count("w", &text, n)).transpose()?;
    let sloppy = sloppy.map(|text| flag("sloppy", &text)).transpose()?;
    let timeout = timeout.map(|text| timeout_ms(&text)).transpose()?;
    let consistency = consistency.map(|text| level(&text)).transpose()?;
    let wait = wait.map(|text| awaited(&text)).transpose()?.is_some();

    let majority = Quorum::majority(n);
    let (default_r, default_w, default_sloppy) = match consistency {
        None => (settings.quorum.r(), settings.quorum.w(), settings.quorum.sloppy()),
        Some(Consistency::Eventual) => (1, 1, settings.quorum.sloppy()),
        Some(Consistency::Quorum | Consistency::Atomic) => (majority, majority, false),
    };
    let quorum = Quorum::new(
        n,
        r.unwrap_or(default_r),
        w.unwrap_or(default_w),
        sloppy.unwrap_or(default_sloppy),
    )
    .map_err(|error| {
        let parameter =
            if matches!(error, QuorumError::WriteOutOfRange { .. }) { "w" } else { "r" };
        Problem::bad(parameter, error.to_string())
    })?;
    match consistency {
        Some(Consistency::Quorum) => {
            contradiction(quorum, quorum.is_strict(), "consistency=quorum", "r + w > n")?;
        }
        Some(Consistency::Atomic) => {
            let majorities = quorum.r() >= majority && quorum.w() >= majority;
            contradiction(quorum, majorities, "consistency=atomic", "majorities as r and w")?;
        }
        Some(Consistency::Eventual) | None => {}
    }
    let atomic = consistency == Some(Consistency::Atomic);
    Ok(Ask { quorum, atomic, timeout: timeout.unwrap_or(settings.timeout), wait })
}

/// Refuses a quorum that is not what its consistency promises.
fn contradiction(quorum: Quorum, enough: bool, level: &str, needs: &str) -> Result<(), Problem> {
    if quorum.sloppy() {
        return Err(Problem::bad("sloppy", format!("{level} counts no fallback")));
    }
    if !enough {
        return Err(Problem::bad("consistency", format!("{level} needs {needs}")));
    }
    Ok(())
}

/// The values of the parameters of these `names`, percent-decoded.
///
/// # Errors
/// `400` on any other name, and on one that comes twice.
pub(super) fn named<const COUNT: usize>(
    query: &str,
    names: [&'static str; COUNT],
) -> Result<[Option<Vec<u8>>; COUNT], Problem> {
    let mut values = [const { None }; COUNT];
    if query.is_empty() {
        return Ok(values);
    }
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| Problem::bad(name, format!("no parameter {:?}", shortened(name))))?;
        let value = key_path::decoded(value).ok_or_else(|| Problem::bad(name, "a bad % escape"))?;
        if values[place].replace(value.into_owned()).is_some() {
            return Err(Problem::bad(name, "given more than once"));
        }
    }
    Ok(values)
}

fn count(name: &'static str, text: &[u8], n: usize) -> Result<usize, Problem> {
    match text {
        b"one" => Ok(1),
        b"quorum" => Ok(Quorum::majority(n)),
        b"all" => Ok(n),
        _ => number(text)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| Problem::bad(name, format!("not 1 to {n}, one, quorum or all"))),
    }
}

fn flag(name: &'static str, text: &[u8]) -> Result<bool, Problem> {
    match text {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Problem::bad(name, "neither true nor false")),
    }
}

fn timeout_ms(text: &[u8]) -> Result<Duration, Problem> {
    number(text)
        .filter(|ms| (1..=MAX_TIMEOUT_MS).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| Problem::bad("timeout_ms", format!("not 1 to {MAX_TIMEOUT_MS}")))
}

fn awaited(text: &[u8]) -> Result<(), Problem> {
    if text == b"owners" { Ok(()) } else { Err(Problem::bad("wait", "not owners")) }
}

fn level(text: &[u8]) -> Result<Consistency, Problem> {
    match text {
        b"eventual" => Ok(Consistency::Eventual),
        b"quorum" => Ok(Consistency::Quorum),
        b"atomic" => Ok(Consistency::Atomic),
        _ => Err(Problem::bad("consistency", "neither eventual, quorum nor atomic")),
    }
}

/// Digits only: `parse` alone would let a sign through.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use quorate_record::NodeId;

    use super::*;

    fn settings() -> HttpSettings {
        let quorum = Quorum::new(3, 1, 3, true).unwrap();
        HttpSettings::new(NodeId::new("n1").unwrap(), quorum)
    }

    #[track_caller]
    fn assert_quorum(query: &str, r: usize, w: usize, sloppy: bool) {
        let ask = ask(Some(query), &settings()).unwrap();
        assert_eq!(ask.quorum, Quorum::new(3, r, w, sloppy).unwrap(), "{query}");
    }

    #[track_caller]
    fn assert_refused(query: &str, status: u16, parameter: &str) {
        let problem = ask(Some(query), &settings()).unwrap_err();
        assert_eq!(problem.status(), status, "{query}");
        let text = format!("{problem:?}");
        assert!(text.contains(&format!("(\"parameter\", String({parameter:?}))")), "{text}");
    }

    #[test]
    fn what_is_not_named_is_as_configured() {
        let ask = ask(None, &settings()).unwrap();
        let HttpSettings { quorum, timeout, .. } = settings();
        assert_eq!(ask, Ask { quorum, atomic: false, timeout, wait: false });
        assert_quorum("", 1, 3, true);
        assert_quorum("r=2", 2, 3, true);
        assert_quorum("sloppy=false", 1, 3, false);
    }

    #[test]
    fn counts_are_numbers_or_words() {
        assert_quorum("r=quorum&w=one", 2, 1, true);
        assert_quorum("r=all&w=2", 3, 2, true);
        assert_quorum("r=%32", 2, 3, true);
    }

    #[test]
    fn a_consistency_sets_what_is_not_given() {
        assert_quorum("consistency=eventual", 1, 1, true);
        assert_quorum("consistency=quorum", 2, 2, false);
        assert_quorum("r=all&consistency=quorum&w=one", 3, 1, false);
        assert_quorum("consistency=atomic", 2, 2, false);
        assert_quorum("consistency=eventual&w=2&sloppy=false", 1, 2, false);
    }

    #[test]
    fn contradictions_are_refused() {
        assert_refused("consistency=quorum&r=1", 400, "consistency");
        assert_refused("consistency=quorum&sloppy=true", 400, "sloppy");
        assert_refused("consistency=atomic&sloppy=true", 400, "sloppy");
        assert_refused("consistency=atomic&r=1&w=all", 400, "consistency");
    }

    #[test]
    fn what_is_unknown_repeated_or_malformed_is_refused_by_name() {
        for (query, parameter) in [
            ("q=1", "q"),
            ("R=1", "R"),
            ("r=1&r=1", "r"),
            ("r=0", "r"),
            ("r=4", "r"),
            ("w=4", "w"),
            ("w=+1", "w"),
            ("w=-1", "w"),
            ("w=", "w"),
            ("w", "w"),
            ("w=99999999999999999999", "w"),
            ("sloppy=1", "sloppy"),
            ("timeout_ms=0", "timeout_ms"),
            ("timeout_ms=60001", "timeout_ms"),
            ("timeout_ms=1e3", "timeout_ms"),
            ("consistency=strong", "consistency"),
            ("r=%3", "r"),
            ("wait=all", "wait"),
            ("wait", "wait"),
            ("&r=1", ""),
        ] {
            assert_refused(query, 400, parameter);
        }
    }

    #[test]
    fn timeouts_are_milliseconds() {
        let ask = ask(Some("timeout_ms=60000"), &settings()).unwrap();
        assert_eq!(ask.timeout, Duration::from_secs(60));
    }
}
