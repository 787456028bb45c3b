//! CLIENT.

use std::time::Instant;

use bytes::Bytes;

use super::{
    super::{args::Args, error, plan::Plan},
    Context, Planned, connection, help,
};
use crate::core::reply::{Refusal, Reply};

/// CLIENT without a subcommand: its arity does not allow that.
pub(super) fn container(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    Err(error::arity(context.command.name))
}

pub(super) fn set_name(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    connection::set_name(context.session, args.at(2))?;
    Ok(Plan::ok())
}

pub(super) fn name(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    let name = context.session.client.name();
    Ok(Plan::Reply(match name.is_empty() {
        true => Reply::Nil,
        false => Reply::Bulk(Bytes::from(name)),
    }))
}

pub(super) fn set_library(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let attribute = error::shown(args.at(2), ATTRIBUTE_BYTES_MAX);
    let client = &context.session.client;
    let value = |attribute: &str| {
        connection::word(args.at(3)).ok_or_else(|| {
            error::err(format!(
                "{attribute} cannot contain spaces, newlines or special characters."
            ))
        })
    };
    match attribute.to_ascii_lowercase().as_str() {
        "lib-name" => client.set_library(value("lib-name")?),
        "lib-ver" => client.set_library_version(value("lib-ver")?),
        _ => {
            return Err(error::err(format!("Unrecognized option '{attribute}'")));
        }
    }
    Ok(Plan::ok())
}

pub(super) fn id(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    let id = context.session.client.id();
    Ok(Plan::int(i64::try_from(id).unwrap_or(i64::MAX)))
}

pub(super) fn info(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    let line = context.session.client.describe(Instant::now());
    Ok(Plan::Reply(Reply::Verbatim(Bytes::from(format!(
        "{line}\n"
    )))))
}

pub(super) fn list(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let clients = &context.lobby.clients;
    let text = if args.len() == 2 {
        clients.describe(None)
    } else if args.len() == 4 && args.is(2, "type") {
        list_type(context, args)?
    } else if args.len() > 3 && args.is(2, "id") {
        clients.describe(Some(&ids(args)?))
    } else {
        return Err(error::syntax());
    };
    Ok(Plan::Reply(Reply::Verbatim(Bytes::from(text))))
}

/// Every client is a normal one.
fn list_type(context: &Context<'_>, args: Args<'_>) -> Result<String, Refusal> {
    if args.is(3, "normal") {
        return Ok(context.lobby.clients.describe(None));
    }
    let others = ["slave", "replica", "master", "pubsub"];
    if others.iter().any(|other| args.is(3, other)) {
        return Ok(String::new());
    }
    let kind = error::shown(args.at(3), usize::MAX);
    Err(error::err(format!("Unknown client type '{kind}'")))
}

fn ids(args: Args<'_>) -> Result<Vec<u64>, Refusal> {
    let ids = (3..args.len()).map(|at| args.int_or(at, "Invalid client ID"));
    // No client has a negative number.
    ids.map(|id| id.map(|id| u64::try_from(id).unwrap_or(0)))
        .collect()
}

/// `ON` or `OFF` of something that makes no difference here.
pub(super) fn switch(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.is(2, "on") || args.is(2, "off") {
        return Ok(Plan::ok());
    }
    Err(error::syntax())
}

pub(super) fn help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::CLIENT))
}

/// Longer than any attribute's name.
const ATTRIBUTE_BYTES_MAX: usize = 128;
