//! Whom to gossip with in a round: mostly the own region, always some across, so that news crosses oceans few times and islands never part.
//!
//! Of those, the ones that were not talked with for longest come first, in random order among equals (round robin, as in SWIM §4.3; Das,
//! Gupta, Motivala, 2002). Chance alone leaves some pair silent for several rounds, and asks another twice in one: heartbeats then come
//! irregularly, and a detector has to wait for longer.

use rand::{
    Rng,
    seq::{SliceRandom, index::sample},
};
use rand_chacha::ChaCha8Rng;

use crate::identity::Tag;

/// Those that may be chosen.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Of the own region.
    pub(crate) near: Vec<Candidate>,
    /// Of the others.
    pub(crate) far: Vec<Candidate>,
}

/// One that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) tag: Tag,
    /// When it was talked with last, asked here or asking, in awake time; 0 if never.
    pub(crate) talked_at: u64,
}

impl Company {
    pub(crate) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    /// `fanout` of them, or all if they are fewer.
    pub(crate) fn choose(&self, fanout: usize, rng: &mut ChaCha8Rng) -> Vec<Tag> {
        let across = across(fanout, rng).max(fanout.saturating_sub(self.near.len()));
        let far = across.min(self.far.len());
        let near = (fanout - far).min(self.near.len());
        let mut chosen = longest_ago(&self.near, near, rng);
        chosen.extend(longest_ago(&self.far, far, rng));
        debug_assert!(chosen.len() <= fanout, "a round has a bound");
        chosen
    }
}

/// A third of the fanout goes across: with one peer a round, one round in three.
fn across(fanout: usize, rng: &mut ChaCha8Rng) -> usize {
    let rest = fanout % ACROSS_ONE_IN;
    fanout / ACROSS_ONE_IN + usize::from(rng.random_range(0..ACROSS_ONE_IN) < rest)
}

/// So many of them: those talked with longest ago.
fn longest_ago(from: &[Candidate], count: usize, rng: &mut ChaCha8Rng) -> Vec<Tag> {
    let mut candidates = from.to_vec();
    candidates.shuffle(rng);
    candidates.sort_by_key(|candidate| candidate.talked_at);
    let chosen = candidates.iter().take(count);
    chosen.map(|candidate| candidate.tag).collect()
}

/// So many of them, at random.
pub(crate) fn pick<T: Clone>(from: &[T], count: usize, rng: &mut ChaCha8Rng) -> Vec<T> {
    let count = count.min(from.len());
    let positions = sample(rng, from.len(), count);
    positions
        .into_iter()
        .map(|position| from[position].clone())
        .collect()
}

const ACROSS_ONE_IN: usize = 3;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn company(near: u64, far: u64) -> Company {
        let candidate = |number: u64| Candidate {
            tag: Tag::of(number),
            talked_at: 0,
        };
        Company {
            near: (0..near).map(candidate).collect(),
            far: (near..near + far).map(candidate).collect(),
        }
    }

    fn is_far(company: &Company, tag: Tag) -> bool {
        company.far.iter().any(|candidate| candidate.tag == tag)
    }

    fn across_in(company: &Company, rounds: usize, fanout: usize) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut across = 0;
        for _ in 0..rounds {
            let chosen = company.choose(fanout, &mut rng);
            let mut distinct = chosen.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), chosen.len());
            assert_eq!(
                chosen.len(),
                fanout.min(company.near.len() + company.far.len())
            );
            across += chosen.iter().filter(|tag| is_far(company, **tag)).count();
        }
        across
    }

    #[test]
    fn most_are_near_and_some_always_far() {
        assert_eq!(across_in(&company(10, 20), 100, 3), 100);
        let across = across_in(&company(10, 20), 900, 1);
        assert!((200..400).contains(&across), "{across} of 900");
    }

    #[test]
    fn everybody_has_its_turn_before_anybody_has_two() {
        let mut company = company(8, 0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 1..=100_u64 {
            let chosen = company.choose(3, &mut rng);
            let oldest = company.near.iter().map(|candidate| candidate.talked_at);
            let oldest = oldest.min().expect("eight of them");
            for candidate in &mut company.near {
                if chosen.contains(&candidate.tag) {
                    candidate.talked_at = round;
                }
            }
            // Eight of them take three rounds: 3, 3 and 2.
            assert!(round < 4 || round - oldest <= 3, "round {round}");
        }
    }

    #[test]
    fn whoever_is_alone_in_its_region_talks_across() {
        assert_eq!(across_in(&company(0, 20), 100, 3), 300);
        assert_eq!(across_in(&company(1, 1), 100, 3), 100);
        assert_eq!(across_in(&company(5, 0), 100, 3), 0);
    }
}
