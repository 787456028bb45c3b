//! Whether a node goes on under its number, by what its peers know of it, and how it goes on under another one.
//!
//! ```text
//!   a peer is met for the first time since the start ─▶ knows rows that are not here ─▶ short: they are lost
//!                                                    ─▶ knows stamps that may be given again ─▶ renewed: stored, then stamped as
//! ```
//! A directory may be an old copy, or its machine lost power before it was synced. Only the first word of each peer since the start tells:
//! what is known later may be of this process.

use std::collections::BTreeSet;

use crdt::{ActorId, Hlc};

use crate::{
    core::{
        Input, Recalled,
        identity::{DirectoryId, Identity, Renewal},
        message::{KnownPosition, Recollection},
        mutant::{Mutant, is_on},
    },
    names::NodeName,
    storage::Batch,
};

/// Peers that were met since this process started.
#[derive(Debug, Default)]
pub struct Acquaintances {
    met: BTreeSet<NodeName>,
}

/// What a peer's knowledge of this node comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The peer knew it with this data directory, which is none of its own: it was wiped, or another machine took its place.
    pub replaced: Option<DirectoryId>,
    /// The peer knows newer writes of it than the node itself: to be stored before it is renewed, because nobody sees it under another number.
    pub has_forgotten: bool,
    /// It goes on under another number, above this stamp.
    pub renews_above: Option<Hlc>,
}

impl Acquaintances {
    /// A peer that was dialled says what it knows. `recalled`: what an actor of this node recalled when it was opened.
    pub fn judge(
        &mut self,
        peer: &NodeName,
        recollection: &Recollection,
        recalled: impl Fn(&ActorId) -> Option<Recalled>,
        own: DirectoryId,
    ) -> Verdict {
        let is_first = self.met.insert(peer.clone());
        let held = recollection.held.iter().filter(|_| is_first);
        let known = held.filter_map(|held| Some((held, recalled(&held.actor)?)));
        let known: Vec<(&KnownPosition, Recalled)> = known.collect();
        let mut lacking = known.iter();
        let has_forgotten = lacking.any(|(held, recalled)| recalled.lacks_rows(held));
        let repeated = known.iter().filter(|(held, recalled)| {
            held.actor.directory() == own.0 && recalled.may_repeat(held)
        });
        let renews_above = repeated.map(|(held, _)| held.newest.max(held.passed)).max();
        Verdict {
            replaced: recollection.replaced,
            has_forgotten,
            renews_above,
        }
    }

    /// What a peer said could not be kept: it is judged again when it is met again.
    pub fn forget(&mut self, peer: &NodeName) {
        self.met.remove(peer);
    }
}

/// A node's identity under another number.
#[derive(Debug)]
pub struct Renewed {
    /// Who it is from now on.
    pub identity: Identity,
    /// The number that it had, and the one that it has.
    pub renewal: Renewal,
    /// What is to be durable, also after a loss of power, before anything is stamped under the new number.
    pub batch: Batch,
}

impl Renewed {
    /// Under a number made of `draw`.
    pub fn of(identity: &Identity, draw: u64) -> Self {
        let (identity, renewal) = identity.renewed(draw);
        debug_assert!(
            identity.former.contains(&renewal.closed) && identity.directory == renewal.opened,
            "the number that it had is closed"
        );
        let mut batch = Batch::default();
        if !is_on(Mutant::RenewedUnstored) {
            identity.put(&mut batch);
        }
        Self {
            identity,
            renewal,
            batch,
        }
    }

    /// What a shard is told: it goes on as another actor, above `newest`. `replays`: what others did not take is stamped anew.
    pub fn input(&self, shard: u16, newest: Hlc, replays: bool) -> Input {
        Input::Renew {
            actor: self.identity.directory.actor(shard),
            newest,
            replays,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::core::identity::BootId;

    const OWN: DirectoryId = DirectoryId(7);

    fn hlc(millis: u64) -> Hlc {
        Hlc::from_millis(millis)
    }

    /// A peer's knowledge of the first actor of this directory, whose newest row here is of 100, below a bound of 200.
    fn judged(newest: u64, passed: u64, by: &mut Acquaintances, of: DirectoryId) -> Verdict {
        let held = KnownPosition {
            actor: of.actor(0),
            taken: hlc(newest),
            passed: hlc(passed),
            newest: hlc(newest),
        };
        let recollection = Recollection {
            held: vec![held],
            ..Recollection::default()
        };
        let peer: NodeName = "us-2".parse().expect("a name of letters and a number");
        let recalled = |_: &ActorId| Some(Recalled::new(hlc(100), hlc(200)));
        by.judge(&peer, &recollection, recalled, OWN)
    }

    #[test]
    fn what_a_peer_knows_at_first_and_the_node_does_not_is_lost_and_what_may_be_given_again_renews_it()
     {
        let verdict = |newest, passed, of| {
            let mut acquaintances = Acquaintances::default();
            judged(newest, passed, &mut acquaintances, of)
        };
        let nothing = Verdict {
            replaced: None,
            has_forgotten: false,
            renews_above: None,
        };
        let former = DirectoryId(3);
        assert_eq!(verdict(100, 200, OWN), nothing);
        let rows = verdict(101, 150, OWN);
        assert_eq!(
            (rows.has_forgotten, rows.renews_above),
            (true, Some(hlc(150)))
        );
        let promised = verdict(100, 201, OWN);
        assert_eq!(
            (promised.has_forgotten, promised.renews_above),
            (false, Some(hlc(201)))
        );
        // Nothing is stamped under a former number: it needs no other one.
        let of_former = verdict(101, 201, former);
        assert_eq!(
            (of_former.has_forgotten, of_former.renews_above),
            (true, None)
        );
    }

    #[test]
    fn what_a_peer_knows_later_may_be_of_this_process() {
        let mut acquaintances = Acquaintances::default();
        judged(100, 200, &mut acquaintances, OWN);
        let later = judged(500, 600, &mut acquaintances, OWN);
        assert_eq!((later.has_forgotten, later.renews_above), (false, None));
        acquaintances.forget(&"us-2".parse().expect("a name of letters and a number"));
        let again = judged(500, 600, &mut acquaintances, OWN);
        assert_eq!(again.renews_above, Some(hlc(600)));
    }

    #[test]
    fn a_directory_that_a_peer_knew_before_is_lost() {
        let recollection = Recollection {
            replaced: Some(DirectoryId(9)),
            ..Recollection::default()
        };
        let peer: NodeName = "us-2".parse().expect("a name of letters and a number");
        let verdict = Acquaintances::default().judge(&peer, &recollection, |_| None, OWN);
        assert_eq!(verdict.replaced, Some(DirectoryId(9)));
    }

    #[test]
    fn a_new_number_is_stored() {
        let identity = Identity::create(
            "us-1".parse().expect("a name of letters and a number"),
            "shop".parse().expect("a name of letters"),
            NonZeroU16::MIN,
            BootId("one".to_owned()),
            false,
            1,
        );
        let renewed = Renewed::of(&identity, 2);
        assert_ne!(renewed.identity.directory, identity.directory);
        let storage = crate::storage::memory::MemoryStorage::new();
        let stored = crate::storage::Storage::commit(
            &storage,
            &renewed.batch,
            crate::storage::Durability::Power,
        );
        assert_eq!(stored, Ok(()));
        assert_eq!(Identity::load(&storage), Ok(Some(renewed.identity)));
    }
}
