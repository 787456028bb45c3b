//! File descriptors: what the system gives, and how doors, peers and storage share it.
//!
//! ```text
//!   limit ─┬─ own        listeners, peers, logs and tables that are being written
//!          ├─ storage    tables that RocksDB keeps open
//!          ├─ operators  connections to the HTTP door
//!          └─ clients    what is left, limits.clients at most, and some that are on their way to be turned away
//! ```
//! Without shares clients could take all of it, and the next commit that needs a file would fail for everybody.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::RunError;
use crate::resp::limits::TURNED_AWAY_MAX;

/// How many descriptors each part of a node may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Tables that RocksDB keeps open.
    pub storage: u16,
    /// Connections to the HTTP door.
    pub operators: u16,
    /// Clients.
    pub clients: u32,
}

/// The system gives too few. *State unchanged.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} file descriptors are too few, {LEAST} are the least: raise the limit of the process (ulimit -n)"
)]
pub struct TooFew {
    /// What the system gives.
    pub limit: u64,
}

/// Raises the limit of this process to the highest that it may have, and gives it.
fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

impl Shares {
    /// Takes as many descriptors as the system gives and shares them out; says where they are too few for the clients that are
    /// `configured`.
    pub fn take(configured: u32) -> Result<Self, RunError> {
        let limit = raise()?;
        let shares = Self::of(limit, configured)?;
        if shares.clients < configured {
            tracing::warn!(
                descriptors = limit,
                configured,
                clients = shares.clients,
                storage = shares.storage,
                "limits.clients is cut to what the limit of file descriptors leaves (ulimit -n)"
            );
        }
        Ok(shares)
    }

    /// Shares out `limit` descriptors where `clients` are wanted. Of few, storage gets a quarter and operators a sixteenth.
    fn of(limit: u64, clients: u32) -> Result<Self, TooFew> {
        if limit < LEAST {
            return Err(TooFew { limit });
        }
        let share = |part: u64, least: u16, most: u16| {
            let share = u16::try_from(limit / part).unwrap_or(most);
            share.clamp(least, most)
        };
        let storage = share(4, STORAGE_MIN, STORAGE_MAX);
        let operators = share(16, OPERATORS_MIN, OPERATORS_MAX);
        let taken = OWN + u64::from(storage) + u64::from(operators) + TURNED_AWAY_MAX as u64;
        let left = u32::try_from(limit - taken).unwrap_or(u32::MAX);
        Ok(Self {
            storage,
            operators,
            clients: clients.min(left),
        })
    }
}

/// What a node uses besides: standard streams, listeners, the peers' socket, event queues, RocksDB's logs and manifest, tables that are
/// being written, and what is opened for a moment (`/proc`, name servers).
const OWN: u64 = 64;
/// Below 20 RocksDB takes 20.
const STORAGE_MIN: u16 = 48;
/// More gain nothing: what is read often is in the cache.
const STORAGE_MAX: u16 = 512;
const OPERATORS_MIN: u16 = 8;
const OPERATORS_MAX: u16 = 256;
/// Enough for all of it and a few clients.
const LEAST: u64 = 160;

const _: () =
    assert!(OWN + STORAGE_MIN as u64 + OPERATORS_MIN as u64 + (TURNED_AWAY_MAX as u64) < LEAST);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn where_there_are_enough_everybody_gets_what_is_configured() {
        let shares = Shares::of(20_000, 10_000).expect("enough");
        let expected = Shares {
            storage: 512,
            operators: 256,
            clients: 10_000,
        };
        assert_eq!(shares, expected);
        assert_eq!(
            Shares::of(u64::MAX, u32::MAX).map(|s| s.clients),
            Ok(u32::MAX)
        );
    }

    #[test]
    fn where_there_are_few_clients_get_what_is_left() {
        let shares = Shares::of(300, 10_000).expect("enough");
        assert_eq!((shares.storage, shares.operators), (75, 18));
        assert!((100..160).contains(&shares.clients), "{shares:?}");
        assert_eq!(Shares::of(1024, 10).map(|shares| shares.clients), Ok(10));
        assert_eq!(Shares::of(100, 1), Err(TooFew { limit: 100 }));
    }

    proptest! {
        #[test]
        fn shares_never_exceed_the_limit(limit in LEAST..1 << 40, clients in 1u32..) {
            let shares = Shares::of(limit, clients).expect("enough");
            let sum = OWN + u64::from(shares.storage) + u64::from(shares.operators) + u64::from(shares.clients);
            prop_assert!(sum + TURNED_AWAY_MAX as u64 <= limit);
            prop_assert!(shares.clients > 0);
        }
    }
}
