//! Commands on one set.

use bytes::Bytes;

use super::{
    super::{
        aggregate::Aggregate, args::Args, error, limits::REPEATS_MAX, multi_key::Errand, plan::Plan,
    },
    Context, Planned,
    keys::{self, ScanOptions},
};
use crate::core::{
    op::{Pick, Read, Write},
    reply::{Refusal, Reply},
};

pub(super) fn add(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let members = kept_from(args, 2);
    Ok(Plan::write(args.kept(1), Write::Add { members }))
}

pub(super) fn remove(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let members = kept_from(args, 2);
    Ok(Plan::write(args.kept(1), Write::Remove { members }))
}

fn kept_from(args: Args<'_>, first: usize) -> Vec<Bytes> {
    (first..args.len()).map(|at| args.kept(at)).collect()
}

pub(super) fn is_member(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let members = vec![args.slice(2)];
    let read = Read::AreMembers { members };
    Ok(Plan::read_as(args.key(1), read, Aggregate::First))
}

pub(super) fn are_members(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let members = (2..args.len()).map(|at| args.slice(at)).collect();
    Ok(Plan::read(args.key(1), Read::AreMembers { members }))
}

pub(super) fn members(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::Members))
}

pub(super) fn cardinality(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::Cardinality))
}

pub(super) fn scan(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let cursor = keys::cursor(args.at(2))?;
    let read = match ScanOptions::parse(args, 3, false) {
        Ok(ScanOptions { count, pattern, .. }) => Read::ScanMembers {
            cursor,
            count,
            pattern,
        },
        // Redis looks at the key before the options: a missing key is an empty page.
        Err(refusal) => {
            let empty = keys::page(0, Vec::new());
            let join = Aggregate::found(Reply::Error(refusal), empty);
            return Ok(Plan::read_as(args.key(1), Read::Cardinality, join));
        }
    };
    Ok(Plan::read(args.key(1), read))
}

pub(super) fn pop(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let entropy = context.source.entropy();
    let (count, join) = match args.len() {
        2 => (1, Aggregate::First),
        3 => (positive(args, 2)?, Aggregate::AsSet),
        _ => return Err(error::syntax()),
    };
    let write = Write::Pop { count, entropy };
    Ok(Plan::write_as(args.kept(1), write, join))
}

fn positive(args: Args<'_>, at: usize) -> Result<usize, Refusal> {
    let count = args
        .int(at)
        .ok()
        .and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(error::must_be_positive)
}

pub(super) fn random(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let entropy = context.source.entropy();
    let (pick, join) = match args.len() {
        2 => (Pick::Distinct(1), Aggregate::First),
        3 => (pick(args.int(2)?)?, Aggregate::Same),
        _ => return Err(error::syntax()),
    };
    let read = Read::RandomMembers { pick, entropy };
    Ok(Plan::read_as(args.key(1), read, join))
}

/// A negative count asks for that many with repetition.
fn pick(count: i64) -> Result<Pick, Refusal> {
    if count == i64::MIN {
        return Err(error::err(format!(
            "value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        )));
    }
    if count < -REPEATS_MAX {
        return Err(Refusal::TooLarge(format!(
            "a reply of {} members is over the limit of {REPEATS_MAX} with repetition",
            -count
        )));
    }
    let magnitude = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(if count < 0 {
        Pick::Repeating(magnitude)
    } else {
        Pick::Distinct(magnitude)
    })
}

pub(super) fn move_member(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::Errand(Errand::Move {
        source: args.kept(1),
        target: args.kept(2),
        member: args.kept(3),
    }))
}
