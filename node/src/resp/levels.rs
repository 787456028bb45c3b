//! The levels at which commands run: those of the connection, or of one command behind AT.

use super::{
    args::Args,
    error,
    table::{self, Found, Rejected, SHOWN_MAX},
};
use crate::{
    config,
    core::{
        op::{Action, Op},
        reply::Refusal,
    },
    level::Level,
};

/// Of how many replicas reads and writes are to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels {
    /// Replicas that a read asks; never [`Level::EachQuorum`].
    pub read: Level,
    /// Replicas that have a write before it is acknowledged.
    pub write: Level,
}

impl From<&config::Consistency> for Levels {
    fn from(consistency: &config::Consistency) -> Self {
        Self {
            read: consistency.read,
            write: consistency.write,
        }
    }
}

impl Levels {
    /// Gives a request its level.
    pub(super) fn mark(self, op: &mut Op) {
        op.level = match op.action {
            Action::Read(_) => self.read,
            Action::Write(_) => self.write,
        };
    }

    /// Both at one level. A majority in every region is for writes: reads among them keep their own level.
    fn at(self, level: Level) -> Self {
        let read = match level {
            Level::EachQuorum => self.read,
            Level::Replicas(_) | Level::LocalQuorum | Level::Quorum | Level::All => level,
        };
        Self { read, write: level }
    }
}

/// A command that can run: its row, its arguments, its levels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) found: Found,
    pub(super) args: Args<'a>,
    pub(super) levels: Levels,
}

impl<'a> Call<'a> {
    /// The command that `args` ask for, on a connection of these levels: the one behind AT, if it is that.
    pub(super) fn of(args: Args<'a>, levels: Levels) -> Result<Self, Rejected> {
        let found = table::resolve(args)?;
        let call = Self {
            found,
            args,
            levels,
        };
        if found.command.name != AT {
            return Ok(call);
        }
        call.behind_at()
    }

    /// `AT level command …`
    fn behind_at(self) -> Result<Self, Rejected> {
        let Self {
            found,
            args,
            levels,
        } = self;
        let reject = |found: Found, refusal| Rejected {
            index: found.index,
            refusal,
        };
        let level = parse(args.at(1)).map_err(|refusal| reject(found, refusal))?;
        let Some(args) = args.tail(AT_WORDS) else {
            return Err(reject(found, error::arity(AT)));
        };
        let found = table::resolve(args)?;
        if found.command.name == AT {
            return Err(reject(found, error::err("AT calls can not be nested")));
        }
        if level == Level::EachQuorum && found.command.flags.contains(&"readonly") {
            return Err(reject(found, for_writes()));
        }
        let levels = levels.at(level);
        Ok(Self {
            found,
            args,
            levels,
        })
    }
}

/// The command that `args` ask for: the one behind AT, if there is one, whatever AT itself has to be refused for.
pub(super) fn behind_at(args: Args<'_>) -> Args<'_> {
    match args.is(0, AT) {
        true => args.tail(AT_WORDS).unwrap_or(args),
        false => args,
    }
}

/// A level, in any case.
pub(super) fn parse(text: &[u8]) -> Result<Level, Refusal> {
    let level = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    level.ok_or_else(|| {
        let text = error::shown(text, SHOWN_MAX);
        error::err(format!("unknown consistency level '{text}'"))
    })
}

/// A level for reads.
pub(super) fn parse_read(text: &[u8]) -> Result<Level, Refusal> {
    match parse(text)? {
        Level::EachQuorum => Err(for_writes()),
        level @ (Level::Replicas(_) | Level::LocalQuorum | Level::Quorum | Level::All) => Ok(level),
    }
}

fn for_writes() -> Refusal {
    error::err("EACH_QUORUM is for writes")
}

/// The name of the command that runs another one at a level.
pub(super) const AT: &str = "at";

/// Words of AT before the command: its name and the level.
pub(super) const AT_WORDS: usize = 2;
