//! The subtle cases of strings, each by name.

mod common;

use common::{at, bytes, hlc};
use crdt::{Count, Register, Stamp, StringState, StringValue, parse_integer};

/// A replica of one string that makes and joins deltas, as a shard does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Text {
    state: StringState,
}

impl Text {
    fn set(&mut self, stamp: Stamp, value: &str) -> StringState {
        let delta = self.state.set(stamp, Some(bytes(value)));
        self.kept(delta)
    }

    fn del(&mut self, stamp: Stamp) -> StringState {
        let delta = self.state.set(stamp, None);
        self.kept(delta)
    }

    fn increment(&mut self, stamp: Stamp, by: i64) -> StringState {
        let delta = self.state.increment(stamp, by);
        self.kept(delta)
    }

    fn expire(&mut self) -> StringState {
        let delta = self.state.expired();
        self.kept(delta)
    }

    fn join(&mut self, deltas: &[&StringState]) {
        deltas.iter().for_each(|delta| self.state.join(delta));
    }

    fn kept(&mut self, delta: StringState) -> StringState {
        self.state.join(&delta);
        delta
    }
}

#[test]
fn a_set_spares_a_concurrent_increment() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let first = a.set(at(1, 1), "10");
    b.join(&[&first]);
    let increment = b.increment(at(2, 2), 1);
    let set = a.set(at(3, 1), "20");
    a.join(&[&increment]);
    b.join(&[&set]);
    assert_eq!(a.state.value(), StringValue::Integer(21));
    assert_eq!(a, b);
}

#[test]
fn a_del_spares_a_concurrent_increment_and_takes_those_it_saw() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let five = a.increment(at(1, 1), 5);
    b.join(&[&five]);
    let two = b.increment(at(2, 2), 2);
    let del = a.del(at(3, 1));
    assert_eq!(a.state.value(), StringValue::Absent);
    a.join(&[&two]);
    b.join(&[&del]);
    assert_eq!(a.state.value(), StringValue::Integer(2));
    assert_eq!(a, b);
}

#[test]
fn a_set_that_loses_still_takes_the_increments_it_saw() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let five = a.increment(at(1, 1), 5);
    let loser = a.set(at(2, 1), "100");
    let winner = b.set(at(3, 2), "200");
    a.join(&[&winner]);
    b.join(&[&five, &loser]);
    assert_eq!(a.state.value(), StringValue::Bytes(bytes("200")));
    assert_eq!(a, b);
}

#[test]
fn an_increment_on_top_of_a_set_counts_from_it() {
    let mut a = Text::default();
    a.set(at(1, 1), "10");
    a.increment(at(2, 1), 1);
    assert_eq!(a.state.value(), StringValue::Integer(11));
    a.set(at(3, 1), "10");
    assert_eq!(a.state.value(), StringValue::Bytes(bytes("10")));
    a.increment(at(4, 1), 1);
    assert_eq!(a.state.value(), StringValue::Integer(11));
}

#[test]
fn text_is_shown_beside_increments_that_never_saw_it() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let set = a.set(at(5, 1), "abc");
    let increment = b.increment(at(1, 2), 1);
    assert_eq!(b.state.value(), StringValue::Integer(1));
    a.join(&[&increment]);
    b.join(&[&set]);
    assert_eq!(a.state.value(), StringValue::Bytes(bytes("abc")));
    assert!(a.state.has_conflict());
    assert_eq!(a, b);
    // The next write sees both, and the conflict is over.
    a.set(at(6, 1), "7");
    assert_eq!(a.state.value(), StringValue::Bytes(bytes("7")));
    assert!(!a.state.has_conflict());
}

#[test]
fn increments_that_waited_behind_text_count_again_from_an_integer_that_did_not_see_them() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let set = a.set(at(5, 1), "abc");
    let increment = b.increment(at(1, 2), 1);
    let number = a.set(at(6, 1), "7");
    b.join(&[&set]);
    assert_eq!(b.state.value(), StringValue::Bytes(bytes("abc")));
    b.join(&[&number]);
    a.join(&[&increment]);
    assert_eq!(b.state.value(), StringValue::Integer(8));
    assert_eq!(a, b);
}

#[test]
fn totals_go_beyond_two_to_the_64_while_the_value_stays_small() {
    let mut a = Text::default();
    let step = 1i64 << 62;
    for turn in 0..8 {
        a.increment(at(2 * turn + 1, 1), step);
        a.increment(at(2 * turn + 2, 1), -step);
        assert_eq!(a.state.value(), StringValue::Integer(0));
    }
    let total = a.state.counts.values().map(|count| count.inc).sum::<u128>();
    assert!(total > u128::from(u64::MAX));
}

#[test]
fn a_joined_value_outside_i64_is_shown_as_it_is() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let base = a.set(at(1, 1), "9223372036854775807");
    b.join(&[&base]);
    let (mine, theirs) = (a.increment(at(2, 1), -1), b.increment(at(2, 2), i64::MAX));
    a.join(&[&theirs]);
    b.join(&[&mine]);
    assert_eq!(
        a.state.value(),
        StringValue::Integer(2 * i128::from(i64::MAX) - 1)
    );
    assert_eq!(a, b);
}

