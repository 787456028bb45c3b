//! Whose wall clock is wrong: the one that differs from the majority, not those that notice.

/// How another node's wall clock differs from the one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// By how many milliseconds it is ahead; negative: behind.
    pub ahead_ms: i64,
    /// By how many milliseconds that may be wrong: half the round-trip time of the exchange that told it.
    pub error_ms: u64,
}

/// What the clocks of the living say of the wall clock here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockStanding {
    /// It is as the majority's, or there is nobody to compare it with.
    Agrees,
    /// A majority agrees among itself, and not with the clock here.
    Deviates {
        /// By how many milliseconds the clock here is ahead of theirs; negative: behind.
        ahead_ms: i64,
    },
    /// There is no majority: of two nodes that differ, nobody can say which is right.
    Undecided,
}

/// Judges the clock here, which counts as one of them. Two clocks agree that differ by at most `skew_ms_max`.
pub(crate) fn judge(mut others: Vec<ClockOffset>, skew_ms_max: u64) -> ClockStanding {
    let all = others.len() + 1;
    let like_me = |other: &&ClockOffset| {
        other.ahead_ms.unsigned_abs() <= skew_ms_max.saturating_add(other.error_ms)
    };
    let agreeing = 1 + others.iter().filter(like_me).count();
    if 2 * agreeing > all {
        return ClockStanding::Agrees;
    }
    others.sort_unstable_by_key(|other| other.ahead_ms);
    let majority = all / 2 + 1;
    let tightest = others
        .windows(majority)
        .min_by_key(|group| spread(group))
        .filter(|group| spread(group) <= skew_ms_max);
    match tightest {
        Some(group) => ClockStanding::Deviates {
            ahead_ms: group[majority / 2].ahead_ms.saturating_neg(),
        },
        None => ClockStanding::Undecided,
    }
}

/// By how much the members of a sorted group differ.
fn spread(group: &[ClockOffset]) -> u64 {
    match (group.first(), group.last()) {
        (Some(first), Some(last)) => last.ahead_ms.abs_diff(first.ahead_ms),
        (None, _) | (_, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(ahead_ms: &[i64]) -> ClockStanding {
        let offset = |ahead_ms: &i64| ClockOffset {
            ahead_ms: *ahead_ms,
            error_ms: 20,
        };
        judge(ahead_ms.iter().map(offset).collect(), 1_000)
    }

    #[test]
    fn a_lone_clock_and_one_like_the_others_agree() {
        assert_eq!(standing(&[]), ClockStanding::Agrees);
        assert_eq!(standing(&[-900, 1_010]), ClockStanding::Agrees);
    }

    #[test]
    fn those_that_notice_a_wrong_clock_are_not_the_wrong_ones() {
        assert_eq!(standing(&[5, 60_000]), ClockStanding::Agrees);
        assert_eq!(standing(&[5, -5, 60_000, 70_000]), ClockStanding::Agrees);
    }

    #[test]
    fn the_one_that_differs_from_the_majority_is_wrong() {
        let deviates = ClockStanding::Deviates { ahead_ms: -60_000 };
        assert_eq!(standing(&[60_000, 60_000]), deviates);
        assert_eq!(standing(&[0, 59_990, 60_000, 60_010]), deviates);
    }

    #[test]
    fn without_a_majority_nobody_is_wrong() {
        assert_eq!(standing(&[60_000]), ClockStanding::Undecided);
        assert_eq!(standing(&[60_000, -60_000]), ClockStanding::Undecided);
    }

    #[test]
    fn the_wildest_clocks_are_judged_too() {
        assert_eq!(standing(&[i64::MIN, i64::MAX]), ClockStanding::Undecided);
    }
}
