use hyper::{
    Method, StatusCode, Version,
    header::{
        AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
        WWW_AUTHENTICATE,
    },
    http::request::Parts,
};
use quorate_transport::PeerCertificate;
use subtle::{Choice, ConstantTimeEq};

use super::{HttpSettings, hosts::Hosts, problem::Problem};

/// Who a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Whoever watches whether the process lives.
    Probe,
    /// Those who keep values here.
    Client,
    /// The other nodes.
    Peer,
    /// The other nodes as well, which prove who they are while the stream is set up.
    Stream,
    /// Those who run the cluster.
    Operator,
}

/// hyper lets 100 through, and is slower when it is given another number.
const MAX_HEADERS: usize = 64;
const MAX_URI_BYTES: usize = 4 * 1024;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the sender may call paths of this class.
///
/// Peers and operators show the cluster's secret if it has one, or else a certificate of its
/// authority if it has that; with neither, a node listens on loopback addresses only.
///
/// # Errors
/// Clients get `401` without credentials and `403` with wrong ones, peers and operators always the
/// same `401`.
pub(super) fn admit(class: Class, parts: &Parts, settings: &HttpSettings) -> Result<(), Problem> {
    match (class, &settings.client_tokens) {
        (Class::Client, Some(tokens)) => match shows_one_of(&parts.headers, tokens) {
            Some(true) => Ok(()),
            Some(false) => Err(Problem::new(StatusCode::FORBIDDEN, "no such token")),
            None => Err(unauthorized("a bearer token is needed")),
        },
        (Class::Peer | Class::Operator, _) if !settings.cluster_secrets.is_empty() => {
            match shows_one_of(&parts.headers, &settings.cluster_secrets) {
                Some(true) => Ok(()),
                Some(false) | None => {
                    Err(unauthorized("the cluster secret is needed as a bearer token"))
                }
            }
        }
        (Class::Peer | Class::Operator, _)
            if settings.tls.is_some() && parts.extensions.get::<PeerCertificate>().is_none() =>
        {
            let detail = "a client certificate of the cluster's authority is needed";
            Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
        }
        (Class::Probe | Class::Client | Class::Peer | Class::Operator | Class::Stream, _) => Ok(()),
    }
}

fn unauthorized(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Whether the bearer token is one of these; `None` if there are no credentials.
fn shows_one_of(headers: &HeaderMap, tokens: &[String]) -> Option<bool> {
    let credentials = headers.get(AUTHORIZATION)?;
    let given = match credentials.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
        _ => b"",
    };
    // No early end: how long it takes must not tell how much of which token was right.
    let known =
        tokens.iter().fold(Choice::from(0), |known, token| known | token.as_bytes().ct_eq(given));
    Some(bool::from(known) && !given.is_empty())
}

/// Refuses requests that can be understood in two ways, that mean somebody else, or that a page
/// from somewhere else made a browser send.
///
/// # Errors
/// `400`, `403`, `414`, `415`, `421` or `431`.
pub(super) fn check_head(parts: &Parts, hosts: &Hosts) -> Result<(), Problem> {
    let uri_bytes = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if uri_bytes > MAX_URI_BYTES {
        let detail = format!("the path and query are longer than {MAX_URI_BYTES} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
    }
    if parts.headers.len() > MAX_HEADERS {
        let detail = format!("more than {MAX_HEADERS} header lines");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail).closing());
    }
    let host = once(&parts.headers, HOST)?;
    once(&parts.headers, AUTHORIZATION)?;
    check_host(parts, host, hosts)?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        check_origin(parts, hosts)?;
    }
    Ok(())
}

/// The value of a header that must not be repeated.
fn once(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Problem::bad(name.as_str(), "given more than once").closing()),
        None => Ok(first),
    }
}

fn check_host(parts: &Parts, host: Option<&HeaderValue>, hosts: &Hosts) -> Result<(), Problem> {
    let Some(host) = host else {
        return match parts.version {
            Version::HTTP_10 => Ok(()), // which no browser speaks
            _ => Err(Problem::bad("host", "missing").closing()),
        };
    };
    let host = host.to_str().unwrap_or_default();
    if let Some(authority) = parts.uri.authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(Problem::bad("host", "differs from the host of the address").closing());
    }
    if !hosts.allow(host) {
        let detail = "no name of this node; names are added to allowed_hosts";
        return Err(
            Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).field("parameter", "host")
        );
    }
    Ok(())
}

fn check_origin(parts: &Parts, hosts: &Hosts) -> Result<(), Problem> {
    let foreign = |name: &HeaderName| {
        let detail = "pages from elsewhere may change nothing here";
        Problem::new(StatusCode::FORBIDDEN, detail).field("parameter", name.as_str())
    };
    for origin in parts.headers.get_all(ORIGIN) {
        if !origin.to_str().is_ok_and(|origin| hosts.allow_origin(origin)) {
            return Err(foreign(&ORIGIN));
        }
    }
    if parts.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site") {
        return Err(foreign(&SEC_FETCH_SITE));
    }
    // A browser sends other types from elsewhere without asking first; curl's default is one.
    let from_browser = parts.headers.contains_key(ORIGIN);
    if parts.method == Method::POST && from_browser && !is_json(&parts.headers) {
        let detail = "a browser has to send application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            .field("parameter", CONTENT_TYPE.as_str()));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(';')
            .next()
            .is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json"))
    };
    headers.get(CONTENT_TYPE).is_some_and(essence)
}
