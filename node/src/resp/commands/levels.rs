//! Commands about consistency levels.

use bytes::Bytes;

use super::{
    super::{
        args::Args,
        error,
        levels::{Levels, parse, parse_read},
        plan::Plan,
    },
    Context, Planned,
};
use crate::{
    core::reply::{Refusal, Reply},
    level::Level,
};

/// `CONSISTENCY [READ level] [WRITE level]`, in either order; nothing changes unless all of it is right.
pub(super) fn consistency(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    context.session.levels = chosen(args, context.session.levels)?;
    let Levels { read, write } = context.session.levels;
    let text = |level: Level| Reply::Bulk(Bytes::from(level.to_string()));
    Ok(Plan::Reply(Reply::Array(vec![text(read), text(write)])))
}

fn chosen(args: Args<'_>, mut levels: Levels) -> Result<Levels, Refusal> {
    let (mut read, mut write) = (None, None);
    for at in (1..args.len()).step_by(2) {
        if at + 1 == args.len() {
            return Err(error::syntax());
        }
        if args.is(at, "read") && read.is_none() {
            read = Some(parse_read(args.at(at + 1))?);
        } else if args.is(at, "write") && write.is_none() {
            write = Some(parse(args.at(at + 1))?);
        } else {
            return Err(error::syntax());
        }
    }
    levels.read = read.unwrap_or(levels.read);
    levels.write = write.unwrap_or(levels.write);
    Ok(levels)
}

/// AT is its inner command, which is what runs; without one its arity has refused it.
pub(super) fn at(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    debug_assert!(false, "AT does not run itself");
    Err(error::arity(context.command.name))
}
