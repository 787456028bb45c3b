//! Commands about the node.

use bytes::Bytes;

use super::{
    super::{args::Args, error, info::Sections, multi_key::Errand, plan::Plan},
    Context, Planned, help,
};
use crate::core::reply::{Refusal, Reply};

/// A container called without a subcommand: its arity does not allow that.
pub(super) fn container(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    Err(error::arity(context.command.name))
}

pub(super) fn info(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let sections = Sections::asked(args.from(1));
    Ok(Plan::Errand(Errand::Info { sections }))
}

pub(super) fn config_get(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let text = |text: String| Reply::Bulk(Bytes::from(text));
    let found = context.lobby.settings.matching(args.from(2));
    let pairs = found.into_iter().map(|(k, v)| (text(k), text(v)));
    Ok(Plan::Reply(Reply::Map(pairs.collect())))
}

pub(super) fn config_set(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    if !args.len().is_multiple_of(2) {
        return Err(error::syntax());
    }
    let names = (2..args.len()).step_by(2);
    let pairs: Vec<_> = names.map(|at| (args.at(at), args.at(at + 1))).collect();
    context.lobby.settings.set(&pairs)?;
    Ok(Plan::ok())
}

pub(super) fn reset_stats(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    context.lobby.meters.reset();
    Ok(Plan::ok())
}

pub(super) fn config_help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::CONFIG))
}

pub(super) fn time(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    let now_us = context.source.wall_us();
    let text = |number: u64| Reply::Bulk(Bytes::from(number.to_string()));
    Ok(Plan::Reply(Reply::Array(vec![
        text(now_us / 1_000_000),
        text(now_us % 1_000_000),
    ])))
}

pub(super) fn key_count(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    Ok(Plan::Errand(Errand::KeyCount))
}

pub(super) fn flush(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    flush_mode(args, 1)?;
    Ok(Plan::Errand(Errand::Flush))
}

pub(super) fn flush_functions(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    match flush_mode(args, 2) {
        Ok(()) => Ok(Plan::ok()),
        Err(_) if args.len() > 3 => Err(error::err(format!(
            "unknown subcommand or wrong number of arguments for '{}'. Try FUNCTION HELP.",
            error::shown(args.at(1), usize::MAX)
        ))),
        Err(_) => Err(error::err("FUNCTION FLUSH only supports SYNC|ASYNC option")),
    }
}

/// Nothing, ASYNC or SYNC from argument `at` on. A flush here always waits until it is durable.
fn flush_mode(args: Args<'_>, at: usize) -> Result<(), Refusal> {
    let known = args.is(at, "async") || args.is(at, "sync");
    if args.len() == at || (args.len() == at + 1 && known) {
        return Ok(());
    }
    Err(error::syntax())
}

pub(super) fn function_help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::FUNCTION))
}

pub(super) fn status(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    Ok(Plan::Errand(Errand::Status))
}

pub(super) fn conflicts(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let count = match args.len() {
        1 => usize::MAX,
        3 if args.is(1, "count") => {
            let count = usize::try_from(args.int(2)?).map_err(|_| error::syntax())?;
            if count == 0 {
                return Err(error::syntax());
            }
            count
        }
        _ => return Err(error::syntax()),
    };
    Ok(Plan::Errand(Errand::Conflicts { count }))
}
