//! Commands on strings.

use super::{
    super::{
        aggregate::Aggregate,
        args::Args,
        error,
        plan::{Ops, Plan},
    },
    Context, Planned,
};
use crate::core::{
    op::{Condition, Op, Read, SetExpiry, Write},
    reply::{Refusal, Reply},
};

pub(super) fn get(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::Get))
}

pub(super) fn set(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let options = Options::of_set(args)?;
    let expiry = match options.expiry {
        Some((when, at)) => SetExpiry::At(deadline(context, args, at, when)?),
        None if options.keep => SetExpiry::Keep,
        None => SetExpiry::Clear,
    };
    let write = Write::Set {
        value: args.kept(2),
        expiry,
        condition: options.condition,
        return_old: options.return_old,
    };
    Ok(Plan::write(args.kept(1), write))
}

/// A SET without options, and what becomes of its reply.
fn plain_set(args: Args<'_>, value: usize, condition: Condition, expiry: SetExpiry) -> Write {
    Write::Set {
        value: args.kept(value),
        expiry,
        condition,
        return_old: false,
    }
}

pub(super) fn setnx(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let write = plain_set(args, 2, Condition::IfAbsent, SetExpiry::Clear);
    Ok(Plan::write_as(args.kept(1), write, Aggregate::Flag))
}

pub(super) fn setex(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    set_expiring(context, args, When::InSeconds)
}

pub(super) fn psetex(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    set_expiring(context, args, When::InMilliseconds)
}

fn set_expiring(context: &mut Context<'_>, args: Args<'_>, when: When) -> Planned {
    let expiry = SetExpiry::At(deadline(context, args, 2, when)?);
    let write = plain_set(args, 3, Condition::Always, expiry);
    Ok(Plan::write(args.kept(1), write))
}

pub(super) fn getset(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let write = Write::Set {
        value: args.kept(2),
        expiry: SetExpiry::Clear,
        condition: Condition::Always,
        return_old: true,
    };
    Ok(Plan::write(args.kept(1), write))
}

pub(super) fn getdel(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::write(args.kept(1), Write::GetDel))
}

pub(super) fn getex(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let options = Options::of_getex(args)?;
    let expiry = match options.expiry {
        Some((when, at)) => match deadline(context, args, at, when) {
            Ok(at) => SetExpiry::At(at),
            // Redis looks at the key first: a missing key is nil, whatever the time.
            Err(refusal) => {
                let join = Aggregate::found(Reply::Error(refusal), Reply::Nil);
                return Ok(Plan::read_as(args.key(1), Read::Get, join));
            }
        },
        None if options.persist => SetExpiry::Clear,
        None => return get(context, args),
    };
    Ok(Plan::write(args.kept(1), Write::GetEx { expiry }))
}

pub(super) fn mget(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let keys = 1..args.len();
    let ops = keys.map(|at| Op::reading(args.key(at), Read::GetOrNil));
    Ok(Plan::Read(Ops::Many(ops.collect()), Aggregate::List))
}

/// Each key is set atomically, the command as a whole is not.
pub(super) fn mset(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.len().is_multiple_of(2) {
        return Err(error::arity(context.command.name));
    }
    let set = |at| plain_set(args, at + 1, Condition::Always, SetExpiry::Clear);
    let keys = (1..args.len()).step_by(2);
    let ops = keys.map(|at| Op::writing(args.kept(at), set(at)));
    Ok(Plan::Write(Ops::Many(ops.collect()), Aggregate::AllOk))
}

pub(super) fn append(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let value = args.kept(2);
    Ok(Plan::write(args.kept(1), Write::Append { value }))
}

pub(super) fn strlen(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::read(args.key(1), Read::Strlen))
}

pub(super) fn getrange(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let (start, end) = (args.int(2)?, args.int(3)?);
    Ok(Plan::read(args.key(1), Read::GetRange { start, end }))
}

