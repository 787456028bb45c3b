//! What others tell of a life is taken in here.

use crate::{event::Event, gossip::Gossip, message::Delta};

impl Gossip {
    pub(crate) fn apply(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            if delta.tag != self.me.tag {
                self.apply_one(delta);
            }
        }
    }

    fn apply_one(&mut self, delta: Delta) {
        if self.roster.member(delta.tag).is_none() {
            match &delta.introduction {
                Some(introduction) => self.admit_by_hearsay(delta.tag, introduction),
                None => return,
            }
        }
        let now = self.now.awake;
        let Some(member) = self.roster.member_mut(delta.tag) else {
            return;
        };
        let Delta {
            status,
            from,
            to,
            floor,
            entries,
            ..
        } = delta;
        let Some(keys) = member.life.values.apply(from, to, floor, entries, now) else {
            return;
        };
        if status > member.life.status {
            member.life.status = status;
            self.outbox.event(Event::Believed(member.verdict()));
        }
        if !keys.is_empty() {
            let node = member.life.identity.node.clone();
            self.outbox.event(Event::Published { node, keys });
        }
    }
}
