//! COMMAND: the table, for clients that ask.

use bytes::Bytes;

use super::{
    super::{
        args::Args,
        error,
        levels::{AT, AT_WORDS},
        plan::Plan,
        table::{self, Command, TABLE},
    },
    Context, Planned, algebra, help,
};
use crate::core::{
    glob,
    reply::{Refusal, Reply},
};

pub(super) fn all(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    let rows = top_level().map(describe);
    Ok(Plan::Reply(Reply::Array(rows.collect())))
}

pub(super) fn count(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    let count = i64::try_from(top_level().count());
    Ok(Plan::int(count.unwrap_or(i64::MAX)))
}

pub(super) fn info(context: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.len() == 2 {
        return all(context, args);
    }
    let rows = args.from(2).map(|name| match table::find_full(name) {
        Some(found) => describe(found.command),
        None => Reply::Nil,
    });
    Ok(Plan::Reply(Reply::Array(rows.collect())))
}

pub(super) fn docs(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let entry = |row: &'static Command| (text(row.name), document(row));
    let entries = if args.len() == 2 {
        top_level().map(entry).collect()
    } else {
        let found = args.from(2).filter_map(table::find_full);
        found.map(|found| entry(found.command)).collect()
    };
    Ok(Plan::Reply(Reply::Map(entries)))
}

pub(super) fn list(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let keep = filter(args)?;
    let names = TABLE.iter().filter(|row| match &keep {
        Filter::None => true,
        Filter::Module => false,
        Filter::Category(category) => row.categories.iter().any(|known| {
            let known = known.trim_start_matches('@');
            known.as_bytes().eq_ignore_ascii_case(category)
        }),
        Filter::Pattern(pattern) => glob::matches(pattern, row.name.as_bytes()),
    });
    let names = names.map(|row| text(row.name));
    Ok(Plan::Reply(Reply::Array(names.collect())))
}

/// FILTERBY of COMMAND LIST.
enum Filter<'a> {
    None,
    /// There are no modules.
    Module,
    Category(&'a [u8]),
    /// In lower case, as names are.
    Pattern(Vec<u8>),
}

fn filter(args: Args<'_>) -> Result<Filter<'_>, Refusal> {
    match args.len() {
        2 => Ok(Filter::None),
        5 if args.is(2, "filterby") => {
            if args.is(3, "module") {
                Ok(Filter::Module)
            } else if args.is(3, "aclcat") {
                Ok(Filter::Category(args.at(4)))
            } else if args.is(3, "pattern") {
                Ok(Filter::Pattern(args.at(4).to_ascii_lowercase()))
            } else {
                Err(error::syntax())
            }
        }
        _ => Err(error::syntax()),
    }
}

pub(super) fn keys(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    let inner = args.tail(2).ok_or_else(invalid_command)?;
    let keys = keys_of(inner)?.into_iter().map(Reply::Bulk);
    Ok(Plan::Reply(Reply::Array(keys.collect())))
}

fn keys_of(inner: Args<'_>) -> Result<Vec<Bytes>, Refusal> {
    let sub = (inner.len() > 1).then(|| inner.at(1));
    let found = sub.and_then(|sub| table::find(inner.at(0), Some(sub)));
    let found = found.or_else(|| table::find(inner.at(0), None));
    let command = found.ok_or_else(invalid_command)?.command;
    let movable = command.flags.contains(&"movablekeys");
    if command.keys.first == 0 && !movable {
        return Err(error::err("The command has no key arguments"));
    }
    if !command.accepts(inner.len()) {
        return Err(error::err(
            "Invalid number of arguments specified for command",
        ));
    }
    if command.name == AT {
        return keys_behind_at(inner);
    }
    let positions: Vec<usize> = if movable {
        let count = algebra::key_count(inner);
        (2..2 + count.map_err(|_| invalid_arguments())?).collect()
    } else {
        command.key_positions(inner.len()).collect()
    };
    Ok(positions.into_iter().map(|at| inner.slice(at)).collect())
}

/// Those of the command that AT runs, which is not AT again.
fn keys_behind_at(args: Args<'_>) -> Result<Vec<Bytes>, Refusal> {
    let inner = args.tail(AT_WORDS).filter(|inner| !inner.is(0, AT));
    keys_of(inner.ok_or_else(invalid_arguments)?)
}

fn invalid_command() -> Refusal {
    error::err("Invalid command specified")
}

fn invalid_arguments() -> Refusal {
    error::err("Invalid arguments specified for command")
}

pub(super) fn help(_: &mut Context<'_>, args: Args<'_>) -> Planned {
    Ok(help::of(args, help::COMMAND))
}

fn top_level() -> impl Iterator<Item = &'static Command> {
    TABLE.iter().filter(|row| !row.is_sub())
}

/// The ten fields of COMMAND INFO.
fn describe(row: &'static Command) -> Reply {
    let words = |words: &'static [&'static str]| words.iter().map(|word| Reply::Simple(word));
    let int = |value: i32| Reply::Int(i64::from(value));
    Reply::Array(vec![
        text(row.name),
        int(row.arity),
        Reply::Set(words(row.flags).collect()),
        int(row.keys.first),
        int(row.keys.last),
        int(row.keys.step),
        Reply::Set(words(row.categories).collect()),
        Reply::Array(Vec::new()),
        Reply::Array(key_specification(row).into_iter().collect()),
        Reply::Array(row.subs().map(describe).collect()),
    ])
}

/// Where the keys are, as Redis 7 writes it down.
fn key_specification(row: &Command) -> Option<Reply> {
    let keys = row.keys;
    if keys.first == 0 {
        return None;
    }
    let access = if row.flags.contains(&"write") {
        "RW"
    } else {
        "RO"
    };
    let int = |value: i32| Reply::Int(i64::from(value));
    // Relative to the first key, as Redis has it; counted from the end it is the same.
    let last = if keys.last < 0 {
        keys.last
    } else {
        keys.last - keys.first
    };
    let range = vec![
        (text("lastkey"), int(last)),
        (text("keystep"), int(keys.step)),
        (text("limit"), int(0)),
    ];
    let index = vec![(text("index"), int(keys.first))];
    Some(Reply::Map(vec![
        (text("flags"), Reply::Set(vec![Reply::Simple(access)])),
        (text("begin_search"), search("index", index)),
        (text("find_keys"), search("range", range)),
    ]))
}

fn search(kind: &'static str, specification: Vec<(Reply, Reply)>) -> Reply {
    Reply::Map(vec![
        (text("type"), text(kind)),
        (text("spec"), Reply::Map(specification)),
    ])
}

fn document(row: &'static Command) -> Reply {
    let mut fields = vec![
        (text("summary"), text(row.summary)),
        (text("since"), text(row.since)),
        (text("group"), text(row.group)),
    ];
    let subs: Vec<_> = row
        .subs()
        .map(|sub| (text(sub.name), document(sub)))
        .collect();
    if !subs.is_empty() {
        fields.push((text("subcommands"), Reply::Map(subs)));
    }
    Reply::Map(fields)
}

fn text(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}