#[test]
fn sums_beyond_i128_stop_at_its_ends() {
    let count = |inc, dec| Count {
        birth: hlc(1),
        inc,
        dec,
    };
    let state = |inc, dec| StringState {
        counts: [(common::actor(1), count(inc, dec))].into(),
        ..StringState::default()
    };
    let value = |inc, dec| state(inc, dec).value();
    assert_eq!(value(u128::MAX, 0), StringValue::Integer(i128::MAX));
    assert_eq!(value(0, u128::MAX), StringValue::Integer(-i128::MAX));
    assert_eq!(value(u128::MAX, u128::MAX - 3), StringValue::Integer(3));
}

#[test]
fn the_greatest_decrement_is_exact() {
    let mut a = Text::default();
    a.increment(at(1, 1), i64::MIN);
    assert_eq!(a.state.value(), StringValue::Integer(i128::from(i64::MIN)));
    let back = a.state.increment(at(2, 1), -i128::from(i64::MIN));
    a.state.join(&back);
    assert_eq!(a.state.value(), StringValue::Integer(0));
}

#[test]
fn an_increment_by_zero_makes_a_key_exist() {
    let mut a = Text::default();
    a.increment(at(1, 1), 0);
    assert_eq!(a.state.value(), StringValue::Integer(0));
    assert!(!a.state.is_empty());
    assert_eq!(a.state.created, at(1, 1));
    a.del(at(2, 1));
    assert!(a.state.is_empty());
}

#[test]
fn an_increment_that_was_taken_back_still_exists_as_zero() {
    let mut a = Text::default();
    a.increment(at(1, 1), 3);
    a.increment(at(2, 1), -3);
    assert_eq!(a.state.value(), StringValue::Integer(0));
}

#[test]
fn a_set_that_arrives_before_the_set_it_overwrote_hides_what_that_one_hid() {
    let (mut a, mut b, mut c) = (Text::default(), Text::default(), Text::default());
    let five = a.increment(at(1, 1), 5);
    let first = a.set(at(2, 1), "one");
    b.join(&[&five, &first]);
    let second = b.set(at(3, 2), "2");
    c.join(&[&five, &second]);
    assert_eq!(c.state.value(), StringValue::Bytes(bytes("2")));
    c.join(&[&first]);
    assert_eq!(c, b);
}

#[test]
fn a_set_states_floors_whose_counts_have_not_arrived() {
    let (mut a, mut b, mut c) = (Text::default(), Text::default(), Text::default());
    let five = a.increment(at(1, 1), 5);
    let first = a.set(at(2, 1), "one");
    b.join(&[&first]);
    let second = b.set(at(3, 2), "2");
    c.join(&[&five, &second]);
    assert_eq!(c.state.value(), StringValue::Bytes(bytes("2")));
}

#[test]
fn an_expiry_does_not_undo_a_concurrent_set_of_any_stamp() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let old = a.set(at(1, 1), "old");
    b.join(&[&old]);
    // The clock of a runs ahead: by it, the key has expired when b, at an earlier stamp than a would make, writes anew.
    let expired = a.expire();
    assert_eq!(a.state.value(), StringValue::Absent);
    let new = b.set(at(2, 2), "new");
    a.join(&[&new]);
    b.join(&[&expired]);
    assert_eq!(a.state.value(), StringValue::Bytes(bytes("new")));
    assert_eq!(a, b);
}

#[test]
fn an_expiry_wins_over_the_very_write_it_saw_in_any_order() {
    let mut a = Text::default();
    let old = a.set(at(1, 1), "old");
    let expired = a.expire();
    let mut b = Text::default();
    b.join(&[&expired, &old]);
    assert_eq!(b.state.value(), StringValue::Absent);
    assert_eq!(a, b);
}

#[test]
fn an_expiry_spares_a_concurrent_increment() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let old = a.set(at(1, 1), "10");
    b.join(&[&old]);
    let (expired, increment) = (a.expire(), b.increment(at(2, 2), 1));
    a.join(&[&increment]);
    b.join(&[&expired]);
    assert_eq!(a.state.value(), StringValue::Integer(1));
    assert_eq!(a, b);
}

#[test]
fn a_tombstone_wins_at_its_own_stamp_and_loses_to_a_later_write() {
    let write = |time, value: Option<&str>| Register {
        stamp: at(time, 1),
        value: value.map(bytes),
    };
    let joined = |mut a: Register, b: &Register| {
        a.join(b);
        a
    };
    let (old, dead, new) = (write(1, Some("z")), write(1, None), write(2, Some("a")));
    assert_eq!(joined(old.clone(), &dead), dead);
    assert_eq!(joined(dead.clone(), &old), dead);
    assert_eq!(joined(dead, &new), new);
}

