//! Commands on the expiry of a key.

use super::{
    super::{aggregate::Aggregate, args::Args, error, plan::Plan},
    Context, Planned,
};
use crate::core::{
    op::{ExpireCondition, Read, Write},
    reply::Refusal,
};

pub(super) fn expire(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let now = context.wall_ms();
    expire_at(context, args, now, 1000)
}

pub(super) fn pexpire(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let now = context.wall_ms();
    expire_at(context, args, now, 1)
}

pub(super) fn expireat(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_at(context, args, 0, 1000)
}

pub(super) fn pexpireat(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_at(context, args, 0, 1)
}

/// Expires a key `unit_ms × argument` after `from_ms`.
fn expire_at(context: &Context<'_>, args: Args<'_>, from_ms: i64, unit_ms: i64) -> Planned {
    let condition = condition(args)?;
    let at_ms = args
        .int(2)?
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add(from_ms))
        .ok_or_else(|| error::invalid_expire(context.command.name))?;
    Ok(Plan::write(
        args.kept(1),
        Write::Expire { at_ms, condition },
    ))
}

fn condition(args: Args<'_>) -> Result<ExpireCondition, Refusal> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for at in 3..args.len() {
        if args.is(at, "nx") {
            nx = true;
        } else if args.is(at, "xx") {
            xx = true;
        } else if args.is(at, "gt") {
            gt = true;
        } else if args.is(at, "lt") {
            lt = true;
        } else {
            let option = error::shown(args.at(at), usize::MAX);
            return Err(error::err(format!("Unsupported option {option}")));
        }
    }
    if nx && (xx || gt || lt) {
        return Err(error::err(
            "NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    Ok(match (nx, xx, gt, lt) {
        (_, _, true, true) => {
            return Err(error::err(
                "GT and LT options at the same time are not compatible",
            ));
        }
        (true, ..) => ExpireCondition::IfNone,
        (_, true, true, _) => ExpireCondition::IfSomeAndLater,
        (_, true, _, true) => ExpireCondition::IfSomeAndEarlier,
        (_, true, ..) => ExpireCondition::IfSome,
        (_, _, true, _) => ExpireCondition::IfLater,
        (_, _, _, true) => ExpireCondition::IfEarlier,
        (false, false, false, false) => ExpireCondition::Always,
    })
}

pub(super) fn ttl(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let read = Read::RemainingMs;
    Ok(Plan::read_as(args.key(1), read, Aggregate::Seconds))
}

pub(super) fn pttl(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::RemainingMs))
}

pub(super) fn expiretime(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let read = Read::ExpiresAtMs;
    Ok(Plan::read_as(args.key(1), read, Aggregate::Seconds))
}

pub(super) fn pexpiretime(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::ExpiresAtMs))
}

pub(super) fn persist(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::write(args.kept(1), Write::Persist))
}
