//! Deliberate bugs, each a line in the core: they show that the tests fail where the core is wrong.
//!
//! Without the feature `mutants`, which only tests have, [`is_on`] is the constant `false`, and nothing of this is in a program. With it
//! one bug at a time can be switched on for the whole process. The simulator catches each of them (`region-sim/tests/mutants.rs`);
//! the table is in `docs/testing.md`.

use crdt::StringState;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mutant {
    /// A write's outbox row is shipped from memory and not stored.
    OutboxRowNotStored = 1,
    /// What is to be passed on within the region is shipped from memory and not stored.
    HintNotStored,
    /// Clients are answered before the batch is committed.
    AnsweredBeforeCommit,
    /// Clients are answered as if a commit that failed had not.
    FailedCommitAnswered,
    /// Rows of another node are acknowledged before they are durable.
    TakenBeforeCommit,
    /// An origin is told that a position is stored before it is.
    SavedBeforeStored,
    /// Rows that a full disk does not take are acknowledged all the same.
    RefusedIsTaken,
    /// Rows are taken although rows before them never came.
    GapAccepted,
    /// Stamps are taken from however far ahead.
    SkewAccepted,
    /// The outbox is trimmed behind the destination that is furthest, not the one that is last.
    TrimmedBehindFirst,
    /// A stream that begins anew leaves out a row.
    RowSkipped,
    /// An idle stream is promised that nothing comes below a stamp, while the open batch has older ones.
    PromiseOverOpenBatch,
    /// An idle stream is promised that nothing comes below a stamp, while older rows wait to be sent.
    PromiseOverUnsent,
    /// Rows under the number that a directory had before are forgotten.
    FormerLogsForgotten,
    /// A directory that may have forgotten its last stamps goes on under its number.
    ActorNotRenewed,
    /// A restarted shard does not stamp above its stored ceiling.
    CeilingNotKept,
    /// The clock does not follow the stamps that are received.
    ClockNotRaised,
    /// A row is joined without a look at the context of what is there: what was removed comes back.
    ContextIgnored,
    /// Every element of one SADD has the same dot.
    OneDotForAll,
    /// The context and tombstone of a key that is gone are dropped at once.
    TombstoneForgotten,
    /// A counter's totals are added to those that are known, not joined.
    CountsAdded,
    /// SET does not raise the floors to the increments that it saw.
    FloorsNotRaised,
    /// A read asks one replica fewer than its level says.
    ReadQuorumShort,
    /// A write does not wait for the other replicas.
    WriteQuorumShort,
    /// What acknowledgements taught is joined, and the write is not corrected.
    NoCorrection,
    /// A read is answered before what another replica lacked is durable there.
    MendNotAwaited,
    /// The digest under which copies of a key are equal does not cover its rows.
    DigestIgnoresRows,
    /// No write that waits for other replicas is ever answered: all time out.
    WritesUnanswered,
    /// No read that asks other replicas is ever answered: all time out.
    ReadsUnanswered,
    /// A region says of what one of its nodes has taken that a majority has it.
    MajorityIsTaken,
    /// A region says of what a majority has that every replica has it.
    EveryIsMajority,
    /// Writes at levels that span regions wait for this region alone.
    WideLevelsAreLocal,
    /// A node that takes for its region counts as a replica of keys that it does not hold.
    TakerIsReplica,
    /// A node that stands in for a replica keeps nothing of what it acknowledges.
    StandInKeepsNothing,
    /// Nodes that stand in for replicas count where every replica is to have a write.
    StandInsCountForAll,
    /// A node counts as standing in for rows that were sent before it did.
    StandInCountsTooEarly,
    /// What is taken for a region is not passed on within it.
    PassedOnByNobody,
    /// A SET is not taught the increments that others know.
    CountsNotTaught,
    /// A SET is not taught what others know of the set.
    ClearNotTaught,
    /// A corrected write is answered before its correction has met the level.
    CorrectionNotAwaited,
    /// A read does not join what another replica knew.
    CopyNotJoined,
    /// Commands overtake those that ask other replicas about the same key.
    GateIgnored,
    /// Repairs and teachings are taken from clocks however far ahead.
    SkewAcceptedFromReplicas,
    /// Neither DEL nor what is made after it ends the expiry.
    ExpiryOutlivesDelete,
    /// SET does not end the expiry.
    ExpiryOutlivesSet,
    /// A stream does not say that it goes on behind rows that are gone.
    SkipNotSent,
    /// A taker is not told to go on from what the others of its region have.
    BridgeNotSent,
    /// What a destination once declined is never offered again.
    DeclinedForGood,
    /// A write is refused for what is under its key here, whatever others know.
    RefusedUnasked,
    /// A write is handed to another node where one was lost that may have carried it out.
    ForwardedTwice,
    /// A write is given to another node besides one that is silent.
    WriteHedged,
    /// What a node was told first of who holds what and who lives, it believes for good.
    StaleTopology,
    /// A new number is stamped under that is not stored.
    RenewedUnstored,
    /// Members of the region are asked in the order of their names, whether they hold the key or not.
    AskedByName,
    /// INCR and SADD are not taught that others know a value of the other type.
    OtherTypeNotTaught,
    /// A correction does not cover the increments that it was taught.
    CorrectionForgetsCounts,
    /// A key whose expiry has passed is read until it has ended.
    ExpiredIsRead,
    /// A key is shown while this shard's own writes on it are unsure.
    UnsureShown,
    /// A SET is not taught a newer register.
    RegisterNotTaught,
    /// A correction goes above what the same shard wrote later.
    CorrectedOverLater,
    /// A deletion, of a key or of elements, asks nobody what is there.
    RemovedUnasked,
}

