//! Commands about the connection itself.

use bytes::Bytes;

use super::{
    super::{args::Args, error, number::parse_i64, plan::Plan, session::Session, writer::Protocol},
    Context, Planned,
};
use crate::core::reply::{Refusal, Reply};

pub(super) fn ping(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        1 => Ok(Plan::Reply(Reply::Simple("PONG"))),
        2 => Ok(Plan::Reply(Reply::Bulk(args.slice(1)))),
        _ => Err(error::arity(context.command.name)),
    }
}

pub(super) fn echo(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(Plan::Reply(Reply::Bulk(args.slice(1))))
}

pub(super) fn quit(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    Ok(Plan::Close(Some(Reply::Ok)))
}

pub(super) fn reset(context: &mut Context<'_>, _: Args<'_>) -> Planned {
    context.session.reset();
    Ok(Plan::Reply(Reply::Simple("RESET")))
}

pub(super) fn select(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let database = args.int(1)?;
    if i32::try_from(database).is_err() {
        return Err(error::err(format!(
            "value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        )));
    }
    if database != 0 {
        return Err(error::err("DB index is out of range"));
    }
    Ok(Plan::ok())
}

pub(super) fn auth(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        2 => Err(error::err(
            "AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        3 => {
            authenticate(args.at(1))?;
            Ok(Plan::ok())
        }
        _ => Err(error::syntax()),
    }
}

/// There is one user, who needs no password, so any is right: Redis's `nopass`. Programs and addresses that name a password work.
fn authenticate(user: &[u8]) -> Result<(), Refusal> {
    match user {
        b"default" => Ok(()),
        _ => Err(wrong_password()),
    }
}

fn wrong_password() -> Refusal {
    Refusal::Redis("WRONGPASS invalid username-password pair or user is disabled.".to_owned())
}

pub(super) fn hello(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    let protocol = wanted_protocol(args)?;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "auth") && at + 2 < args.len() {
            authenticate(args.at(at + 1))?;
            at += 3;
            continue;
        }
        if !args.is(at, "setname") || at + 1 == args.len() {
            let option = error::shown(args.at(at), usize::MAX);
            return Err(error::err(format!(
                "Syntax error in HELLO option '{option}'"
            )));
        }
        set_name(context.session, args.at(at + 1))?;
        at += 2;
    }
    if let Some(protocol) = protocol {
        context.session.speak(protocol);
    }
    Ok(Plan::Reply(greeting(context.session)))
}

fn wanted_protocol(args: Args<'_>) -> Result<Option<Protocol>, Refusal> {
    if args.len() < 2 {
        return Ok(None);
    }
    match parse_i64(args.at(1)) {
        Some(2) => Ok(Some(Protocol::Resp2)),
        Some(3) => Ok(Some(Protocol::Resp3)),
        Some(_) => Err(Refusal::Redis(
            "NOPROTO unsupported protocol version".to_owned(),
        )),
        None => Err(error::err(
            "Protocol version is not an integer or out of range",
        )),
    }
}

fn greeting(session: &Session) -> Reply {
    let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
    let id = i64::try_from(session.client.id()).unwrap_or(i64::MAX);
    Reply::Map(vec![
        (text("server"), text("meridian")),
        (text("version"), text(super::super::info::REDIS_VERSION)),
        (text("proto"), Reply::Int(session.protocol.version())),
        (text("id"), Reply::Int(id)),
        (text("mode"), text("standalone")),
        (text("role"), text("master")),
        (text("modules"), Reply::Array(Vec::new())),
    ])
}

/// Names the connection; an empty name is none.
pub(super) fn set_name(session: &Session, name: &[u8]) -> Result<(), Refusal> {
    let name = word(name).ok_or_else(|| {
        error::err("Client names cannot contain spaces, newlines or special characters.")
    })?;
    session.client.set_name(name);
    Ok(())
}

/// `text` if it can stand in a line of CLIENT LIST.
pub(super) fn word(text: &[u8]) -> Option<String> {
    let plain = text.iter().all(u8::is_ascii_graphic) && text.len() <= WORD_BYTES_MAX;
    let text = || String::from_utf8_lossy(text).into_owned();
    plain.then(text)
}

/// Longest name that is remembered of a client.
const WORD_BYTES_MAX: usize = 1024;
