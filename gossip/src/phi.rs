//! Suspicion as a number: phi, after Hayashibara, Défago, Yared, Katayama, "The phi accrual failure detector" (2004).
//!
//! ```text
//!   phi(t) = -log10( Q( (t - mean) / deviation ) )        t: time since the last progress of the node's heartbeat
//!   Q(z)   = 1/sqrt(2 pi) * integral from z to infinity of exp(-u*u/2) du     the upper tail of the normal distribution
//! ```
//!
//! Phi is minus the decimal logarithm of the chance that a living node stays silent for so long, were its intervals normally
//! distributed: at 1 one in ten such verdicts is wrong, at 8 one in a hundred million. The tail is exact here (a power series below z = 2, a continued
//! fraction above), not the logistic approximation that Akka and its descendants use, nor the exponential tail of Cassandra
//! and chitchat (there phi is `t / mean`, so their 8 is another 8). The deviation has a floor, without which a few very
//! regular heartbeats would make the first late one fatal; it is a parameter.
//!
//! Silence, in seconds, at which phi is reached:
//!
//! | mean, deviation | phi 1 | phi 3 | phi 5 | phi 8 | phi 10 | phi 12 |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | 0.2 s, 0.05 s | 0.264 | 0.355 | 0.413 | 0.481 | 0.518 | 0.552 |
//! | 0.2 s, 0.10 s | 0.328 | 0.509 | 0.626 | 0.761 | 0.836 | 0.903 |
//! | 0.4 s, 0.20 s | 0.656 | 1.018 | 1.253 | 1.522 | 1.672 | 1.807 |
//! | 1.0 s, 0.25 s | 1.320 | 1.773 | 2.066 | 2.403 | 2.590 | 2.759 |
//! | chitchat's phi at mean 0.2 s | 0.2 | 0.6 | 1.0 | 1.6 | 2.0 | 2.4 |

use std::f64::consts::{LOG10_E, PI};

/// Phi at `z` deviations above the mean: 0 for a node that is not late at all, at most [`PHI_MAX`].
pub fn phi(z: f64) -> f64 {
    if z < SERIES_LOW {
        return 0.0;
    }
    let phi = if z < SERIES_HIGH {
        -upper_tail_by_series(z).log10()
    } else {
        phi_by_fraction(z)
    };
    phi.clamp(0.0, PHI_MAX)
}

/// How many deviations above the mean phi reaches `threshold`, which is above 0 and at most [`PHI_MAX`].
pub fn deviations(threshold: f64) -> f64 {
    debug_assert!(threshold > 0.0 && threshold <= PHI_MAX);
    let (mut low, mut high) = (SERIES_LOW, Z_MAX);
    for _ in 0..BISECTIONS {
        let middle = (low + high) / 2.0;
        if phi(middle) < threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// `1 - (1/2 + density(z) * (z + z^3/3 + z^5/(3*5) + …))`.
fn upper_tail_by_series(z: f64) -> f64 {
    let mut term = z;
    let mut sum = z;
    let mut odd = 1.0;
    while term.abs() > sum.abs() * f64::EPSILON / 4.0 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 - sum * (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
}

/// `density(z) / (z + 1/(z + 2/(z + 3/(z + …))))`, its logarithm taken before anything can underflow.
fn phi_by_fraction(z: f64) -> f64 {
    let fraction = (1..=FRACTION_TERMS)
        .rev()
        .fold(z, |below, term| z + f64::from(term) / below);
    z * z / 2.0 * LOG10_E + (2.0 * PI).sqrt().log10() + fraction.log10()
}

/// The greatest phi that is told apart: no silence is more suspicious.
pub const PHI_MAX: f64 = 1_000.0;
const SERIES_LOW: f64 = -6.0;
const SERIES_HIGH: f64 = 2.0;
const FRACTION_TERMS: u32 = 200;
/// Phi of this is above [`PHI_MAX`].
const Z_MAX: f64 = 70.0;
const BISECTIONS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Tail probabilities from tables: z, Q(z).
    const TABLE: [(f64, f64); 8] = [
        (0.0, 0.5),
        (1.0, 0.158_655_253_931_457_05),
        (1.959_963_984_540_054, 0.025),
        (2.0, 0.022_750_131_948_179_21),
        (3.0, 1.349_898_031_630_094_6e-3),
        (6.0, 9.865_876_450_376_98e-10),
        (10.0, 7.619_853_024_160_527e-24),
        (20.0, 2.753_624_118_606_233_6e-89),
    ];

    #[test]
    fn phi_is_the_exact_tail_of_the_normal_distribution() {
        for (z, tail) in TABLE {
            assert!(
                (phi(z) + tail.log10()).abs() < 1e-12,
                "at z = {z}: {}",
                phi(z)
            );
        }
    }

    #[test]
    fn phi_grows_with_silence_and_never_overflows() {
        let mut before = -1.0;
        for step in -100..1_000 {
            let now = phi(f64::from(step) / 10.0);
            assert!(
                now.is_finite() && now >= before,
                "at {step}: {before} then {now}"
            );
            before = now;
        }
        assert_eq!(phi(f64::MIN), 0.0);
        assert_eq!(phi(1e300), PHI_MAX);
    }

    #[test]
    fn the_table_in_the_header_is_true() {
        let rows = [
            (0.2, 0.05, [0.264, 0.355, 0.413, 0.481, 0.518, 0.552]),
            (0.2, 0.10, [0.328, 0.509, 0.626, 0.761, 0.836, 0.903]),
            (0.4, 0.20, [0.656, 1.018, 1.253, 1.522, 1.672, 1.807]),
            (1.0, 0.25, [1.320, 1.773, 2.066, 2.403, 2.590, 2.759]),
        ];
        for (mean, deviation, seconds) in rows {
            for (threshold, expected) in [1.0, 3.0, 5.0, 8.0, 10.0, 12.0].into_iter().zip(seconds) {
                let at = mean + deviations(threshold) * deviation;
                assert!(
                    (at - expected).abs() < 0.000_6,
                    "phi {threshold} at {at}, not {expected}"
                );
            }
        }
    }
}
