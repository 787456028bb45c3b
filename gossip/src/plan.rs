//! In which order members go into digests that cannot hold them all.
//!
//! ```text
//!   order   freshest ──────────────► stalest │ silent
//!           ├── half ──┤      ├─ quarter ────┤          news travels, and news of the stalest is asked for
//!           └────── the rest in turn, all of it ─────┘  nobody is left out for ever
//! ```

use crate::identity::Tag;

#[derive(Debug, Default)]
pub(crate) struct Plan {
    order: Vec<Tag>,
    /// How many of them are not silent.
    company: usize,
    cursor: usize,
    /// The roster's changes up to when it was made.
    of: u64,
}

impl Plan {
    /// A new order: company by the time of its last progress, latest first; then the silent. `of` is the roster's count of changes.
    pub(crate) fn renew(&mut self, mut company: Vec<(u64, Tag)>, silent: Vec<Tag>, of: u64) {
        self.of = of;
        company.sort_unstable_by(|one, other| other.cmp(one));
        self.company = company.len();
        self.order = company.into_iter().map(|(_, tag)| tag).collect();
        self.order.extend(silent);
    }

    /// The roster's count of changes when it was made.
    pub(crate) fn of(&self) -> u64 {
        self.of
    }

    pub(crate) fn freshest(&self) -> impl Iterator<Item = Tag> {
        self.order[..self.company].iter().copied()
    }

    pub(crate) fn all(&self) -> &[Tag] {
        &self.order
    }

    /// The members for a digest of that many, in no particular order; and whether they are all.
    pub(crate) fn pick(&mut self, slots: usize) -> (Vec<Tag>, bool) {
        if self.order.len() <= slots {
            return (self.order.clone(), true);
        }
        let fresh = (slots / 2).min(self.company);
        let stale = (slots / 4).min(self.company - fresh);
        let mut taken = vec![false; self.order.len()];
        taken[..fresh].fill(true);
        taken[self.company - stale..self.company].fill(true);
        let mut missing = slots - fresh - stale;
        while missing > 0 {
            self.cursor = (self.cursor + 1) % self.order.len();
            if !taken[self.cursor] {
                taken[self.cursor] = true;
                missing -= 1;
            }
        }
        let picked = self.order.iter().zip(&taken).filter(|(_, taken)| **taken);
        (picked.map(|(tag, _)| *tag).collect(), false)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(company: u64, silent: u64) -> Plan {
        let mut plan = Plan::default();
        let company_tags = (0..company).map(|number| (number, Tag::of(number)));
        let silent_tags = (company..company + silent).map(Tag::of);
        plan.renew(company_tags.collect(), silent_tags.collect(), 0);
        plan
    }

    #[test]
    fn a_digest_with_room_holds_everyone() {
        assert_eq!(plan(5, 3).pick(8).0.len(), 8);
        assert!(plan(5, 3).pick(8).1);
        assert!(!plan(5, 4).pick(8).1);
    }

    #[test]
    fn the_freshest_and_the_stalest_are_in_every_digest_and_the_rest_in_turn() {
        let mut plan = plan(400, 100);
        let mut seen = BTreeSet::new();
        for _ in 0..20 {
            let (picked, all) = plan.pick(100);
            assert!(!all && picked.len() == 100);
            for certain in [399, 398, 351, 0, 1, 24] {
                assert!(picked.contains(&Tag::of(certain)), "{certain}");
            }
            seen.extend(picked);
        }
        assert_eq!(seen.len(), 500, "the rest takes 425 / 25 = 17 digests");
    }
}
