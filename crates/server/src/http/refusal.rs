use hyper::StatusCode;
use quorate_node::Refusal;

use super::problem::Problem;

/// What a node's own refusal is in HTTP.
pub(super) fn problem(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::NotOwner => Problem::new(StatusCode::MISDIRECTED_REQUEST, detail),
        Refusal::TooFarAhead | Refusal::Malformed => Problem::new(StatusCode::BAD_REQUEST, detail),
        Refusal::TooLate => Problem::new(StatusCode::GATEWAY_TIMEOUT, detail),
        Refusal::Overloaded => Problem::overloaded(detail),
        _ => Problem::unavailable(detail),
    }
}
