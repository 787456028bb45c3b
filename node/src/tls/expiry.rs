//! When certificates end, and when that is to be said: a cluster whose certificates all end on one day stops on that day.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_pki_types::CertificateDer;

/// Which certificate of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its own.
    Node,
    /// The authority's, which vouches for its own and for the others'.
    Ca,
}

impl Role {
    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Ca => "ca",
        }
    }
}

/// The end of the first certificate in a file to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which it is.
    pub role: Role,
    /// Where it is.
    pub file: PathBuf,
    /// Its last second, in Unix seconds.
    pub at_s: i64,
}

/// How near an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// More than 30 days.
    Far,
    /// 30 days or less.
    Month,
    /// One day or less.
    Day,
    /// It is behind.
    Over,
}

impl Ending {
    /// Of the first of `certificates`, which are in `file`, to end. `None` where one cannot be parsed, or there are none.
    pub(super) fn first_of(
        role: Role,
        file: &Path,
        certificates: &[CertificateDer<'_>],
    ) -> Option<Self> {
        let ends: Option<Vec<i64>> = certificates.iter().map(end_s).collect();
        Some(Self {
            role,
            file: file.to_owned(),
            at_s: ends?.into_iter().min()?,
        })
    }

    /// Seconds that are left at `now_s`, in Unix seconds; negative once it is over.
    pub const fn left_s(&self, now_s: i64) -> i64 {
        self.at_s.saturating_sub(now_s)
    }

    /// How near it is at `now_s`, in Unix seconds.
    pub const fn nearness(&self, now_s: i64) -> Nearness {
        match self.left_s(now_s) {
            ..0 => Nearness::Over,
            0..=DAY_S => Nearness::Day,
            _ if self.left_s(now_s) <= MONTH_S => Nearness::Month,
            _ => Nearness::Far,
        }
    }
}

/// The ends of a node's certificates, and what was said of each.
#[derive(Debug, Clone)]
pub struct Endings(Vec<(Ending, Nearness)>);

impl Endings {
    /// Of which nothing was said yet.
    pub fn new(endings: impl IntoIterator<Item = Ending>) -> Self {
        let unsaid = |ending| (ending, Nearness::Far);
        Self(endings.into_iter().map(unsaid).collect())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Ending> {
        self.0.iter().map(|(ending, _)| ending)
    }

    /// Those of which something is to be said at `now_s`, in Unix seconds: each once as it comes nearer, and again after a clock was set
    /// back.
    pub fn due(&mut self, now_s: i64) -> Vec<(Ending, Nearness)> {
        let mut due = Vec::new();
        for (ending, said) in &mut self.0 {
            let nearness = ending.nearness(now_s);
            if nearness > *said {
                due.push((ending.clone(), nearness));
            }
            *said = nearness;
        }
        due
    }

    /// How long nothing will be due at `now_s`, in Unix seconds; `None` if nothing ever will be.
    pub fn quiet_for(&self, now_s: i64) -> Option<Duration> {
        let steps = [MONTH_S, DAY_S, -1];
        let next = |ending: &Ending| {
            let left = ending.left_s(now_s);
            let next = steps.into_iter().find(|step| left > *step)?;
            u64::try_from(left - next).ok()
        };
        self.all().filter_map(next).min().map(Duration::from_secs)
    }
}

/// The last second of a certificate.
fn end_s(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

const DAY_S: i64 = 24 * 60 * 60;
const MONTH_S: i64 = 30 * DAY_S;

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(role: Role, at_s: i64) -> Ending {
        Ending {
            role,
            file: PathBuf::from("us-1.pem"),
            at_s,
        }
    }

    #[test]
    fn an_end_is_told_of_a_month_and_a_day_before_and_when_it_is_over() {
        let end = 100 * DAY_S;
        let mut endings = Endings::new([ending(Role::Node, end), ending(Role::Ca, 10 * end)]);
        let mut said = Vec::new();
        for hour in 0..=101 * 24 {
            let now_s = hour * 60 * 60;
            for (ending, nearness) in endings.due(now_s) {
                assert_eq!(ending.role, Role::Node);
                said.push((end - now_s, nearness));
            }
        }
        assert_eq!(
            said,
            [
                (MONTH_S, Nearness::Month),
                (DAY_S, Nearness::Day),
                (-60 * 60, Nearness::Over)
            ]
        );
    }

    #[test]
    fn the_next_look_is_when_something_is_due() {
        let mut endings = Endings::new([ending(Role::Node, 0)]);
        let (mut now_s, mut said) = (-100 * DAY_S, Vec::new());
        while let Some(quiet) = endings.quiet_for(now_s) {
            now_s += i64::try_from(quiet.as_secs()).unwrap();
            said.extend(endings.due(now_s).into_iter().map(|(_, near)| near));
        }
        assert_eq!(said, [Nearness::Month, Nearness::Day, Nearness::Over]);
        assert_eq!(now_s, 1);
    }

    #[test]
    fn a_node_that_starts_late_says_it_at_once_and_one_whose_clock_is_set_back_says_it_again() {
        let mut endings = Endings::new([ending(Role::Ca, 0)]);
        let nearness = |due: Vec<(Ending, Nearness)>| due.first().map(|(_, near)| *near);
        assert_eq!(nearness(endings.due(5)), Some(Nearness::Over));
        assert_eq!(nearness(endings.due(6)), None);
        assert_eq!(nearness(endings.due(-2 * DAY_S)), None);
        assert_eq!(nearness(endings.due(7)), Some(Nearness::Over));
    }
}