/// What [`Mutant::CountsAdded`] does in the place of a join.
pub(super) fn add_counts(known: &mut StringState, written: &StringState) {
    let before = known.counts.clone();
    known.join(written);
    for (actor, count) in before
        .iter()
        .filter(|(actor, _)| written.counts.contains_key(actor))
    {
        known
            .counts
            .entry(*actor)
            .and_modify(|sum| sum.inc += count.inc);
    }
}

#[cfg(not(feature = "mutants"))]
pub(super) const fn is_on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub(super) use self::switch::is_on;
#[cfg(feature = "mutants")]
pub use self::switch::{SwitchedOn, switch_on};

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    /// The one that is on, by its number.
    static ON: AtomicU8 = AtomicU8::new(NONE);
    const NONE: u8 = 0;

    /// Whether this bug is wanted.
    pub(in crate::core) fn is_on(mutant: Mutant) -> bool {
        ON.load(Ordering::Relaxed) == mutant as u8
    }

    /// Switches a bug on, in the whole process.
    ///
    /// # Panics
    /// Where one is on already: what is caught then would say nothing about either.
    #[must_use = "it is off again when this is dropped"]
    pub fn switch_on(mutant: Mutant) -> SwitchedOn {
        let before = ON.swap(mutant as u8, Ordering::Relaxed);
        assert_eq!(before, NONE, "one mutant at a time");
        SwitchedOn(())
    }

    /// A bug that is on until this is dropped.
    #[derive(Debug)]
    pub struct SwitchedOn(());

    impl Drop for SwitchedOn {
        fn drop(&mut self) {
            ON.store(NONE, Ordering::Relaxed);
        }
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 61] = [
            Self::OutboxRowNotStored,
            Self::HintNotStored,
            Self::AnsweredBeforeCommit,
            Self::FailedCommitAnswered,
            Self::TakenBeforeCommit,
            Self::SavedBeforeStored,
            Self::RefusedIsTaken,
            Self::GapAccepted,
            Self::SkewAccepted,
            Self::TrimmedBehindFirst,
            Self::RowSkipped,
            Self::PromiseOverOpenBatch,
            Self::PromiseOverUnsent,
            Self::FormerLogsForgotten,
            Self::ActorNotRenewed,
            Self::CeilingNotKept,
            Self::ClockNotRaised,
            Self::ContextIgnored,
            Self::OneDotForAll,
            Self::TombstoneForgotten,
            Self::CountsAdded,
            Self::FloorsNotRaised,
            Self::ReadQuorumShort,
            Self::WriteQuorumShort,
            Self::NoCorrection,
            Self::MendNotAwaited,
            Self::DigestIgnoresRows,
            Self::WritesUnanswered,
            Self::ReadsUnanswered,
            Self::MajorityIsTaken,
            Self::EveryIsMajority,
            Self::WideLevelsAreLocal,
            Self::TakerIsReplica,
            Self::StandInKeepsNothing,
            Self::StandInsCountForAll,
            Self::StandInCountsTooEarly,
            Self::PassedOnByNobody,
            Self::CountsNotTaught,
            Self::ClearNotTaught,
            Self::CorrectionNotAwaited,
            Self::CopyNotJoined,
            Self::GateIgnored,
            Self::SkewAcceptedFromReplicas,
            Self::ExpiryOutlivesDelete,
            Self::ExpiryOutlivesSet,
            Self::SkipNotSent,
            Self::BridgeNotSent,
            Self::DeclinedForGood,
            Self::RefusedUnasked,
            Self::ForwardedTwice,
            Self::WriteHedged,
            Self::StaleTopology,
            Self::RenewedUnstored,
            Self::AskedByName,
            Self::OtherTypeNotTaught,
            Self::CorrectionForgetsCounts,
            Self::ExpiredIsRead,
            Self::UnsureShown,
            Self::RegisterNotTaught,
            Self::CorrectedOverLater,
            Self::RemovedUnasked,
        ];
    }

    const _: () = {
        let mut at = 0;
        while at < Mutant::ALL.len() {
            assert!(Mutant::ALL[at] as usize == at + 1, "each once, in order");
            at += 1;
        }
        assert!(Mutant::ALL.len() == Mutant::RemovedUnasked as usize);
    };
}
