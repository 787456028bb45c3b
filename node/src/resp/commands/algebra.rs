//! Commands over several sets.

use super::{
    super::{
        args::Args,
        error,
        multi_key::{Algebra, Errand},
        plan::Plan,
    },
    Context, Planned,
};
use crate::core::{op::Key, reply::Refusal};

pub(super) fn intersection(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(combine(args, Algebra::Intersection))
}

pub(super) fn union(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(combine(args, Algebra::Union))
}

pub(super) fn difference(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(combine(args, Algebra::Difference))
}

fn combine(args: Args<'_>, algebra: Algebra) -> Plan {
    let keys = keys(args, 1, args.len());
    Plan::Errand(Errand::Combine { keys, algebra })
}

fn keys(args: Args<'_>, first: usize, end: usize) -> Vec<Key> {
    (first..end).map(|at| args.key(at)).collect()
}

pub(super) fn intersection_size(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let count = key_count(args)?;
    let limit = limit(args, 2 + count)?;
    let keys = keys(args, 2, 2 + count);
    Ok(Plan::Errand(Errand::IntersectionSize { keys, limit }))
}

/// How many keys argument 1 announces, all of which are there.
pub(super) fn key_count(args: Args<'_>) -> Result<usize, Refusal> {
    let text = "numkeys should be greater than 0";
    let count = args.int_or(1, text)?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| error::err(text))?;
    if count > args.len() - 2 {
        return Err(error::err(
            "Number of keys can't be greater than number of args",
        ));
    }
    Ok(count)
}

/// `LIMIT n` from argument `at` on; 0 is none.
fn limit(args: Args<'_>, mut at: usize) -> Result<Option<usize>, Refusal> {
    let text = "LIMIT can't be negative";
    let mut limit = None;
    while at < args.len() {
        if !args.is(at, "limit") || at + 1 == args.len() {
            return Err(error::syntax());
        }
        let given = usize::try_from(args.int_or(at + 1, text)?);
        let given = given.map_err(|_| error::err(text))?;
        limit = Some(given).filter(|limit| *limit > 0);
        at += 2;
    }
    Ok(limit)
}
