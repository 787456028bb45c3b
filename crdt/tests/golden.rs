//! The persisted and shipped formats, byte by byte. A test here that fails means that existing data directories and older peers would
//! no longer be understood: give the format a new version instead of new bytes.

mod common;

use std::{collections::BTreeMap, fmt::Debug};

use common::{KEY, actor, at, bytes, hlc};
use crdt::{
    Context, Count, Delta, Dots, Expiry, Named, Part, Register, RowsDelta, Stamp, StringState, Tag,
    decode, encode,
};
use serde::{Serialize, de::DeserializeOwned};

#[test]
fn a_stamp_is_its_time_and_its_actor() {
    golden(&at(1, 2), "01 02");
    // Beyond 250 an integer is marked by its width and little endian.
    golden(
        &at(0x1122_3344_5566_7788, 0xa1b2),
        "fd8877665544332211 fbb2a1",
    );
}

#[test]
fn a_context_is_intervals_by_actor_each_its_beginning_and_length() {
    golden(&Context::new(), "00");
    let mut context = Context::new();
    context.insert_interval(actor(2), hlc(5), hlc(9));
    context.insert_interval(actor(1), hlc(3), hlc(4));
    context.insert_interval(actor(1), hlc(7), hlc(9));
    golden(&context, "02 01 02 0301 0702 02 01 0504");
}

#[test]
fn dots_are_stamps_with_payloads() {
    golden(&Dots::single(at(5, 1), ()), "01 0501");
    golden(&Dots::single(at(5, 1), bytes("v")), "01 0501 0176");
}

#[test]
fn a_string_is_register_counts_floors_and_creation() {
    golden(&StringState::default(), "00 00 00 0000");
    let written = StringState::default().set(at(9, 1), Some(bytes("hi")));
    golden(&written, "01 0901 01 026869 00 00 0901");
    golden(&written.expired(), "01 0901 00 00 00 0000");
    let counted = StringState {
        register: Some(Register {
            stamp: at(9, 1),
            value: None,
        }),
        counts: BTreeMap::from([(
            actor(1),
            Count {
                birth: hlc(2),
                inc: 3,
                dec: 4,
            },
        )]),
        floors: BTreeMap::from([(
            actor(2),
            Count {
                birth: hlc(5),
                inc: 1 << 64,
                dec: 0,
            },
        )]),
        created: Stamp::ZERO,
    };
    let floor = "05 fe00000000000000000100000000000000 00";
    golden(
        &counted,
        &format!("01 0901 00 01 01 020304 01 02 {floor} 0000"),
    );
}

#[test]
fn an_expiry_is_its_stamp_and_its_time() {
    golden(
        &Expiry {
            stamp: at(9, 1),
            at_ms: None,
        },
        "0901 00",
    );
    golden(
        &Expiry {
            stamp: at(9, 1),
            at_ms: Some(100),
        },
        "0901 01 64",
    );
}

#[test]
fn a_change_of_rows_is_context_named_rows_and_creation() {
    golden(&add(), "01 01 01 0401 00 01 0178 01 0501 0501");
    let remove = crdt::remove([(bytes("x"), &Dots::single(at(5, 1), ()))]);
    golden(&remove, "01 01 01 0401 00 01 0178 00 0000");
    golden(&crdt::clear::<()>(&remove.context), "01 01 01 0401 01 0000");
}

#[test]
fn a_delta_is_its_key_and_tagged_parts() {
    let parts = vec![
        Part::String(StringState::default()),
        Part::Set(add()),
        Part::Expiry(Expiry {
            stamp: at(9, 1),
            at_ms: None,
        }),
    ];
    let string = "00 00 00 00 0000";
    let set = "01 01 01 01 0401 00 01 0178 01 0501 0501";
    let expiry = "02 0901 00";
    // Of a type that this release does not know: its length is said, so that it can be passed over.
    let unknown = Part::from_body(Tag::new(9), bytes("new")).expect("no type has tag 9");
    golden(&unknown, "09 03 6e6577");
    golden(
        &Delta { key: KEY, parts },
        &format!("03 6b6579 03 {string} {set} {expiry}"),
    );
}

#[test]
fn which_rows_are_named_is_told_by_position() {
    assert!(matches!(add().named, Named::Rows(_)));
    assert_eq!(encode(VERSION, &Named::<()>::All), [VERSION, 1]);
}

const VERSION: u8 = 1;

fn add() -> RowsDelta<()> {
    crdt::add(
        &Context::new(),
        at(5, 1),
        bytes("x"),
        &Dots::new(),
        (),
        true,
    )
}

/// Compares with hexadecimal digits, in which spaces mean nothing, and reads them back.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, body: &str) {
    let body: String = body.split_whitespace().collect();
    let sent = encode(VERSION, value);
    let hex: String = sent.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, format!("01{body}"));
    assert_eq!(decode::<T>(VERSION, &sent).as_ref(), Ok(value));
}
