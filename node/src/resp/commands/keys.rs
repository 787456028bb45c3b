//! Commands on keys of any type, and over all keys.

use bytes::Bytes;

use super::{
    super::{
        aggregate::Aggregate,
        args::Args,
        error,
        limits::SCAN_COUNT_MAX,
        multi_key::Errand,
        number::parse_cursor,
        plan::{Ops, Plan},
    },
    Context, Planned, help,
};
use crate::{
    core::{
        op::{Kind, Op, Read, ScanFilter, Write},
        reply::{Refusal, Reply},
    },
    placement::CURSOR_BITS,
};

pub(super) fn delete(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.len() == 2 {
        return Ok(Plan::write(args.kept(1), Write::Delete));
    }
    let ops = (1..args.len()).map(|at| Op::writing(args.kept(at), Write::Delete));
    Ok(Plan::Write(Ops::Many(ops.collect()), Aggregate::Sum))
}

pub(super) fn exists(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.len() == 2 {
        return Ok(Plan::read(args.key(1), Read::Exists));
    }
    let ops = (1..args.len()).map(|at| Op::reading(args.key(at), Read::Exists));
    Ok(Plan::Read(Ops::Many(ops.collect()), Aggregate::Sum))
}

pub(super) fn kind(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::Type))
}

pub(super) fn keys(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let pattern = pattern(args.slice(1));
    Ok(Plan::Errand(Errand::Keys { pattern }))
}

pub(super) fn random(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    let entropy = context.source.entropy();
    Ok(Plan::Errand(Errand::RandomKey { entropy }))
}

pub(super) fn scan(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let cursor = cursor(args.at(1))?;
    let options = ScanOptions::parse(args, 2, true)?;
    let kind = match options.kind {
        None => None,
        Some(kind) => match [Kind::String, Kind::Set]
            .into_iter()
            .find(|known| kind == known.word())
        {
            Some(kind) => Some(kind),
            // No key has a type that does not exist: the scan is over.
            None => return Ok(Plan::Reply(page(0, Vec::new()))),
        },
    };
    let filter = ScanFilter {
        count: options.count,
        pattern: options.pattern,
        kind,
    };
    Ok(Plan::Errand(Errand::Scan { cursor, filter }))
}

/// The cursor of SCAN and SSCAN. A number that no page ended with is refused: begun anywhere, a scan would miss keys without a word.
pub(super) fn cursor(text: &[u8]) -> Result<u64, Refusal> {
    let cursor = parse_cursor(text).filter(|cursor| cursor >> CURSOR_BITS == 0);
    cursor.ok_or_else(|| error::err("invalid cursor"))
}

/// A page of SCAN or SSCAN.
pub(in crate::resp) fn page(cursor: u64, items: Vec<Reply>) -> Reply {
    let cursor = Reply::Bulk(Bytes::from(cursor.to_string()));
    Reply::Array(vec![cursor, Reply::Array(items)])
}

/// The pattern that `*` is not: it matches everything.
fn pattern(pattern: Bytes) -> Option<Bytes> {
    (&pattern[..] != b"*").then_some(pattern)
}

/// The options of SCAN and SSCAN.
#[derive(Debug)]
pub(super) struct ScanOptions {
    pub(super) count: usize,
    pub(super) pattern: Option<Bytes>,
    /// Lower case.
    kind: Option<String>,
}

impl ScanOptions {
    /// Reads the options from argument `at` on; TYPE only where it is allowed.
    pub(super) fn parse(args: Args<'_>, mut at: usize, with_type: bool) -> Result<Self, Refusal> {
        let mut options = Self {
            count: 10,
            pattern: None,
            kind: None,
        };
        while at < args.len() {
            if at + 1 == args.len() {
                return Err(error::syntax());
            }
            if args.is(at, "count") {
                let count = usize::try_from(args.int(at + 1)?).map_err(|_| error::syntax())?;
                if count == 0 {
                    return Err(error::syntax());
                }
                options.count = count.min(SCAN_COUNT_MAX);
            } else if args.is(at, "match") {
                options.pattern = pattern(args.slice(at + 1));
            } else if with_type && args.is(at, "type") {
                let kind = error::shown(args.at(at + 1), KIND_BYTES_MAX);
                options.kind = Some(kind.to_ascii_lowercase());
            } else {
                return Err(error::syntax());
            }
            at += 2;
        }
        Ok(options)
    }
}

/// Longer than any type's name.
const KIND_BYTES_MAX: usize = 32;

/// A container called without a subcommand: its arity does not allow that.
pub(super) fn container(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    Err(error::arity(context.command.name))
}

pub(super) fn memory_usage(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let mut at = 3;
    while at < args.len() {
        if !args.is(at, "samples") || at + 1 == args.len() || args.int(at + 1)? < 0 {
            return Err(error::syntax());
        }
        at += 2;
    }
    Ok(Plan::read(args.key(2), Read::MemoryUsage))
}

pub(super) fn memory_help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::MEMORY))
}

pub(super) fn encoding(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(2), Read::Encoding))
}

pub(super) fn refcount(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(of_existing(args, Reply::Int(1)))
}

pub(super) fn idle_time(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(of_existing(args, Reply::Int(0)))
}

pub(super) fn frequency(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let refusal = error::err(
        "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.",
    );
    Ok(of_existing(args, Reply::Error(refusal)))
}

/// What OBJECT says of every key alike; nil for none.
fn of_existing(args: Args<'_>, present: Reply) -> Plan {
    Plan::read_as(
        args.key(2),
        Read::Exists,
        Aggregate::found(present, Reply::Nil),
    )
}

pub(super) fn object_help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::OBJECT))
}
