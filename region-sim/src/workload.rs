//! What clients ask, and what they were told: the [`History`] that the promises are checked on.

mod family;
mod history;

use std::{collections::BTreeMap, num::NonZeroU8, time::Duration};

use bytes::Bytes;
use node::core::op::{Action, Condition, ExpireCondition, Key, Op, Pick, Read, SetExpiry, Write};
use node::level::Level;

pub use self::{
    family::{ClientId, Family, OperationId},
    history::{History, Operation, Outcome},
};
use crate::sim::dice::Dice;

/// How the load is made up.
#[derive(Debug, Clone)]
pub struct Mix {
    weights: Vec<u64>,
    keys: u64,
    reads: u64,
    expiry_ms_max: u64,
    /// Of a thousand times, how often a client asks several things at once.
    pipelines: u64,
    /// Whether what a client asks at once is about one key.
    pub is_on_one_key: bool,
    /// Whether it is about one family, on a key or two.
    pub is_focused: bool,
    /// The consistency levels that are asked for, each as often as it stands here.
    pub levels: Vec<Level>,
}

/// How often each family is written to: some of them never.
fn draw_weights(dice: &mut Dice, focus: &mut Dice) -> Vec<u64> {
    let weight = |family: &Family| {
        let dice = match family {
            Family::Single => return 0,
            Family::Turning => &mut *focus,
            _ => &mut *dice,
        };
        match dice.chance(650) {
            true => dice.between(1, 10),
            false => 0,
        }
    };
    Family::ALL.iter().map(weight).collect()
}

impl Mix {
    /// A mix by chance; some families are left out, and most ask for one level alone. `focus` says whether it is about one family, on a
    /// key or two: what many commands on one key come to is seldom seen where they are spread over many.
    pub fn draw(dice: &mut Dice, focus: &mut Dice) -> Self {
        let mut weights = draw_weights(dice, focus);
        let is_focused = focus.chance(200);
        if is_focused {
            weights = only(*focus.pick(&FOCUSED));
        }
        let levels = if dice.chance(700) {
            vec![Level::LocalQuorum]
        } else {
            (0..dice.between(2, 5))
                .map(|_| *dice.pick(&LEVELS))
                .collect()
        };
        let mut mix = Self {
            weights,
            keys: match dice.between(1, 6) {
                _ if is_focused => focus.between(1, 2),
                keys => keys,
            },
            reads: dice.between(50, 400),
            expiry_ms_max: *dice.pick(&[50, 1000, 10_000]),
            pipelines: 150,
            is_on_one_key: dice.chance(400),
            is_focused,
            levels,
        };
        mix.ask_something();
        mix
    }

    /// The families of the keys that are asked about.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let weights = Family::ALL.into_iter().zip(&self.weights);
        weights
            .filter(|(_, weight)| **weight > 0)
            .map(|(family, _)| family)
    }

    /// Everything is asked, at a level whose reads see its writes, and nothing else counts.
    pub fn ask_of_single_keys(&mut self) {
        self.weights = only(Family::Single);
        self.keys = FLAVOURS;
        self.pipelines = 400;
        self.is_on_one_key = true;
        self.levels = vec![Level::LocalQuorum];
    }

    /// Keys are to end within so many milliseconds.
    pub fn end_within(&mut self, millis: u64) {
        self.expiry_ms_max = millis;
    }

    /// Nothing of this family is asked.
    pub fn leave_out(&mut self, family: Family) {
        for (weight, other) in self.weights.iter_mut().zip(Family::ALL) {
            *weight *= u64::from(other != family);
        }
        self.ask_something();
    }

    fn ask_something(&mut self) {
        if self.weights.iter().all(|weight| *weight == 0) {
            self.weights[0] = 1;
        }
    }
}

fn only(chosen: Family) -> Vec<u64> {
    let weight = |family| u64::from(family == chosen);
    Family::ALL.map(weight).to_vec()
}

/// What single keys are used as, by their number: a string, a set, a set that ends, anything.
const FLAVOURS: u64 = 4;

/// Families of which many commands on one key say something.
const FOCUSED: [Family; 6] = [
    Family::Fading,
    Family::Turning,
    Family::Register,
    Family::Unique,
    Family::Small,
    Family::Resettable,
];

