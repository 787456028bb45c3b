//! How people write durations, round trips, clock offsets and settings on the command line.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{error::Error, topology::Ends};
use crate::link::{Loss, Rate, Settings};

/// Reads `80ms`, `1s 500ms` or `0`.
///
/// # Errors
/// If it is no duration.
pub fn duration(text: &str) -> Result<Duration, Error> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|e| Error::Usage(format!("'{text}' is no duration like 80ms: {e}")))
}

/// A round trip time for one link, or for all links between regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrip {
    /// Which link; `None` is every link between regions.
    pub ends: Option<Ends>,
    /// How long a round trip takes.
    pub rtt: Duration,
}

/// Reads `us-eu=80ms,us-ap=150ms`, `us-1,eu-2=80ms` or, for every link between regions, `80ms`.
///
/// # Errors
/// If an entry is no link with a duration.
pub fn round_trips(text: &str) -> Result<Vec<RoundTrip>, Error> {
    if !text.contains('=') {
        return Ok(vec![RoundTrip {
            ends: None,
            rtt: duration(text)?,
        }]);
    }
    let mut entries = Vec::new();
    // A comma joins entries, and the two nodes of a link within one.
    let mut first_node = None;
    for part in text.split(',') {
        let Some((name, rtt)) = part.split_once('=') else {
            if first_node.replace(part).is_some() {
                return Err(Error::Usage(format!(
                    "'{text}' has a link without a round trip time"
                )));
            }
            continue;
        };
        let name = first_node
            .take()
            .map_or(name.to_owned(), |first| format!("{first},{name}"));
        entries.push(RoundTrip {
            ends: Some(name.parse()?),
            rtt: duration(rtt)?,
        });
    }
    match first_node {
        Some(left) => Err(Error::Usage(format!(
            "link '{left}' has no round trip time"
        ))),
        None => Ok(entries),
    }
}

/// Reads a clock offset, `+300ms`, `-2s` or `0`, in milliseconds.
///
/// # Errors
/// If it has no sign or is no duration.
pub fn offset_ms(text: &str) -> Result<i64, Error> {
    if text == "0" {
        return Ok(0);
    }
    let wrong = || {
        Error::Usage(format!(
            "'{text}' is no clock offset: write +300ms, -300ms or 0"
        ))
    };
    let (sign, size) = match text.split_at_checked(1) {
        Some(("+", size)) => (1, size),
        Some(("-", size)) => (-1, size),
        _ => return Err(wrong()),
    };
    let ms = i64::try_from(duration(size)?.as_millis()).map_err(|_| wrong())?;
    Ok(sign * ms)
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// If there is no key or no `=`.
pub fn assignment(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::Usage(format!("'{text}' is no KEY=VALUE"))),
    }
}

/// New settings for a link: what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Round trip time; each direction takes half of it.
    pub rtt: Option<Duration>,
    /// Up to this much more in each direction.
    pub jitter: Option<Duration>,
    /// Loss in each direction.
    pub loss: Option<Loss>,
    /// Bits per second in each direction.
    pub rate: Option<Limit>,
}

impl Change {
    /// A change of the round trip time alone.
    pub fn rtt(rtt: Duration) -> Self {
        Self {
            rtt: Some(rtt),
            ..Self::default()
        }
    }

    /// A change of the loss alone.
    pub fn loss(loss: Loss) -> Self {
        Self {
            loss: Some(loss),
            ..Self::default()
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The settings after the change.
    pub fn apply(&self, settings: Settings) -> Settings {
        Settings {
            delay: self.rtt.map_or(settings.delay, |rtt| rtt / 2),
            jitter: self.jitter.unwrap_or(settings.jitter),
            loss: self.loss.unwrap_or(settings.loss),
            rate: self.rate.map_or(settings.rate, Limit::rate),
        }
    }
}

/// A limit of the rate, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Anything passes.
    Off,
    /// So many bits per second.
    Rate(Rate),
}

impl Limit {
    fn rate(self) -> Option<Rate> {
        match self {
            Self::Off => None,
            Self::Rate(rate) => Some(rate),
        }
    }
}

impl FromStr for Limit {
    type Err = crate::link::SettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Rate::parse_limit(text)?.map_or(Self::Off, Self::Rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn trip(a: &str, b: &str, rtt: u64) -> RoundTrip {
        RoundTrip {
            ends: Some(Ends {
                a: a.to_owned(),
                b: b.to_owned(),
            }),
            rtt: ms(rtt),
        }
    }

    #[test]
    fn round_trips_name_regions_or_nodes_or_all() {
        assert_eq!(
            round_trips("us-eu=80ms,us-ap=150ms").unwrap(),
            [trip("us", "eu", 80), trip("us", "ap", 150)]
        );
        assert_eq!(
            round_trips("us-1,eu-2=5ms,us-ap=0").unwrap(),
            [trip("us-1", "eu-2", 5), trip("us", "ap", 0)]
        );
        assert_eq!(
            round_trips("80ms").unwrap(),
            [RoundTrip {
                ends: None,
                rtt: ms(80)
            }]
        );
        for wrong in [
            "",
            "us-eu",
            "us-eu=",
            "us=80ms",
            "us-eu=80",
            "us-eu=80ms,",
            "us-1,us-2,eu-1=1ms",
            "us-eu=-1ms",
        ] {
            assert!(round_trips(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn offsets_have_a_sign() {
        assert_eq!(offset_ms("+300ms").unwrap(), 300);
        assert_eq!(offset_ms("-2s").unwrap(), -2000);
        assert_eq!(offset_ms("0").unwrap(), 0);
        for wrong in ["", "300ms", "+", "-x", "é"] {
            assert!(offset_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn assignments_split_at_the_first_equals_sign() {
        assert_eq!(
            assignment("a.b=c=d").unwrap(),
            ("a.b".to_owned(), "c=d".to_owned())
        );
        assert!(assignment("a.b").is_err());
        assert!(assignment("=1").is_err());
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let settings = Settings {
            jitter: ms(3),
            ..Settings::with_rtt(ms(80))
        };
        let change = Change {
            rate: Some(Limit::Rate(Rate::from_bits(1000).unwrap())),
            ..Change::rtt(ms(10))
        };
        let changed = change.apply(settings);
        assert_eq!(
            changed,
            Settings {
                delay: ms(5),
                rate: Rate::from_bits(1000),
                ..settings
            }
        );
        assert_eq!(
            Change {
                rate: Some(Limit::Off),
                ..Change::default()
            }
            .apply(changed)
            .rate,
            None
        );
        assert_eq!(Change::default().apply(settings), settings);
    }
}
