//! What breaks.

use std::{str::FromStr, time::Duration};

use super::{agenda::HostIndex, dice::Dice};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process dies; what it committed stays.
    Kill,
    /// A machine loses power; what was not synced goes, but for some of its oldest.
    PowerLoss,
    /// A process ends in good order.
    Stop,
    /// A process stands still.
    Pause,
    /// Nothing gets from one host to another.
    Cut,
    /// Nothing gets to or from a host.
    Isolate,
    /// A session breaks.
    Reset,
    /// Messages between two hosts take much longer, and some are lost and sent again.
    Lossy,
    /// Rows do not get from one host to another for a while, and everything else does: a replica is behind, and hears of it.
    Behind,
    /// Commits take much longer.
    SlowDisk,
    /// A disk is nearly full: its node takes no writes.
    FullDisk,
    /// Commits fail.
    FailingDisk,
    /// A clock steps, within what is allowed.
    Step,
    /// A clock steps further than is allowed, for a while.
    Leap,
    /// A process starts with a clock far ahead, and after a while again with a right one.
    FarStart,
    /// A host's data is deleted.
    Wipe,
    /// A host's data is replaced by an old copy.
    Restore,
}

/// A name that no kind of fault has. *State unchanged.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault '{0}'")]
pub struct UnknownFault(String);

impl FromStr for FaultKind {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let mut kinds = Self::ALL.into_iter().chain([Self::Behind, Self::FarStart]);
        kinds
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

/// A fault that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets from one host to another.
    Cut { from: HostIndex, to: HostIndex },
    /// Nothing gets to or from a host.
    Isolated(HostIndex),
    /// Messages between two hosts suffer.
    Lossy { from: HostIndex, to: HostIndex },
    /// Rows from one host are held up on their way to another.
    Behind { from: HostIndex, to: HostIndex },
    /// Commits take much longer.
    SlowDisk(HostIndex),
    /// The node takes no writes.
    FullDisk(HostIndex),
    /// Commits fail.
    FailingDisk(HostIndex),
    /// The clock is off by more than is allowed.
    Leapt(HostIndex),
    /// The process started with a clock far ahead.
    FarAhead(HostIndex),
}

impl FaultKind {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Isolate => "isolate",
            Self::Reset => "reset",
            Self::Lossy => "lossy",
            Self::Behind => "behind",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::FailingDisk => "failing-disk",
            Self::Step => "step",
            Self::Leap => "leap",
            Self::FarStart => "far-start",
            Self::Wipe => "wipe",
            Self::Restore => "restore",
        }
    }

    /// All but [`FaultKind::Behind`] and [`FaultKind::FarStart`], which a plan draws by itself.
    const ALL: [Self; 15] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Stop,
        Self::Pause,
        Self::Cut,
        Self::Isolate,
        Self::Reset,
        Self::Lossy,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailingDisk,
        Self::Step,
        Self::Leap,
        Self::Wipe,
        Self::Restore,
    ];

    /// Whether it may take committed data from a disk, where every commit is or is not synced.
    pub fn takes_data(self, is_synced: bool) -> bool {
        match self {
            Self::Wipe | Self::Restore => true,
            Self::PowerLoss => !is_synced,
            _ => false,
        }
    }

    /// Whether it puts another disk in the place of one.
    pub fn replaces_disk(self) -> bool {
        matches!(self, Self::Wipe | Self::Restore)
    }

    /// Which kinds strike in a world, and how often.
    pub fn draw(dice: &mut Dice) -> Vec<(Self, Duration)> {
        let share = *dice.pick(&[100, 300, 600]);
        let mut faults = Vec::new();
        for kind in Self::ALL {
            // Data that is deleted by hand ends most promises: seldom, or they would not be looked at.
            let share = match kind {
                Self::Wipe | Self::Restore => share / 6,
                _ => share,
            };
            let mean = Duration::from_millis(dice.between(800, 6000));
            if dice.chance(share) {
                faults.push((kind, mean));
            }
        }
        faults
    }
}
