//! Fault rules of one direction of a link: what happens to a datagram that enters it now.
//!
//! ```text
//!              cut?     lost?      transmitter               line
//!   datagram ──┤────────┤──────────[ queue | bits/s ]────────( delay + jitter )──── out
//!              drop     drop       full: drop
//! ```
//!
//! Pure: time and randomness come in as values, a [`Verdict`] goes out. The UDP relay between real
//! processes and the simulator judge by the same rules, so a fault means the same in both.
//!
//! **Order.** Without jitter a link keeps order, also while its delay changes: a datagram never arrives
//! before one that entered earlier (except that a change of the rate opens a new queue beside the old
//! one). With jitter it does not keep order, because networks whose delay
//! varies per packet do reorder, and what runs over this one (QUIC) must bear that. Jitter only ever
//! adds to the delay: the configured delay is a lower bound.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use rand::Rng;
use serde::{Deserialize, Serialize};

/// One direction of a link: its settings, whether it is cut, and what its transmitter still has to send.
#[derive(Debug, Clone, Default)]
pub struct Link {
    settings: Settings,
    cut: bool,
    /// When the transmitter has sent all that it accepted.
    idle_at: Duration,
    /// When the latest datagram arrives: the one after it may not arrive earlier.
    arrival_last: Duration,
}

impl Link {
    /// A link that is not cut.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Changes the settings for datagrams that enter from now on. A cut stays a cut.
    pub fn set(&mut self, settings: Settings) {
        if settings.rate != self.settings.rate {
            // What waits was timed at the old rate. Opening a link that was nearly closed must not
            // leave it closed for what comes now, so that overtakes.
            self.idle_at = Duration::ZERO;
            self.arrival_last = Duration::ZERO;
        }
        self.settings = settings;
    }

    /// Cuts the link or mends it. The settings stay.
    pub fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
    }

    /// Whether the link is cut.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Decides over a datagram of `bytes` that enters at `now`, a time since any fixed origin that
    /// never runs backwards.
    pub fn judge(&mut self, now: Duration, bytes: usize, rng: &mut impl Rng) -> Verdict {
        if self.cut {
            return Verdict::Drop(Cause::Cut);
        }
        if self.settings.loss.strikes(rng) {
            return Verdict::Drop(Cause::Lost);
        }
        let Some(sent) = self.transmit(now, bytes) else {
            return Verdict::Drop(Cause::QueueFull);
        };
        let arrival = self.arrive(sent, rng);
        match arrival.checked_sub(now) {
            Some(delay) if !delay.is_zero() => Verdict::Delay(delay),
            _ => Verdict::Pass,
        }
    }

    /// When the last bit leaves the transmitter, or `None` if its queue is full.
    fn transmit(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.settings.rate else {
            return Some(now);
        };
        let start = self.idle_at.max(now);
        if start - now > rate.queue_max() {
            return None;
        }
        self.idle_at = start + rate.time_for(bytes);
        Some(self.idle_at)
    }

    /// When a datagram sent at `sent` arrives.
    fn arrive(&mut self, sent: Duration, rng: &mut impl Rng) -> Duration {
        let arrival = sent + self.settings.delay;
        if self.settings.jitter.is_zero() {
            self.arrival_last = self.arrival_last.max(arrival);
            return self.arrival_last;
        }
        let arrival = arrival + rng.random_range(Duration::ZERO..=self.settings.jitter);
        self.arrival_last = self.arrival_last.max(arrival);
        arrival
    }
}

/// What one direction of a link does to datagrams. The default does nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Time on the way, one direction: half the round trip.
    pub delay: Duration,
    /// Up to this much more, drawn evenly for each datagram. More than zero reorders.
    pub jitter: Duration,
    /// Share of datagrams that vanish.
    pub loss: Loss,
    /// Bits per second that pass; `None` is no limit.
    pub rate: Option<Rate>,
}

impl Settings {
    /// Settings with this round trip time and nothing else.
    pub fn with_rtt(rtt: Duration) -> Self {
        Self {
            delay: rtt / 2,
            ..Self::default()
        }
    }

    /// The time of a round trip, if the other direction has the same settings.
    pub fn rtt(&self) -> Duration {
        self.delay * 2
    }
}

