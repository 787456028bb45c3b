//! Goal: data directories and peers of the release before are understood. Every form that is stored or sent is kept here byte by byte.
//!
//! Method: one sample of each variant is encoded and compared with its line in `formats/golden.txt`, and read back from there. Enums that are
//! sent are encoded by the position of their variants: append, and never reorder. A new variant has a new line, which the failing test
//! shows. A line that changes means a new version of its format, beside which the old one is still read.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{collections::BTreeMap, fmt::Debug};

use bytes::Bytes;
use crdt::{
    ActorId, Context, Count, Delta, Dots, Expiry, Hlc, Part, Register, Stamp, StringState, Tag,
};
use node::{
    core::{
        identity::DirectoryId,
        message::{
            About, Ack, Answer, AskId, Compare, Errand, KeyCopy, KnownPosition, Message,
            NackReason, Recollection, Ship, Teaching, Unanswered,
        },
        op::{
            Action, Condition, ExpireCondition, Kind, Op, Pick, Read, ScanFilter, SetExpiry, Write,
        },
        reply::{Refusal, Reply},
    },
    level::Level,
    placement::Position,
    storage::record::{
        cursor::Cursor,
        head::{self, Head, RowsHead},
        inbox::Intake,
        outbox, row,
        shortage::Shortage,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// The lines that are to be in the file: names and bytes.
#[derive(Default)]
struct Lines(BTreeMap<String, Vec<u8>>);

impl Lines {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let before = self.0.insert(name.to_owned(), bytes);
        assert_eq!(before, None, "two samples are called {name}");
    }

    /// A value that is sent; `kind` and its variant are its name.
    fn sent<T>(&mut self, kind: &str, samples: impl IntoIterator<Item = (&'static str, T)>)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        for (variant, value) in samples {
            let bytes = crdt::encode(VERSION, &value);
            assert_eq!(crdt::decode::<T>(VERSION, &bytes).as_ref(), Ok(&value));
            self.add(&format!("{kind} {variant}"), bytes[1..].to_vec());
        }
    }

    /// Compares with the file.
    fn compare(self) {
        let mut golden: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
            let (name, bytes) = line.split_once(": ").unwrap();
            golden.insert(name, unhex(bytes));
        }
        let mut wrong = Vec::new();
        for (name, bytes) in &self.0 {
            match golden.remove(name.as_str()) {
                Some(kept) if kept == *bytes => {}
                Some(_) => wrong.push(format!("changed   {name}: {}", hex(bytes))),
                None => wrong.push(format!("not there {name}: {}", hex(bytes))),
            }
        }
        wrong.extend(golden.keys().map(|name| format!("no sample {name}")));
        assert!(wrong.is_empty(), "formats differ:\n{}", wrong.join("\n"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn at(time: u64, actor: u64) -> Stamp {
    Stamp::new(hlc(time), ActorId::from_u64(actor))
}

const fn hlc(time: u64) -> Hlc {
    Hlc::from_u64(time)
}

fn string() -> StringState {
    StringState {
        register: Some(Register {
            stamp: at(9, 1),
            value: Some(bytes("v")),
        }),
        created: at(9, 1),
        ..StringState::default()
    }
}

fn expiry() -> Expiry {
    Expiry {
        stamp: at(9, 1),
        at_ms: Some(100),
    }
}

fn delta() -> Delta {
    Delta {
        key: bytes("k"),
        parts: vec![Part::String(string()), Part::Expiry(expiry())],
    }
}

fn rows_head() -> RowsHead {
    RowsHead {
        context: [at(5, 1)].into_iter().collect::<Context>(),
        live: 1,
        sum: 7,
        created: at(5, 1),
    }
}

fn plain_head() -> Head {
    Head {
        string: string(),
        set: rows_head(),
        expiry: expiry(),
        ..Head::default()
    }
}

fn head_of_a_newer_release() -> Head {
    let mut head = plain_head();
    let Part::Unknown(part) = Part::from_body(Tag::new(200), bytes("new")).unwrap() else {
        panic!("no type has tag 200");
    };
    head.unknown.keep(&part);
    head
}

#[test]
fn what_is_stored_and_sent_is_as_it_was() {
    let mut lines = Lines::default();
    stored(&mut lines);
    lines.sent("message", messages());
    lines.sent("recollection", [("of", recollection())]);
    lines.sent("errand", errands());
    lines.sent("answer", answers());
    lines.sent("read", reads());
    lines.sent("write", writes());
    lines.sent("reply", replies());
    lines.sent("refusal", refusals());
    lines.sent("level", levels());
    lines.sent("decline", declines());
    lines.sent("unanswered", unanswered());
    lines.sent("about", abouts());
    lines.compare();
}

fn stored(lines: &mut Lines) {
    let position = Position::of(b"k");
    lines.add("head key", head::stored_key(&position, b"k"));
    lines.add("head, version 1", plain_head().encode());
    lines.add("head, version 2", head_of_a_newer_release().encode());
    lines.add(
        "row key of the set",
        row::stored_key(&position, Tag::SET, b"k", b"e"),
    );
    let other = row::stored_key(&position, Tag::new(3), b"k", b"e");
    lines.add("row key of type 3", other);
    lines.add("row", row::encode(&Dots::single(at(5, 1), ())));
    lines.add(
        "outbox key",
        outbox::stored_key(ActorId::from_u64(1), hlc(9)),
    );
    lines.add("outbox", outbox::encode(&[delta()]));
    let cursor = Cursor {
        taken: hlc(9),
        settled: hlc(8),
        holder: Some(DirectoryId(7)),
        hole: Some(hlc(6)),
    };
    lines.add("cursor", cursor.encode());
    let intake = Intake {
        position: hlc(9),
        complete: hlc(8),
        newest: hlc(7),
    };
    lines.add("inbox", intake.encode());
    for (head, name) in [(plain_head(), "1"), (head_of_a_newer_release(), "2")] {
        assert_eq!(
            Head::decode(b"k", &head.encode()),
            Ok(head),
            "version {name}"
        );
    }
    assert_eq!(Cursor::decode(b"", &cursor.encode()), Ok(cursor));
    assert_eq!(Intake::decode(b"", &intake.encode()), Ok(intake));
}

const ASK: AskId = AskId {
    shard: 1,
    number: 2,
};

fn messages() -> Vec<(&'static str, Message)> {
    let actor = ActorId::from_u64(1);
    let copy = KeyCopy {
        head: Bytes::from(plain_head().encode()),
        rows: vec![(bytes("e"), Dots::single(at(5, 1), ()))],
        next: Some(3),
    };
    let samples = [
        Message::Ship(Ship {
            actor,
            after: hlc(8),
            last: hlc(9),
            rows: vec![Bytes::from(outbox::encode(&[delta()]))],
            is_for_region: true,
        }),
        Message::Ack(Ack {
            actor,
            taken: hlc(9),
            majority: hlc(8),
            every: hlc(7),
            passed: hlc(6),
            saved: hlc(5),
            answers: Some((hlc(8), hlc(9))),
            taught: vec![teaching()],
            shortage: Shortage::default(),
        }),
        Message::Nack {
            actor,
            taken: hlc(9),
            reason: NackReason::Gap,
        },
        Message::ClosedTimestamp {
            actor,
            after: hlc(8),
            upto: hlc(9),
        },
        Message::Gap {
            actor,
            after: hlc(8),
            upto: hlc(9),
            is_for_region: false,
        },
        Message::Compare(Compare {
            ask: ASK,
            key: bytes("k"),
            digest: Some(7),
            from: 3,
        }),
        Message::Compared {
            ask: ASK,
            copy: Some(copy),
            shortage: Shortage::default(),
        },
        Message::Repair {
            ask: ASK,
            delta: delta(),
        },
        Message::Repaired { ask: ASK },
        Message::Forward {
            id: 1,
            within_ms: 2,
            errand: Errand::Count,
        },
        Message::Forwarded {
            id: 1,
            answer: Answer::Counts(vec![(1, 2)]),
        },
        Message::Unanswered {
            ask: ASK,
            why: Unanswered::TooLarge,
        },
    ];
    let name = |message: &Message| match message {
        Message::Ship(_) => "ship",
        Message::Ack(_) => "taken",
        Message::Nack { .. } => "declined",
        Message::ClosedTimestamp { .. } => "promise",
        Message::Gap { .. } => "skip",
        Message::Compare(_) => "compare",
        Message::Compared { .. } => "compared",
        Message::Repair { .. } => "mend",
        Message::Repaired { .. } => "mended",
        Message::Forward { .. } => "forward",
        Message::Forwarded { .. } => "forwarded",
        Message::Unanswered { .. } => "unanswered",
    };
    named(samples, name)
}

fn teaching() -> Teaching {
    Teaching {
        delta: delta(),
        newest: at(9, 1),
        seen: Some([at(5, 1)].into_iter().collect()),
        was_shown: true,
        is_text: false,
        is_other_type: true,
        is_hidden: false,
        string: Some(string()),
        ended: Count::new(hlc(4)),
        gone: vec![bytes("e")],
        over: vec![Part::Expiry(expiry())],
        stays: true,
        is_lost: false,
        about: About::Removal,
    }
}

fn recollection() -> Recollection {
    Recollection {
        held: vec![KnownPosition {
            actor: ActorId::from_u64(1),
            taken: hlc(9),
            passed: hlc(8),
            newest: hlc(7),
        }],
        replaced: Some(DirectoryId(7)),
        shortage: Shortage::default(),
    }
}

fn errands() -> Vec<(&'static str, Errand)> {
    let op = Op {
        key: bytes("k"),
        action: Action::Read(Read::Get),
        level: Level::LocalQuorum,
    };
    let filter = ScanFilter {
        count: 10,
        pattern: Some(bytes("*")),
        kind: Some(Kind::Set),
    };
    let samples = [
        Errand::Ops(vec![op]),
        Errand::Count,
        Errand::Scan {
            cursor: 1,
            filter,
            upto: 2,
        },
    ];
    named(samples, |errand| match errand {
        Errand::Ops(_) => "ops",
        Errand::Count => "count",
        Errand::Scan { .. } => "scan",
    })
}

fn answers() -> Vec<(&'static str, Answer)> {
    let samples = [
        Answer::Replies(vec![Reply::Ok]),
        Answer::Counts(vec![(1, 2)]),
        Answer::Page {
            next: 3,
            keys: vec![bytes("k")],
        },
        Answer::Refused(Refusal::WrongType),
    ];
    named(samples, |answer| match answer {
        Answer::Replies(_) => "replies",
        Answer::Counts(_) => "counts",
        Answer::Page { .. } => "page",
        Answer::Refused(_) => "refused",
    })
}

fn reads() -> Vec<(&'static str, Read)> {
    let samples = [
        Read::Get,
        Read::GetOrNil,
        Read::Strlen,
        Read::GetRange { start: 1, end: -1 },
        Read::Exists,
        Read::Type,
        Read::RemainingMs,
        Read::ExpiresAtMs,
        Read::AreMembers {
            members: vec![bytes("e")],
        },
        Read::Members,
        Read::Cardinality,
        Read::ScanMembers {
            cursor: 1,
            count: 2,
            pattern: None,
        },
        Read::RandomMembers {
            pick: Pick::Repeating(3),
            entropy: 4,
        },
        Read::Encoding,
        Read::MemoryUsage,
    ];
    named(samples, |read| match read {
        Read::Get => "get",
        Read::GetOrNil => "get or nil",
        Read::Strlen => "strlen",
        Read::GetRange { .. } => "get range",
        Read::Exists => "exists",
        Read::Type => "type",
        Read::RemainingMs => "remaining",
        Read::ExpiresAtMs => "expires at",
        Read::AreMembers { .. } => "are members",
        Read::Members => "members",
        Read::Cardinality => "cardinality",
        Read::ScanMembers { .. } => "scan members",
        Read::RandomMembers { .. } => "random members",
        Read::Encoding => "encoding",
        Read::MemoryUsage => "memory usage",
    })
}

fn writes() -> Vec<(&'static str, Write)> {
    let samples = [
        Write::Set {
            value: bytes("v"),
            expiry: SetExpiry::At(100),
            condition: Condition::IfPresent,
            return_old: true,
        },
        Write::GetDel,
        Write::GetEx {
            expiry: SetExpiry::Keep,
        },
        Write::Append { value: bytes("v") },
        Write::SetRange {
            offset: 1,
            value: bytes("v"),
        },
        Write::IncrBy { by: -2 },
        Write::Delete,
        Write::Expire {
            at_ms: 100,
            condition: ExpireCondition::IfSomeAndEarlier,
        },
        Write::Persist,
        Write::Add {
            members: vec![bytes("e")],
        },
        Write::Remove {
            members: vec![bytes("e")],
        },
        Write::Pop {
            count: 1,
            entropy: 2,
        },
    ];
    named(samples, |write| match write {
        Write::Set { .. } => "set",
        Write::GetDel => "getdel",
        Write::GetEx { .. } => "getex",
        Write::Append { .. } => "append",
        Write::SetRange { .. } => "setrange",
        Write::IncrBy { .. } => "incrby",
        Write::Delete => "delete",
        Write::Expire { .. } => "expire",
        Write::Persist => "persist",
        Write::Add { .. } => "add",
        Write::Remove { .. } => "remove",
        Write::Pop { .. } => "pop",
    })
}

fn replies() -> Vec<(&'static str, Reply)> {
    let samples = [
        Reply::Ok,
        Reply::Simple("string"),
        Reply::Nil,
        Reply::NilArray,
        Reply::Int(-1),
        Reply::Bulk(bytes("v")),
        Reply::Array(vec![Reply::Nil]),
        Reply::Set(vec![Reply::Nil]),
        Reply::Map(vec![(Reply::Ok, Reply::Nil)]),
        Reply::Verbatim(bytes("v")),
        Reply::Error(Refusal::Overflow),
    ];
    named(samples, |reply| match reply {
        Reply::Ok => "ok",
        Reply::Simple(_) => "simple",
        Reply::Nil => "nil",
        Reply::NilArray => "nil array",
        Reply::Int(_) => "int",
        Reply::Bulk(_) => "bulk",
        Reply::Array(_) => "array",
        Reply::Set(_) => "set",
        Reply::Map(_) => "map",
        Reply::Verbatim(_) => "verbatim",
        Reply::Error(_) => "error",
    })
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    let text = || "why".to_owned();
    let samples = [
        Refusal::WrongType,
        Refusal::NotAnInteger,
        Refusal::Overflow,
        Refusal::StringTooLong,
        Refusal::Redis(text()),
        Refusal::Busy(text()),
        Refusal::ReadOnly(text()),
        Refusal::ClockSkew(text()),
        Refusal::TooLarge(text()),
        Refusal::Unavailable(text()),
        Refusal::NoQuorum {
            detail: text(),
            applied: Some(1),
        },
        Refusal::Timeout(text()),
    ];
    named(samples, |refusal| match refusal {
        Refusal::WrongType => "wrong type",
        Refusal::NotAnInteger => "not an integer",
        Refusal::Overflow => "overflow",
        Refusal::StringTooLong => "string too long",
        Refusal::Redis(_) => "redis",
        Refusal::Busy(_) => "busy",
        Refusal::ReadOnly(_) => "read only",
        Refusal::ClockSkew(_) => "clock skew",
        Refusal::TooLarge(_) => "too large",
        Refusal::Unavailable(_) => "unavailable",
        Refusal::NoQuorum { .. } => "no quorum",
        Refusal::Timeout(_) => "timeout",
    })
}

fn levels() -> Vec<(&'static str, Level)> {
    let samples = [
        "one".parse().unwrap(),
        Level::LocalQuorum,
        Level::EachQuorum,
        Level::Quorum,
        Level::All,
    ];
    named(samples, |level| match level {
        Level::Replicas(_) => "replicas",
        Level::LocalQuorum => "local quorum",
        Level::EachQuorum => "each quorum",
        Level::Quorum => "quorum",
        Level::All => "all",
    })
}

fn declines() -> Vec<(&'static str, NackReason)> {
    let samples = [
        NackReason::Gap,
        NackReason::ClockAhead { excess_ms: 1 },
        NackReason::ReadOnly,
        NackReason::Busy,
        NackReason::Malformed,
    ];
    named(samples, |decline| match decline {
        NackReason::Gap => "gap",
        NackReason::ClockAhead { .. } => "clock ahead",
        NackReason::ReadOnly => "read only",
        NackReason::Busy => "busy",
        NackReason::Malformed => "malformed",
    })
}

fn unanswered() -> Vec<(&'static str, Unanswered)> {
    let samples = [
        Unanswered::TooLarge,
        Unanswered::NotSent,
        Unanswered::Damaged,
        Unanswered::ReadOnly,
        Unanswered::Forgot,
        Unanswered::ClockAhead,
    ];
    named(samples, |why| match why {
        Unanswered::TooLarge => "too large",
        Unanswered::NotSent => "not sent",
        Unanswered::Damaged => "damaged",
        Unanswered::ReadOnly => "read only",
        Unanswered::Forgot => "forgot",
        Unanswered::ClockAhead => "clock ahead",
    })
}

fn abouts() -> Vec<(&'static str, About)> {
    let samples = [
        About::Statement,
        About::Removal,
        About::Elements,
        About::Increment,
    ];
    named(samples, |about| match about {
        About::Statement => "statement",
        About::Removal => "removal",
        About::Elements => "elements",
        About::Increment => "increment",
    })
}

/// Names samples by a match that a new variant does not compile without.
fn named<T>(
    samples: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &'static str,
) -> Vec<(&'static str, T)> {
    let samples = samples.into_iter();
    samples.map(|sample| (name(&sample), sample)).collect()
}

const GOLDEN: &str = include_str!("formats/golden.txt");
/// What is sent has the version that two nodes agree on before it.
const VERSION: u8 = 7;
