//! Answers to commands that change nothing, from any [`View`].

use std::ops::ControlFlow;

use bytes::Bytes;
use crdt::StringValue;

use super::{
    glob,
    mutant::{Mutant, is_on},
    op::{Pick, Read},
    reply::{Refusal, Reply},
    sample::Sampler,
    view::View,
};
use crate::{
    placement::Position,
    storage::record::head::{Head, Shown},
};

/// Answers a read, as a clock that shows `wall_ms` sees the key.
pub fn read<V: View>(view: &V, key: &[u8], read: &Read, wall_ms: u64) -> Result<Reply, V::Error> {
    let position = Position::of(key);
    let head = view.head(&position, key)?;
    let Some(head) = head.as_deref().filter(|head| {
        let is_blind = is_on(Mutant::ExpiryIgnored);
        let wall_ms = if is_blind { 0 } else { wall_ms };
        head.shown(wall_ms) != Shown::Absent
    }) else {
        return Ok(absent(read));
    };
    if let Some(reply) = about_key(head, key, read, wall_ms) {
        return Ok(reply);
    }
    match head.slot() {
        Shown::String => Ok(about_string(head, read)),
        Shown::Set => about_set(view, &position, key, head, read),
        Shown::Absent => Ok(absent(read)),
    }
}

/// The reply where no key is.
fn absent(read: &Read) -> Reply {
    match read {
        Read::Get | Read::GetOrNil | Read::Encoding | Read::MemoryUsage => Reply::Nil,
        Read::Strlen | Read::Exists | Read::Cardinality => Reply::Int(0),
        Read::GetRange { .. } => Reply::Bulk(Bytes::new()),
        Read::Type => Reply::Simple("none"),
        Read::RemainingMs | Read::ExpiresAtMs => Reply::Int(-2),
        Read::AreMembers { members } => Reply::Array(vec![Reply::Int(0); members.len()]),
        Read::Members => Reply::Set(Vec::new()),
        Read::ScanMembers { .. } => page(0, Vec::new()),
        Read::RandomMembers { .. } => Reply::Array(Vec::new()),
    }
}

/// The reply to what can be asked of a key of any type.
fn about_key(head: &Head, key: &[u8], read: &Read, wall_ms: u64) -> Option<Reply> {
    let expires_at = || {
        head.expiry
            .at_ms
            .map_or(-1, |at_ms| i64::try_from(at_ms).unwrap_or(i64::MAX))
    };
    Some(match read {
        Read::Exists => Reply::Int(1),
        Read::Type => Reply::Simple(if head.slot() == Shown::Set {
            "set"
        } else {
            "string"
        }),
        Read::ExpiresAtMs => Reply::Int(expires_at()),
        Read::RemainingMs => Reply::Int(remaining_ms(expires_at(), wall_ms)),
        Read::MemoryUsage => Reply::Int(i64::try_from(memory_usage(head, key)).unwrap_or(i64::MAX)),
        Read::Encoding => Reply::Bulk(Bytes::from_static(encoding(head))),
        _ => return None,
    })
}

fn about_string(head: &Head, read: &Read) -> Reply {
    let text = string_text(head);
    match read {
        Read::Get | Read::GetOrNil => Reply::Bulk(text),
        Read::Strlen => Reply::Int(text.len() as i64),
        Read::GetRange { start, end } => Reply::Bulk(range(&text, *start, *end)),
        _ => Reply::Error(Refusal::WrongType),
    }
}

fn about_set<V: View>(
    view: &V,
    position: &Position,
    key: &[u8],
    head: &Head,
    read: &Read,
) -> Result<Reply, V::Error> {
    Ok(match read {
        Read::GetOrNil => Reply::Nil,
        Read::Cardinality => Reply::Int(head.set.live as i64),
        Read::AreMembers { members } => {
            let mut replies = Vec::with_capacity(members.len());
            for member in members {
                replies.push(Reply::Int(i64::from(
                    view.has_element(position, key, member)?,
                )));
            }
            Reply::Array(replies)
        }
        Read::Members => Reply::Set(bulks(members(view, position, key)?)),
        Read::ScanMembers {
            cursor,
            count,
            pattern,
        } => scan(view, position, key, *cursor, *count, pattern.as_deref())?,
        Read::RandomMembers { pick, entropy } => Reply::Array(bulks(random(
            view,
            position,
            key,
            head.set.live,
            *pick,
            *entropy,
        )?)),
        _ => Reply::Error(Refusal::WrongType),
    })
}