#[test]
fn a_renewed_actor_counts_beside_its_former_self() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let ten = a.increment(at(9, 1), 10);
    b.join(&[&ten]);
    // The directory was lost, and with it the old total: the new actor starts its own.
    a = Text::default();
    let one = a.increment(at(1, 7), 1);
    b.join(&[&one]);
    a.join(&[&b.state.clone()]);
    assert_eq!(a.state.value(), StringValue::Integer(11));
    assert_eq!(a, b);
}

/// Why an actor that may have forgotten its totals renews.
#[test]
fn an_actor_that_forgot_its_total_and_went_on_would_lose_one_of_the_two() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let ten = a.increment(at(1, 1), 10);
    b.join(&[&ten]);
    a = Text::default();
    let one = a.increment(at(2, 1), 1);
    b.join(&[&one]);
    assert_eq!(b.state.value(), StringValue::Integer(1));
}

#[test]
fn a_later_birth_counts_above_the_floor_of_an_earlier_one() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let ten = a.increment(at(1, 1), 10);
    let del = a.del(at(2, 1));
    b.join(&[&ten, &del]);
    // The deletion is stable everywhere; a drops the dead entry, its floor and the tombstone first, and counts anew.
    a = Text::default();
    let one = a.increment(at(3, 1), 1);
    b.join(&[&one]);
    assert_eq!(b.state.value(), StringValue::Integer(1));
    a.join(&[&b.state.clone()]);
    assert_eq!(a, b);
    // A late copy of the old increment, or of the old DEL, changes nothing.
    b.join(&[&ten, &del]);
    assert_eq!(a, b);
}

#[test]
fn a_floor_of_a_later_birth_hides_the_count_of_an_earlier_one() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let ten = a.increment(at(1, 1), 10);
    a = Text::default();
    let (one, del) = (a.increment(at(3, 1), 1), a.del(at(4, 1)));
    b.join(&[&ten, &del]);
    assert_eq!(b.state.value(), StringValue::Absent);
    b.join(&[&one]);
    assert_eq!(b.state.value(), StringValue::Absent);
}

#[test]
fn an_actor_goes_on_above_floors_that_are_ahead_of_its_count() {
    let (mut a, mut b) = (Text::default(), Text::default());
    let (one, two) = (a.increment(at(1, 1), 1), a.increment(at(2, 1), 1));
    b.join(&[&one, &two]);
    let del = b.del(at(3, 2));
    let mut stale = Text::default();
    stale.join(&[&one, &del]);
    stale.increment(at(4, 1), 1);
    assert_eq!(stale.state.value(), StringValue::Integer(1));
    // Where the floor's birth is later, a new entry begins.
    stale.state.floors.insert(
        common::actor(1),
        Count {
            birth: hlc(5),
            inc: 9,
            dec: 0,
        },
    );
    stale.increment(at(6, 1), 1);
    assert_eq!(stale.state.value(), StringValue::Integer(1));
}

#[test]
fn a_lost_increment_is_made_good_by_the_next() {
    let (mut a, mut b) = (Text::default(), Text::default());
    a.increment(at(1, 1), 5);
    let second = a.increment(at(2, 1), 2);
    b.join(&[&second, &second]);
    assert_eq!(b.state.value(), StringValue::Integer(7));
}

#[test]
fn creation_is_stamped_when_a_key_comes_to_be_and_only_then() {
    let mut a = Text::default();
    assert_eq!(a.del(at(1, 1)).created, Stamp::ZERO);
    assert_eq!(a.set(at(2, 1), "x").created, at(2, 1));
    assert_eq!(a.set(at(3, 1), "y").created, Stamp::ZERO);
    assert_eq!(a.expire().created, Stamp::ZERO);
    assert_eq!(a.increment(at(4, 1), 1).created, at(4, 1));
    assert_eq!(a.increment(at(5, 1), 1).created, Stamp::ZERO);
    assert_eq!(a.state.created, at(4, 1));
}

#[test]
fn the_newest_time_counts_registers_births_floors_and_creation() {
    let mut a = Text::default();
    assert_eq!(a.set(at(3, 1), "1").newest(), hlc(3));
    assert_eq!(a.increment(at(4, 1), 1).newest(), hlc(4));
    let mut delta = a.set(at(5, 1), "2");
    assert_eq!(delta.newest(), hlc(5));
    delta.floors.insert(common::actor(9), Count::new(hlc(70)));
    assert_eq!(delta.newest(), hlc(70));
    delta.created = at(80, 1);
    assert_eq!(delta.newest(), hlc(80));
}

#[test]
fn integers_have_one_spelling() {
    let spelled = [
        ("0", 0),
        ("7", 7),
        ("-7", -7),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ];
    for (text, value) in spelled {
        assert_eq!(parse_integer(text.as_bytes()), Some(value), "{text}");
    }
    let others = [
        "",
        "-",
        "+1",
        " 1",
        "1 ",
        "01",
        "-01",
        "-0",
        "00",
        "1.0",
        "1e3",
        "0x1",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "1\0",
        "١",
    ];
    for text in others {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
    }
}
