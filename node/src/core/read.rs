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
    placement::{CURSOR_BITS, Position},
    storage::record::head::{Head, Shown},
};

/// Answers a read, as a clock that shows `wall_ms` sees the key.
pub fn read<V: View>(view: &V, key: &[u8], read: &Read, wall_ms: u64) -> Result<Reply, V::Error> {
    let position = Position::of(key);
    let head = view.head(&position, key)?;
    let Some(head) = head.as_deref().filter(|head| {
        let is_read = is_on(Mutant::ExpiredIsRead) && head.slot() != Shown::Absent;
        is_read || head.shown(wall_ms) != Shown::Absent
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
/// less; a larger set is entered at random hashes, each some random steps in, which favours no element by more than a small
/// factor: how likely one is follows the gaps before the last [`SAMPLE_STEPS`] elements, and these even out.
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
    if live <= SAMPLE_ALL_MAX || count as u64 > live / ENTRY_COST_ELEMENTS {
        let all = members(view, position, key)?;
        return Ok(choose(all, count, is_distinct, &mut sampler));
    }
    let mut chosen = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // Among so many more than are wanted, few are drawn twice; where that is not so, the head counts elements that are not there.
    for _ in 0..count.saturating_mul(2) + SAMPLE_STEPS {
        if chosen.len() == count {
            return Ok(chosen);
        }
        let Some(element) = enter_at_random(view, position, key, &mut sampler)? else {
            return Ok(chosen);
        };
        if !is_distinct || seen.insert(element.clone()) {
            chosen.push(element);
        }
    }
    let all = members(view, position, key)?;
    Ok(choose(all, count, is_distinct, &mut sampler))
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

/// One page of SSCAN. A cursor is the beginning of a hash, as much of it as a cursor holds; elements that share that share a page.
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
    // A number that is no cursor is behind all of them.
    let from = cursor.saturating_mul(1 << CUT_BITS);
    view.elements(position, key, from, &mut |hash, element| {
        let at = hash >> CUT_BITS;
        if looked_at >= count && last != Some(at) && at != 0 {
            next = at;
            return ControlFlow::Break(());
        }
        looked_at += 1;
        last = Some(at);
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

/// Bits of an element's hash that its cursor lacks.
const CUT_BITS: u32 = u64::BITS - CURSOR_BITS;
/// Sets up to this size are read whole to choose from them.
const SAMPLE_ALL_MAX: u64 = 128;
/// A larger one is entered at a random hash and left after at most this many steps.
const SAMPLE_STEPS: usize = 32;
/// Entering a set costs as much as reading about so many elements in a row.
const ENTRY_COST_ELEMENTS: u64 = 64;
/// What an element is taken to cost in memory.
const ELEMENT_BYTES_ESTIMATE: u64 = 96;
/// Redis embeds strings up to this size into their object.
const EMBEDDED_STRING_BYTES_MAX: usize = 44;

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap, convert::Infallible};

    use super::*;
    use crate::core::view::{HeadRef, VisitElement};

    /// Elements by their hashes, which are as unevenly apart as those of a hash function, of a key that nobody asks about otherwise.
    struct Unevenly {
        elements: BTreeMap<u64, Bytes>,
        read: Cell<u64>,
    }

    impl Unevenly {
        fn of(count: u64) -> Self {
            let mut hashes = Sampler::new(count);
            let element = |number: u64| (hashes.draw(), Bytes::from(number.to_string()));
            Self {
                elements: (0..count).map(element).collect(),
                read: Cell::new(0),
            }
        }
    }

    impl View for Unevenly {
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
            for (hash, element) in self.elements.range(from..) {
                self.read.set(self.read.get() + 1);
                if visit(*hash, element).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    /// The elements that an SSCAN by pages of `count` shows, by page; its cursors are kept as a double and as a signed number.
    fn scanned(view: &Unevenly, count: usize) -> Vec<Vec<Bytes>> {
        let key = b"key";
        let (mut pages, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let Ok(reply) = scan(view, &Position::of(key), key, cursor, count, None);
            let Reply::Array(parts) = reply else {
                panic!("a page is an array");
            };
            let [Reply::Bulk(next), Reply::Array(elements)] = &parts[..] else {
                panic!("of a cursor and an array");
            };
            let elements = elements.iter().map(|element| match element {
                Reply::Bulk(element) => element.clone(),
                other => panic!("{other:?} is no element"),
            });
            pages.push(elements.collect());
            let next: u64 = str::from_utf8(next)
                .ok()
                .and_then(|next| next.parse().ok())
                .expect("a number");
            if next == 0 {
                return pages;
            }
            let kept = next as f64 as i64 as u64;
            assert!(kept > cursor, "a scan goes on");
            cursor = kept;
        }
    }

    #[test]
    fn a_scan_shows_every_element_once_although_its_cursors_are_kept_as_doubles() {
        let view = Unevenly::of(5_000);
        for count in [1, 7, 1_000] {
            let mut found = scanned(&view, count).concat();
            found.sort();
            found.dedup();
            assert_eq!(found.len(), 5_000, "COUNT {count}");
        }
    }

    #[test]
    fn elements_that_share_a_cursor_are_all_on_one_page() {
        let begin = 77_u64 << CUT_BITS;
        let crowd = (0..1 << CUT_BITS).map(|number| begin + number);
        let around = [5, begin - 1, begin + (1 << CUT_BITS), u64::MAX];
        let element = |hash: u64| (hash, Bytes::from(hash.to_string()));
        let view = Unevenly {
            elements: crowd.chain(around).map(element).collect(),
            read: Cell::new(0),
        };
        let sizes: Vec<usize> = scanned(&view, 1).iter().map(Vec::len).collect();
        // The first cannot end a page: its cursor is the one that begins and ends a scan.
        assert_eq!(sizes, [1, 1, 1 << CUT_BITS, 1, 1]);
        let Ok(beyond) = scan(&view, &Position::of(b"key"), b"key", 1 << 53, 10, None);
        let last = page(0, vec![Bytes::from(u64::MAX.to_string())]);
        assert_eq!(
            beyond, last,
            "a number that is no cursor is behind all that are"
        );
    }

    fn drawn(count: u64, pick: Pick) -> Vec<Bytes> {
        let (view, key) = (Unevenly::of(count), b"key");
        let Ok(drawn) = random(&view, &Position::of(key), key, count, pick, 7);
        drawn
    }

    /// How often each of `count` elements is drawn, of `each` times that many draws.
    fn times_drawn(view: &Unevenly, count: u64, each: u64) -> Vec<u64> {
        let mut times = vec![0; count as usize];
        for entropy in 0..count * each {
            let pick = Pick::Distinct(1);
            let Ok(drawn) = random(view, &Position::of(b"key"), b"key", count, pick, entropy);
            let number = std::str::from_utf8(&drawn[0]).expect("they are numbered");
            times[number.parse::<usize>().expect("they are numbered")] += 1;
        }
        times
    }

    #[test]
    fn no_element_is_drawn_much_more_often_than_another_whatever_the_size_of_the_set() {
        let sizes = [2, 50, SAMPLE_ALL_MAX, SAMPLE_ALL_MAX + 1, 200, 1000, 5000];
        for count in sizes {
            let times = times_drawn(&Unevenly::of(count), count, 100);
            let (least, most) = (times.iter().min(), times.iter().max());
            assert!(
                least > Some(&20) && most < Some(&300),
                "100 are expected of each of {count}; {least:?} and {most:?}"
            );
        }
    }

    #[test]
    fn one_of_many_is_drawn_without_reading_them_all() {
        for count in [SAMPLE_ALL_MAX, 1000, 4000, 100_000] {
            let view = Unevenly::of(count);
            let draws = 100;
            for entropy in 0..draws {
                let pick = Pick::Distinct(1);
                let Ok(_) = random(&view, &Position::of(b"key"), b"key", count, pick, entropy);
            }
            let read = view.read.get() / draws;
            assert!(read <= SAMPLE_ALL_MAX, "{read} of {count} are read");
        }
    }

    #[test]
    fn a_head_that_counts_elements_that_are_not_there_does_not_draw_for_ever() {
        let view = Unevenly::of(10);
        let pick = Pick::Distinct(100);
        let Ok(drawn) = random(&view, &Position::of(b"key"), b"key", 1_000_000, pick, 7);
        assert_eq!(drawn.len(), 10);
    }

    #[test]
    fn as_many_different_elements_are_drawn_as_are_wanted_and_there() {
        for count in [1, SAMPLE_ALL_MAX, SAMPLE_ALL_MAX + 1, 4096] {
            for wanted in [0, 1, 2, 60, 100, SAMPLE_ALL_MAX as usize, 10_000] {
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