/// What happens to a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives at once.
    Pass,
    /// It arrives after this long.
    Delay(Duration),
    /// It never arrives.
    Drop(Cause),
}

/// Why a datagram never arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The link is cut.
    Cut,
    /// It was drawn among the lost.
    Lost,
    /// The transmitter's queue was full: more came than the rate lets pass.
    QueueFull,
}

/// A probability of loss, in steps of one in a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Loss(u32);

impl Loss {
    /// Nothing is lost.
    pub const NONE: Self = Self(0);
    /// Everything is lost.
    pub const ALL: Self = Self(PPM);

    /// A loss of `parts` in a million, 0 to 1,000,000.
    ///
    /// # Errors
    /// If `parts` is more than a million.
    pub fn from_ppm(parts: u32) -> Result<Self, SettingError> {
        if parts > PPM {
            return Err(SettingError::Loss(format!("{parts} in a million")));
        }
        Ok(Self(parts))
    }

    fn strikes(self, rng: &mut impl Rng) -> bool {
        self.0 > 0 && rng.random_range(0..PPM) < self.0
    }
}

impl TryFrom<u32> for Loss {
    type Error = SettingError;

    fn try_from(parts: u32) -> Result<Self, SettingError> {
        Self::from_ppm(parts)
    }
}

impl From<Loss> for u32 {
    fn from(loss: Loss) -> u32 {
        loss.0
    }
}

impl FromStr for Loss {
    type Err = SettingError;

    /// Reads a percentage: `1%`, `0.5%`, `100%`, or `0`.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        if text == "0" {
            return Ok(Self::NONE);
        }
        let wrong = || SettingError::Loss(text.to_owned());
        let percent: f64 = text
            .strip_suffix('%')
            .and_then(|number| number.parse().ok())
            .ok_or_else(wrong)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(wrong());
        }
        Ok(Self((percent * 10_000.0).round() as u32))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// Bits per second, more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// A rate in bits per second; zero is no rate at all.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// Bits per second.
    pub fn bits(self) -> u64 {
        self.0.get()
    }

    /// How long the transmitter is busy with `bytes`.
    fn time_for(self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The longest that a datagram may wait for the transmitter: what a router's buffer holds, but
    /// never less than a burst of a congestion window, or slow links would drop every burst.
    fn queue_max(self) -> Duration {
        self.time_for(QUEUE_BYTES_MIN).max(QUEUE_TIME)
    }

    /// Reads bits per second, with `k`, `M` or `G` for thousands: `500k`, `10M`, `10Mbit`. `0` and
    /// `off` are no limit.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse_limit(text: &str) -> Result<Option<Self>, SettingError> {
        if text == "off" {
            return Ok(None);
        }
        let wrong = || SettingError::Rate(text.to_owned());
        let number = text
            .strip_suffix("bit")
            .or_else(|| text.strip_suffix("bps"))
            .unwrap_or(text);
        let (digits, factor) = match number.char_indices().next_back() {
            Some((end, 'k' | 'K')) => (&number[..end], 1_000),
            Some((end, 'm' | 'M')) => (&number[..end], 1_000_000),
            Some((end, 'g' | 'G')) => (&number[..end], 1_000_000_000),
            _ => (number, 1),
        };
        let bits = digits
            .parse::<u64>()
            .ok()
            .and_then(|bits| bits.checked_mul(factor))
            .ok_or_else(wrong)?;
        Ok(Self::from_bits(bits))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits() {
            bits if bits.is_multiple_of(1_000_000) => write!(f, "{}Mbit/s", bits / 1_000_000),
            bits if bits.is_multiple_of(1_000) => write!(f, "{}kbit/s", bits / 1_000),
            bits => write!(f, "{bits}bit/s"),
        }
    }
}

/// A setting that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not a percentage. *State unchanged.*
    #[error("'{0}' is not a loss: write a percentage from 0% to 100%")]
    Loss(String),
    /// Not a rate. *State unchanged.*
    #[error("'{0}' is not a rate: write bits per second, like 500k or 10M, or off")]
    Rate(String),
}

const PPM: u32 = 1_000_000;
const QUEUE_TIME: Duration = Duration::from_millis(200);
const QUEUE_BYTES_MIN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