/// Levels that are asked for beside each other.
const LEVELS: [Level; 8] = [
    Level::LocalQuorum,
    Level::LocalQuorum,
    Level::LocalQuorum,
    Level::Replicas(NonZeroU8::MIN),
    Level::Replicas(NonZeroU8::new(2).expect("two is not zero")),
    Level::EachQuorum,
    Level::Quorum,
    Level::All,
];

/// Makes up operations.
#[derive(Debug)]
pub struct Workload {
    dice: Dice,
    mix: Mix,
    next_value: u64,
    /// Elements that were added to sets of unique elements, and may be removed.
    added: BTreeMap<Key, Vec<Bytes>>,
}

impl Workload {
    /// A workload of this mix.
    pub fn new(dice: Dice, mix: Mix) -> Self {
        Self {
            dice,
            mix,
            next_value: 0,
            added: BTreeMap::new(),
        }
    }

    /// How long a client waits.
    pub fn think(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.dice.between(100, max.as_micros().max(100) as u64))
    }

    /// Which of so many hosts a client asks now that goes from one to another.
    pub fn wander(&mut self, hosts: usize) -> usize {
        self.dice.below(hosts as u64) as usize
    }

    /// How many operations a client asks at once.
    pub fn pipeline(&mut self) -> usize {
        if self.dice.chance(self.mix.pipelines) {
            self.dice.between(2, 8) as usize
        } else {
            1
        }
    }

    /// What a client of a region asks, whose wall clock shows about `wall_ms`: on the key of what it asked just before, in some mixes.
    pub fn next(
        &mut self,
        client: ClientId,
        region: usize,
        wall_ms: u64,
        before: Option<&Key>,
    ) -> Op {
        if let Some(key) = before.filter(|_| self.mix.is_on_one_key) {
            return self.about(client, key.clone(), wall_ms);
        }
        let family = Family::ALL[self.dice.weighted(&self.mix.weights)];
        if family == Family::Owned {
            return self.owned(client);
        }
        let number = self.dice.below(self.mix.keys);
        let letter = char::from(family.letter());
        let key = match family {
            Family::Local | Family::Fading | Family::Turning => {
                format!("{letter}{region}-{number}")
            }
            _ => format!("{letter}{number}"),
        };
        self.about(client, Key::from(key), wall_ms)
    }

    fn about(&mut self, client: ClientId, key: Key, wall_ms: u64) -> Op {
        let family = Family::of(&key);
        if family == Family::Owned {
            return self.owned(client);
        }
        let action = if self.dice.chance(self.mix.reads) {
            Action::Read(self.read(family, &key))
        } else {
            Action::Write(self.write(family, &key, wall_ms))
        };
        self.op(key, action)
    }

    /// A client sets its own register, if it has one, or looks at anybody's.
    fn owned(&mut self, client: ClientId) -> Op {
        let letter = char::from(Family::Owned.letter());
        let number = self.dice.below(self.mix.keys);
        let is_owner = (client as u64) < self.mix.keys;
        if is_owner && !self.dice.chance(self.mix.reads) {
            let value = self.value("o");
            return self.op(
                Key::from(format!("{letter}{client}")),
                Action::Write(set(value)),
            );
        }
        self.op(
            Key::from(format!("{letter}{number}")),
            Action::Read(Read::Get),
        )
    }

    fn op(&mut self, key: Key, action: Action) -> Op {
        let level = *self.dice.pick(&self.mix.levels);
        Op { key, action, level }
    }

    fn read(&mut self, family: Family, key: &Key) -> Read {
        match family {
            Family::Counter | Family::Balance | Family::Resettable | Family::Owned => Read::Get,
            Family::Register => match self.dice.below(8) {
                0 => Read::Exists,
                1 => Read::Type,
                2 => Read::Strlen,
                3 => Read::ExpiresAtMs,
                _ => Read::Get,
            },
            Family::Unique | Family::Small => match self.dice.below(8) {
                0 => Read::Exists,
                1 => Read::Type,
                2 | 3 => Read::Cardinality,
                4 | 5 => Read::AreMembers {
                    members: self.some_members(family, key),
                },
                _ => Read::Members,
            },
            Family::Fading => match self.dice.below(4) {
                0 => Read::Exists,
                1 => Read::ExpiresAtMs,
                _ => Read::Members,
            },
            Family::Turning => match self.dice.below(4) {
                0 => Read::Exists,
                1 => Read::Get,
                _ => Read::Members,
            },
            Family::Anything | Family::Local | Family::Single => self.any_read(),
        }
    }

    /// Two elements that are, or were, in a set.
    fn some_members(&mut self, family: Family, key: &Key) -> Vec<Bytes> {
        let known = self.added.get(key).map_or(0, |added| added.len() as u64);
        if family == Family::Small || known == 0 {
            return vec![self.small_member(), self.small_member()];
        }
        (0..2)
            .map(|_| self.added[key][self.dice.below(known) as usize].clone())
            .collect()
    }

    fn any_read(&mut self) -> Read {
        match self.dice.below(10) {
            0 => Read::Exists,
            1 => Read::Type,
            2 => Read::Strlen,
            3 => Read::GetRange {
                start: self.dice.between_signed(-4, 4),
                end: self.dice.between_signed(-4, 4),
            },
            4 => Read::Members,
            5 => Read::Cardinality,
            6 => Read::AreMembers {
                members: vec![self.small_member()],
            },
            7 => Read::ExpiresAtMs,
            8 => Read::RandomMembers {
                pick: Pick::Distinct(2),
                entropy: self.dice.bits(),
            },
            _ => Read::Get,
        }
    }

    fn write(&mut self, family: Family, key: &Key, wall_ms: u64) -> Write {
        match family {
            Family::Counter => Write::IncrBy {
                by: self.dice.between_signed(1, 5),
            },
            Family::Balance => Write::IncrBy {
                by: self.dice.between_signed(-5, 5),
            },
            Family::Resettable => match self.dice.below(8) {
                0 => Write::Delete,
                1 => set(Bytes::from_static(b"0")),
                _ => Write::IncrBy {
                    by: self.dice.between_signed(1, 5),
                },
            },
            Family::Unique => self.write_unique(key),
            Family::Small => self.write_small(),
            Family::Register => self.write_register(),
            Family::Owned => set(self.value("o")),
            Family::Anything | Family::Local => self.write_anything(wall_ms),
            Family::Single => match key.last() {
                Some(b'0') => self.write_string(),
                Some(b'1') => self.write_small(),
                Some(b'2') => self.write_ending(wall_ms),
                _ => self.write_anything(wall_ms),
            },
            Family::Fading => self.write_fading(key, wall_ms),
            Family::Turning => match self.dice.below(6) {
                0 => Write::Delete,
                1 | 2 => Write::IncrBy { by: 1 },
                _ => self.add_unique(key),
            },
        }
    }

    fn write_fading(&mut self, key: &Key, wall_ms: u64) -> Write {
        match self.dice.below(10) {
            0 => Write::Delete,
            1 => Write::Remove {
                members: self.added.get(key).cloned().unwrap_or_default(),
            },
            2 | 3 => Write::Expire {
                at_ms: self.expiry_ms(wall_ms) as i64,
                condition: ExpireCondition::Always,
            },
            4 => Write::Persist,
            _ => self.add_unique(key),
        }
    }

    fn write_unique(&mut self, key: &Key) -> Write {
        let known = self.added.get(key).map_or(0, |added| added.len() as u64);
        match self.dice.below(20) {
            0 => Write::Delete,
            1 => Write::Pop {
                count: self.dice.between(1, 2) as usize,
                entropy: self.dice.bits(),
            },
            2..=7 if known > 0 => {
                let members = (0..self.dice.between(1, 2))
                    .map(|_| self.added[key][self.dice.below(known) as usize].clone())
                    .collect();
                Write::Remove { members }
            }
            _ => self.add_unique(key),
        }
    }

    fn add_unique(&mut self, key: &Key) -> Write {
        let members: Vec<Bytes> = (0..self.dice.between(1, 3))
            .map(|_| self.value("e"))
            .collect();
        self.added
            .entry(key.clone())
            .or_default()
            .extend(members.iter().cloned());
        Write::Add { members }
    }

    fn write_small(&mut self) -> Write {
        let members = (0..self.dice.between(1, 3))
            .map(|_| self.small_member())
            .collect();
        match self.dice.below(20) {
            0 => Write::Delete,
            1 => Write::Pop {
                count: 1,
                entropy: self.dice.bits(),
            },
            2..=9 => Write::Remove { members },
            _ => Write::Add { members },
        }
    }

    /// A string: replaced, counted up, added to.
    fn write_string(&mut self) -> Write {
        match self.dice.below(10) {
            0 | 1 => Write::Delete,
            2 => Write::GetDel,
            3 => Write::Append {
                value: self.value("7"),
            },
            4 | 5 => Write::IncrBy {
                by: self.dice.between_signed(1, 5),
            },
            6 => Write::Set {
                value: self.value("t"),
                expiry: SetExpiry::Clear,
                condition: *self.dice.pick(&[Condition::IfAbsent, Condition::IfPresent]),
                return_old: self.dice.chance(300),
            },
            _ => set(Bytes::from(self.dice.below(100).to_string())),
        }
    }

    /// A set that is to end, and is prolonged.
    fn write_ending(&mut self, wall_ms: u64) -> Write {
        match self.dice.below(10) {
            0 => Write::Delete,
            1 => Write::Remove {
                members: (0..5).map(|n| Bytes::from(format!("m{n}"))).collect(),
            },
            2..=4 => Write::Expire {
                at_ms: self.expiry_ms(wall_ms) as i64,
                condition: ExpireCondition::Always,
            },
            5 | 6 => Write::Persist,
            _ => Write::Add {
                members: vec![self.small_member()],
            },
        }
    }

    fn write_register(&mut self) -> Write {
        let value = self.value("v");
        match self.dice.below(10) {
            0 => Write::Delete,
            1 => Write::GetDel,
            2 => Write::Set {
                value,
                expiry: SetExpiry::Clear,
                condition: Condition::IfAbsent,
                return_old: false,
            },
            3 => Write::Set {
                value,
                expiry: SetExpiry::Clear,
                condition: Condition::IfPresent,
                return_old: true,
            },
            _ => set(value),
        }
    }

    fn write_anything(&mut self, wall_ms: u64) -> Write {
        match self.dice.below(16) {
            0 => Write::Delete,
            1 => Write::GetDel,
            2 => Write::GetEx {
                expiry: self.set_expiry(wall_ms),
            },
            3 => Write::Append {
                value: Bytes::from(self.dice.below(30).to_string()),
            },
            4 => Write::SetRange {
                offset: self.dice.below(6) as usize,
                value: Bytes::from(self.dice.below(30).to_string()),
            },
            5 | 6 => Write::IncrBy {
                by: self.dice.between_signed(-5, 5),
            },
            7 => Write::Expire {
                at_ms: self.expiry_ms(wall_ms) as i64 - 20,
                condition: *self.dice.pick(&CONDITIONS),
            },
            8 => Write::Persist,
            9 | 10 => Write::Add {
                members: vec![self.small_member(), self.small_member()],
            },
            11 => Write::Remove {
                members: vec![self.small_member(), self.small_member()],
            },
            12 => Write::Pop {
                count: self.dice.below(3) as usize,
                entropy: self.dice.bits(),
            },
            _ => self.any_set(wall_ms),
        }
    }

    fn any_set(&mut self, wall_ms: u64) -> Write {
        let value = if self.dice.chance(500) {
            Bytes::from(self.dice.below(100).to_string())
        } else {
            self.value("t")
        };
        Write::Set {
            value,
            expiry: self.set_expiry(wall_ms),
            condition: *self.dice.pick(&[
                Condition::Always,
                Condition::Always,
                Condition::IfAbsent,
                Condition::IfPresent,
            ]),
            return_old: self.dice.chance(300),
        }
    }

    fn set_expiry(&mut self, wall_ms: u64) -> SetExpiry {
        match self.dice.below(4) {
            0 => SetExpiry::At(self.expiry_ms(wall_ms)),
            1 => SetExpiry::Keep,
            _ => SetExpiry::Clear,
        }
    }

    fn expiry_ms(&mut self, wall_ms: u64) -> u64 {
        wall_ms + self.dice.between(1, self.mix.expiry_ms_max)
    }

    fn small_member(&mut self) -> Bytes {
        Bytes::from(format!("m{}", self.dice.below(5)))
    }

    fn value(&mut self, letter: &str) -> Bytes {
        self.next_value += 1;
        Bytes::from(format!("{letter}{}", self.next_value))
    }
}

fn set(value: Bytes) -> Write {
    Write::Set {
        value,
        expiry: SetExpiry::Clear,
        condition: Condition::Always,
        return_old: false,
    }
}

/// Of an EXPIRE, the plain one twice as often.
const CONDITIONS: [ExpireCondition; 8] = [
    ExpireCondition::Always,
    ExpireCondition::Always,
    ExpireCondition::IfNone,
    ExpireCondition::IfSome,
    ExpireCondition::IfLater,
    ExpireCondition::IfEarlier,
    ExpireCondition::IfSomeAndLater,
    ExpireCondition::IfSomeAndEarlier,
];
