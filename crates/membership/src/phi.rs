//! How suspicious a silence is.

use std::f64::consts::LN_10;

// A cubic in the logit that comes within 0.0002 of the normal distribution (Page, "Approximations to
// the cumulative normal function and its inverse", 1977); unlike the distribution it can be inverted.
const LINEAR: f64 = 1.5976;
const CUBIC: f64 = 0.070_566;

/// The suspicion after a silence that is `deviations` standard deviations longer than the mean:
/// −log₁₀ of the probability that a sign of life comes even later (Hayashibara et al. 2004, §4.3).
pub(crate) fn phi(deviations: f64) -> f64 {
    let logit = deviations * (LINEAR + CUBIC * deviations * deviations);
    // ln(1 + eˣ), which is x where eˣ would have no room.
    let softplus = if logit > 30.0 { logit } else { logit.exp().ln_1p() };
    softplus / LN_10
}

/// After how many deviations [`phi`] reaches `phi`, which is above zero and at most 100.
pub(crate) fn deviations(phi: f64) -> f64 {
    let logit = (phi * LN_10).exp_m1().ln();
    // The one real root of y³ + p·y = q (Cardano); p is positive.
    let (p, q) = (LINEAR / CUBIC, logit / CUBIC);
    let root = (q * q / 4.0 + p * p * p / 27.0).sqrt();
    (q / 2.0 + root).cbrt() + (q / 2.0 - root).cbrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_is_the_tail_of_the_normal_distribution() {
        // Tails: 0.5 at the mean, 0.158655 one deviation later, 0.001350 three later.
        for (deviations, tail) in [(0.0, 0.5_f64), (1.0, 0.158_655), (3.0, 0.001_350)] {
            let expected = -tail.log10();
            assert!((phi(deviations) - expected).abs() < 0.05, "{deviations}: {}", phi(deviations));
        }
        assert!(phi(-10.0) < 1e-9);
    }

    #[test]
    fn deviations_inverts_phi() {
        for tenth in 1..=1_000 {
            let wanted = f64::from(tenth) / 10.0;
            let reached = phi(deviations(wanted));
            assert!((reached - wanted).abs() < 1e-6, "{wanted}: {reached}");
        }
    }
}
