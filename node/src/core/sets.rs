//! Writes on sets: add-wins rows, one dot for each element.

use std::collections::BTreeMap;

use bytes::Bytes;
use crdt::{Dots, Part, Stamp, rows};

use super::{
    batch::Question,
    coordinate::{Addition, Coordinator, Effect, Stop, Target},
    mutant::{Mutant, is_on},
    op::Pick,
    read,
    reply::Reply,
    view::Uncommitted,
};
use crate::storage::{StorageError, record::head::Shown};

impl Coordinator<'_> {
    /// Every element takes a stamp of its own: a remove of one must never be taken for a remove of another. One that is there already
    /// takes a new one all the same, for the regions that may be removing it right now: an add wins over a remove that did not see it.
    pub(super) fn add(&mut self, target: &Target<'_>, members: &[Bytes]) -> Result<Reply, Stop> {
        self.finish_expired(target)?;
        let is_creating = self.expect_set(target)? == Shown::Absent;
        let mut expiry = self.expiry_of_addition(target)?;
        let mut added = 0;
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for member in members {
            let dots = self.dots(target, member)?;
            if !dots.is_empty() && !self.is_shipping {
                continue;
            }
            added += i64::from(dots.is_empty());
            let stamp = match added > 1 && is_on(Mutant::OneDotForAll) {
                true => Stamp::new(self.clock.last(), self.actor),
                false => self.stamp(),
            };
            let set = &self.head(target)?.set;
            let delta = rows::add(
                &set.context,
                stamp,
                Bytes::copy_from_slice(member),
                &dots,
                (),
                set.live == 0,
            );
            if self.is_asking {
                let which = [&mut new, &mut again];
                which[usize::from(!dots.is_empty())].push((member.clone(), stamp));
            }
            let parts = std::iter::once(Part::Set(delta)).chain(expiry.take());
            self.coordinate(target, parts.collect(), Question::Add)?;
        }
        self.effects.push(Effect::Add(Addition {
            added: new,
            again,
            is_creating,
            is_beginning: is_creating || self.is_beginning,
        }));
        Ok(Reply::Int(added))
    }

    pub(super) fn remove(&mut self, target: &Target<'_>, members: &[Bytes]) -> Result<Reply, Stop> {
        let is_shown = self.expect_set(target)? != Shown::Absent;
        // Also of a key that has ended by the clock here: it may not have by others'.
        let removed = self.remove_present(target, members)?;
        Ok(Reply::Int(if is_shown { removed } else { 0 }))
    }

    pub(super) fn pop(
        &mut self,
        target: &Target<'_>,
        count: usize,
        entropy: u64,
    ) -> Result<Reply, Stop> {
        if self.expect_set(target)? == Shown::Absent {
            return Ok(Reply::Array(Vec::new()));
        }
        let live = self.head(target)?.set.live;
        let view = Uncommitted {
            storage: self.storage,
            pending: self.pending,
        };
        let chosen = read::random(
            &view,
            &target.position,
            target.key,
            live,
            Pick::Distinct(count),
            entropy,
        )?;
        self.remove_present(target, &chosen)?;
        Ok(Reply::Array(chosen.into_iter().map(Reply::Bulk).collect()))
    }

    /// Removes the dots that the named elements have here; gives how many had any. Others were asked for theirs, so there are no others that
    /// were acknowledged before.
    fn remove_present(
        &mut self,
        target: &Target<'_>,
        members: &[Bytes],
    ) -> Result<i64, StorageError> {
        let mut removed = 0;
        for chunk in members.chunks(REMOVES_PER_DELTA) {
            let mut present: BTreeMap<Bytes, Dots<()>> = BTreeMap::new();
            for member in chunk {
                let dots = self.dots(target, member)?;
                if !dots.is_empty() {
                    present.insert(Bytes::copy_from_slice(member), dots);
                }
            }
            if present.is_empty() {
                continue;
            }
            removed += present.len() as i64;
            let named = present.iter().map(|(member, dots)| (member.clone(), dots));
            let part = Part::Set(rows::remove(named));
            self.place();
            self.coordinate(target, vec![part], Question::Nothing)?;
        }
        let is_ended = self.end_if_empty(target)?;
        if self.is_asking && (removed > 0 || is_ended) {
            self.effects.push(Effect::Remove);
        }
        Ok(removed)
    }

    /// A set without elements is no key, and a later one of that name must not inherit its expiry. Gives whether it had one.
    fn end_if_empty(&mut self, target: &Target<'_>) -> Result<bool, StorageError> {
        let head = self.head(target)?;
        let is_left_over = head.slot() == Shown::Absent && head.expiry.at_ms.is_some();
        if is_left_over {
            // With what emptied it: others may not have heard of all of that, and would show what is left for ever.
            let parts = vec![
                Part::Set(rows::clear(&head.set.context)),
                Part::String(head.string.expired()),
                Part::Expiry(head.expiry.ended()),
            ];
            self.overwrites.expiry = Some(None);
            self.place();
            self.coordinate(target, parts, Question::Expiry)?;
        }
        Ok(is_left_over)
    }

    fn dots(&mut self, target: &Target<'_>, member: &[u8]) -> Result<Dots<()>, StorageError> {
        self.pending
            .row(self.storage, &target.position, target.key, member)
            .cloned()
    }
}

/// A remove of very many elements becomes several deltas of at most this many.
const REMOVES_PER_DELTA: usize = 1024;
