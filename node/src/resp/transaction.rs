//! Transactions, which do not exist yet: they are refused as a whole, so that a refused one has done nothing.
//!
//! ```text
//!   outside ── MULTI: refused ──▶ refused ── anything: refused ──┐
//!      ^                           │   ^                         │
//!      └── EXEC, DISCARD, RESET ───┘   └─────────────────────────┘
//! ```
//!
//! Clients send `MULTI`, commands and `EXEC` in one pipeline and look at the errors afterwards. Were only `MULTI` and `EXEC` refused, the
//! commands between them would run, and the client, told that its transaction failed, would send them again.

use super::{
    args::Args,
    levels,
    table::{self, CommandIndex, Rejected},
};
use crate::core::reply::Refusal;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transaction {
    /// Commands run.
    #[default]
    Outside,
    /// A `MULTI` was refused: nothing runs until the client ends what it believes to have begun.
    Refused,
}

/// What becomes of a command that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It runs.
    Run,
    /// It ended the transaction and is answered `OK`.
    Discarded,
}

impl Transaction {
    /// Looks at a command before it is looked up, and notes what it begins or ends. `RESET` ends a transaction when it runs.
    pub(super) fn admit(&mut self, args: Args<'_>) -> Result<Admitted, Rejected> {
        let args = levels::behind_at(args);
        match self {
            Self::Outside if args.is(0, "multi") => {
                *self = Self::Refused;
                Err(rejected(table::unknown(args)))
            }
            Self::Outside => Ok(Admitted::Run),
            Self::Refused if args.is(0, "reset") || args.is(0, "quit") => Ok(Admitted::Run),
            Self::Refused if args.is(0, "discard") => {
                *self = Self::Outside;
                Ok(Admitted::Discarded)
            }
            Self::Refused if args.is(0, "exec") => {
                *self = Self::Outside;
                Err(rejected(aborted()))
            }
            Self::Refused => Err(rejected(not_run())),
        }
    }
}

fn rejected(refusal: Refusal) -> Rejected {
    let index = CommandIndex::UNKNOWN;
    Rejected { index, refusal }
}

fn aborted() -> Refusal {
    Refusal::Redis("EXECABORT Transaction discarded because of previous errors.".to_owned())
}

fn not_run() -> Refusal {
    Refusal::Redis(
        "EXECABORT MULTI was refused on this connection, so this command was not run either; \
         EXEC, DISCARD or RESET ends that"
            .to_owned(),
    )
}