pub(super) fn setrange(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let offset = args.int(2)?;
    let offset = usize::try_from(offset).map_err(|_| error::err("offset is out of range"))?;
    let value = args.kept(3);
    Ok(Plan::write(args.kept(1), Write::SetRange { offset, value }))
}

pub(super) fn incr(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(increment(args, 1))
}

pub(super) fn decr(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(increment(args, -1))
}

pub(super) fn incrby(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(increment(args, args.int(2)?))
}

pub(super) fn decrby(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let by = args.int(2)?.checked_neg();
    let by = by.ok_or_else(|| error::err("decrement would overflow"))?;
    Ok(increment(args, by))
}

fn increment(args: Args<'_>, by: i64) -> Plan {
    Plan::write(args.kept(1), Write::IncrBy { by })
}

/// How an expiry is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// EX
    InSeconds,
    /// PX
    InMilliseconds,
    /// EXAT
    AtSeconds,
    /// PXAT
    AtMilliseconds,
}

/// The options of SET and GETEX.
#[derive(Debug)]
struct Options {
    condition: Condition,
    return_old: bool,
    keep: bool,
    persist: bool,
    /// How, and which argument says when.
    expiry: Option<(When, usize)>,
}

impl Options {
    fn none() -> Self {
        Self {
            condition: Condition::Always,
            return_old: false,
            keep: false,
            persist: false,
            expiry: None,
        }
    }

    fn of_set(args: Args<'_>) -> Result<Self, Refusal> {
        let mut options = Self::none();
        let mut at = 3;
        while at < args.len() {
            if args.is(at, "nx") && options.condition != Condition::IfPresent {
                options.condition = Condition::IfAbsent;
            } else if args.is(at, "xx") && options.condition != Condition::IfAbsent {
                options.condition = Condition::IfPresent;
            } else if args.is(at, "get") {
                options.return_old = true;
            } else if args.is(at, "keepttl") && options.expiry.is_none() {
                options.keep = true;
            } else {
                at = options.expiry(args, at)?;
            }
            at += 1;
        }
        Ok(options)
    }

    fn of_getex(args: Args<'_>) -> Result<Self, Refusal> {
        let mut options = Self::none();
        let mut at = 2;
        while at < args.len() {
            if args.is(at, "persist") && options.expiry.is_none() {
                options.persist = true;
            } else {
                at = options.expiry(args, at)?;
            }
            at += 1;
        }
        Ok(options)
    }

    /// Takes an expiry and its argument, which it returns the place of. One kind of expiry excludes the others.
    fn expiry(&mut self, args: Args<'_>, at: usize) -> Result<usize, Refusal> {
        let words = [
            ("ex", When::InSeconds),
            ("px", When::InMilliseconds),
            ("exat", When::AtSeconds),
            ("pxat", When::AtMilliseconds),
        ];
        let known = words.into_iter().find(|(word, _)| args.is(at, word));
        let (_, when) = known.ok_or_else(error::syntax)?;
        let other = self.expiry.is_some_and(|(earlier, _)| earlier != when);
        if self.keep || self.persist || other || at + 1 >= args.len() {
            return Err(error::syntax());
        }
        self.expiry = Some((when, at + 1));
        Ok(at + 1)
    }
}

/// The Unix time in milliseconds that argument `at` means.
fn deadline(context: &Context<'_>, args: Args<'_>, at: usize, when: When) -> Result<u64, Refusal> {
    let given = args.int(at)?;
    let ms = match when {
        When::InSeconds | When::AtSeconds => given.checked_mul(1000),
        When::InMilliseconds | When::AtMilliseconds => Some(given),
    };
    let from = match when {
        When::InSeconds | When::InMilliseconds => context.wall_ms(),
        When::AtSeconds | When::AtMilliseconds => 0,
    };
    let deadline = ms
        .filter(|ms| *ms > 0)
        .and_then(|ms| ms.checked_add(from))
        .and_then(|ms| u64::try_from(ms).ok());
    deadline.ok_or_else(|| error::invalid_expire(context.command.name))
}