/// A string slot's value as text; empty where it has none.
pub(super) fn string_text(head: &Head) -> Bytes {
    match head.string.value() {
        StringValue::Absent => Bytes::new(),
        StringValue::Bytes(bytes) => bytes,
        StringValue::Integer(number) => Bytes::from(number.to_string()),
    }
}

/// Milliseconds that a key has left: -1 without expiry.
fn remaining_ms(at_ms: i64, wall_ms: u64) -> i64 {
    if at_ms < 0 {
        at_ms
    } else {
        at_ms
            .saturating_sub(i64::try_from(wall_ms).unwrap_or(i64::MAX))
            .max(0)
    }
}

/// All elements, in the order of their hashes.
pub(super) fn members<V: View>(
    view: &V,
    position: &Position,
    key: &[u8],
) -> Result<Vec<Bytes>, V::Error> {
    let mut members = Vec::new();
    view.elements(position, key, 0, &mut |_, element| {
        members.push(Bytes::copy_from_slice(element));
        ControlFlow::Continue(())
    })?;
    Ok(members)
}

/// Randomly chosen elements. Exact for sets of up to [`SAMPLE_ALL_MAX`], and where so many are wanted that reading the set costs
/// less; a larger set is entered at random hashes, each a few random steps in, which favours no element by more than a small
/// factor.
pub(super) fn random<V: View>(
    view: &V,
    position: &Position,
    key: &[u8],
    live: u64,
    pick: Pick,
    entropy: u64,
) -> Result<Vec<Bytes>, V::Error> {
    let mut sampler = Sampler::new(entropy);
    let (count, is_distinct) = match pick {
        Pick::Distinct(count) => (count, true),
        Pick::Repeating(count) => (count, false),
    };
    if live <= SAMPLE_ALL_MAX || count as u64 > live / SAMPLE_STEPS as u64 {
        let all = members(view, position, key)?;
        return Ok(choose(all, count, is_distinct, &mut sampler));
    }
    let mut chosen = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while chosen.len() < count {
        let Some(element) = enter_at_random(view, position, key, &mut sampler)? else {
            break;
        };
        if !is_distinct || seen.insert(element.clone()) {
            chosen.push(element);
        }
    }
    Ok(chosen)
}

fn choose(
    mut all: Vec<Bytes>,
    count: usize,
    is_distinct: bool,
    sampler: &mut Sampler,
) -> Vec<Bytes> {
    if is_distinct {
        sampler.shuffle_front(&mut all, count);
        all.truncate(count);
        return all;
    }
    let count = if all.is_empty() { 0 } else { count };
    (0..count)
        .map(|_| all[sampler.below(all.len())].clone())
        .collect()
}

/// The elements are a ring: past the last one the steps go on at the first, or the last would be hit by all that run over.
fn enter_at_random<V: View>(
    view: &V,
    position: &Position,
    key: &[u8],
    sampler: &mut Sampler,
) -> Result<Option<Bytes>, V::Error> {
    let mut found = None;
    let from = sampler.draw();
    let mut steps = 1 + sampler.below(SAMPLE_STEPS);
    for from in [from, 0] {
        view.elements(position, key, from, &mut |_, element| {
            found = Some(Bytes::copy_from_slice(element));
            steps -= 1;
            if steps == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if steps == 0 {
            break;
        }
    }
    Ok(found)
}

/// One page of SSCAN: elements whose hash is at least the cursor. Elements that share a hash share a page.
fn scan<V: View>(
    view: &V,
    position: &Position,
    key: &[u8],
    cursor: u64,
    count: usize,
    pattern: Option<&[u8]>,
) -> Result<Reply, V::Error> {
    let (mut next, mut looked_at, mut last) = (0, 0usize, None);
    let mut found = Vec::new();
    view.elements(position, key, cursor, &mut |hash, element| {
        if looked_at >= count && last != Some(hash) && hash != 0 {
            next = hash;
            return ControlFlow::Break(());
        }
        looked_at += 1;
        last = Some(hash);
        if pattern.is_none_or(|pattern| glob::matches(pattern, element)) {
            found.push(Bytes::copy_from_slice(element));
        }
        ControlFlow::Continue(())
    })?;
    Ok(page(next, found))
}

fn page(next: u64, elements: Vec<Bytes>) -> Reply {
    Reply::Array(vec![
        Reply::Bulk(Bytes::from(next.to_string())),
        Reply::Array(bulks(elements)),
    ])
}

fn bulks(elements: Vec<Bytes>) -> Vec<Reply> {
    elements.into_iter().map(Reply::Bulk).collect()
}

/// Both ends inclusive, negative ones counted from the end, as GETRANGE has it.
fn range(text: &Bytes, start: i64, end: i64) -> Bytes {
    let length = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_end = |index: i64| {
        if index < 0 {
            (length + index).max(0)
        } else {
            index
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if length == 0 || start > end {
        return Bytes::new();
    }
    text.slice(start as usize..=end as usize)
}

fn memory_usage(head: &Head, key: &[u8]) -> u64 {
    key.len() as u64 + head.encode().len() as u64 + head.set.live * ELEMENT_BYTES_ESTIMATE
}

fn encoding(head: &Head) -> &'static [u8] {
    match (head.slot(), head.string.value()) {
        (Shown::Set, _) => b"hashtable",
        (_, StringValue::Integer(_)) => b"int",
        (_, StringValue::Bytes(bytes)) if crdt::parse_integer(&bytes).is_some() => b"int",
        (_, StringValue::Bytes(bytes)) if bytes.len() <= EMBEDDED_STRING_BYTES_MAX => b"embstr",
        _ => b"raw",
    }
}

/// Sets up to this size are read whole to choose from them.
const SAMPLE_ALL_MAX: u64 = 4096;
/// A larger one is entered at a random hash and left after at most this many steps.
const SAMPLE_STEPS: usize = 32;
/// What an element is taken to cost in memory.
const ELEMENT_BYTES_ESTIMATE: u64 = 96;
/// Redis embeds strings up to this size into their object.
const EMBEDDED_STRING_BYTES_MAX: usize = 44;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use super::*;
    use crate::core::view::{HeadRef, VisitElement};

    /// Elements by their hashes, evenly apart, of a key that nobody asks about otherwise.
    struct Evenly(BTreeMap<u64, Bytes>);

    impl Evenly {
        fn of(count: u64) -> Self {
            let step = u64::MAX / count;
            let element = |number: u64| (number * step, Bytes::from(number.to_string()));
            Self((0..count).map(element).collect())
        }
    }

    impl View for Evenly {
        type Error = Infallible;

        fn head(&self, _: &Position, _: &[u8]) -> Result<Option<HeadRef<'_>>, Infallible> {
            Ok(None)
        }

        fn has_element(&self, _: &Position, _: &[u8], _: &[u8]) -> Result<bool, Infallible> {
            Ok(false)
        }

        fn elements(
            &self,
            _: &Position,
            _: &[u8],
            from: u64,
            visit: VisitElement<'_>,
        ) -> Result<(), Infallible> {
            for (hash, element) in self.0.range(from..) {
                if visit(*hash, element).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    fn drawn(count: u64, pick: Pick) -> Vec<Bytes> {
        let (view, key) = (Evenly::of(count), b"key");
        let Ok(drawn) = random(&view, &Position::of(key), key, count, pick, 7);
        drawn
    }

    #[test]
    fn no_element_of_a_large_set_is_drawn_much_more_often_than_another() {
        let count = SAMPLE_ALL_MAX + 1;
        let mut times = BTreeMap::<Bytes, usize>::new();
        let view = Evenly::of(count);
        for entropy in 0..count * 10 {
            let mut sampler = Sampler::new(entropy);
            let Ok(element) = enter_at_random(&view, &Position::of(b"key"), b"key", &mut sampler);
            *times
                .entry(element.expect("the set is not empty"))
                .or_default() += 1;
        }
        let most = times.values().max().copied();
        assert!(most < Some(40), "10 are expected of each, {most:?} of one");
        assert!(
            times.len() as u64 > count * 99 / 100,
            "{} of {count}",
            times.len()
        );
    }

    #[test]
    fn as_many_different_elements_are_drawn_as_are_wanted_and_there() {
        for count in [1, SAMPLE_ALL_MAX, SAMPLE_ALL_MAX + 1] {
            for wanted in [0, 1, 100, SAMPLE_ALL_MAX as usize, 10_000] {
                let mut drawn = drawn(count, Pick::Distinct(wanted));
                drawn.sort();
                drawn.dedup();
                assert_eq!(
                    drawn.len(),
                    wanted.min(count as usize),
                    "{wanted} of {count}"
                );
            }
            assert_eq!(drawn(count, Pick::Repeating(9_000)).len(), 9_000);
        }
    }
}
