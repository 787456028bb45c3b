//! Finding a command by its name, in any case and without allocating.

use super::{
    args::Args,
    commands::{Context, Planned, ROWS},
    error,
};
use crate::core::reply::Refusal;

/// A command's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommandIndex(pub(super) u16);

impl CommandIndex {
    /// Stands for whatever is not in the table.
    pub(super) const UNKNOWN: Self = Self(u16::MAX);
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Command {
    /// Lower case; `container|subcommand` for a subcommand.
    pub(super) name: &'static str,
    /// Number of arguments, name included; at least so many if negative.
    pub(super) arity: i32,
    pub(super) flags: &'static [&'static str],
    pub(super) keys: Keys,
    /// ACL categories.
    pub(super) categories: &'static [&'static str],
    pub(super) group: &'static str,
    /// Version of Redis that introduced it.
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) run: fn(&mut Context<'_>, Args<'_>) -> Planned,
}

/// Which arguments are keys: from `first` to `last` (negative: counted from the end), every `step`-th. None if `first` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) first: i32,
    pub(super) last: i32,
    pub(super) step: i32,
}

/// A command with its place in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) command: &'static Command,
    pub(super) index: CommandIndex,
}

/// Every command.
pub(super) static TABLE: &[Command] = ROWS;

impl Command {
    /// Whether so many arguments, the name included, are right.
    pub(super) fn accepts(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            count >= wanted
        } else {
            count == wanted
        }
    }

    /// Whether this is a subcommand.
    pub(super) fn is_sub(&self) -> bool {
        self.name.contains('|')
    }

    /// The rows of its subcommands.
    pub(super) fn subs(&self) -> impl Iterator<Item = &'static Command> + use<> {
        let name = self.name;
        TABLE.iter().filter(move |row| {
            let rest = row.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('|'))
        })
    }

    /// Where its keys are in a command of `count` arguments.
    pub(super) fn key_positions(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let Keys { first, last, step } = self.keys;
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let last = if last < 0 { count + last } else { last };
        let step = usize::try_from(step).unwrap_or(1).max(1);
        let range = if first > 0 { first..last + 1 } else { 0..0 };
        range
            .step_by(step)
            .filter_map(|at| usize::try_from(at).ok())
    }
}

/// The row at a place in the table.
pub(super) fn by_index(index: CommandIndex) -> Option<&'static Command> {
    TABLE.get(usize::from(index.0))
}

/// The row of a command, or of a container's subcommand.
pub(super) fn find(name: &[u8], sub: Option<&[u8]>) -> Option<Found> {
    let mut slot = hash(name, sub) as usize % SLOTS;
    loop {
        let index = match SLOT_ROWS[slot] {
            0 => return None,
            row => u16::from(row - 1),
        };
        let command = &TABLE[usize::from(index)];
        if names(command.name.as_bytes(), name, sub) {
            let index = CommandIndex(index);
            return Some(Found { command, index });
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The row of `name` or `container|sub`, as COMMAND INFO takes them.
pub(super) fn find_full(name: &[u8]) -> Option<Found> {
    match name.iter().position(|byte| *byte == b'|') {
        Some(bar) => find(&name[..bar], Some(&name[bar + 1..])),
        None => find(name, None),
    }
}

/// A command that cannot run, with the row that it is counted under.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) index: CommandIndex,
    pub(super) refusal: Refusal,
}

/// The row that runs these arguments, whose number it accepts.
pub(super) fn resolve(args: Args<'_>) -> Result<Found, Rejected> {
    let reject = |index, refusal| Err(Rejected { index, refusal });
    let Some(mut found) = find(args.at(0), None) else {
        return reject(CommandIndex::UNKNOWN, unknown(args));
    };
    if args.len() > 1 && CONTAINERS[usize::from(found.index.0)] {
        match find(args.at(0), Some(args.at(1))) {
            Some(sub) => found = sub,
            None => return reject(found.index, unknown_sub(args)),
        }
    }
    if found.command.accepts(args.len()) {
        return Ok(found);
    }
    reject(found.index, error::arity(found.command.name))
}

/// `unknown command 'x', with args beginning with: 'a' 'b' `, cut as Redis cuts it.
pub(super) fn unknown(args: Args<'_>) -> Refusal {
    let mut beginning = String::new();
    for arg in args.from(1) {
        if beginning.len() >= SHOWN_MAX {
            break;
        }
        let arg = error::shown(arg, SHOWN_MAX - beginning.len());
        beginning.push_str(&format!("'{arg}' "));
    }
    let name = error::shown(args.at(0), SHOWN_MAX);
    error::err(format!(
        "unknown command '{name}', with args beginning with: {beginning}"
    ))
}

fn unknown_sub(args: Args<'_>) -> Refusal {
    let container = error::shown(args.at(0), SHOWN_MAX).to_uppercase();
    let sub = error::shown(args.at(1), SHOWN_MAX);
    error::err(format!("unknown subcommand '{sub}'. Try {container} HELP."))
}

/// Bytes of a client's words that an error repeats.
pub(super) const SHOWN_MAX: usize = 128;

/// Whether `row` spells `name`, or `name|sub`, in lower case.
fn names(row: &[u8], name: &[u8], sub: Option<&[u8]>) -> bool {
    let Some(sub) = sub else {
        // `client|id` is how a subcommand is written down, not how it is called.
        return row.eq_ignore_ascii_case(name) && !row.contains(&b'|');
    };
    row.len() == name.len() + 1 + sub.len()
        && row[..name.len()].eq_ignore_ascii_case(name)
        && row[name.len()] == b'|'
        && row[name.len() + 1..].eq_ignore_ascii_case(sub)
}

/// FNV-1a over the lower-cased name.
const fn hash(name: &[u8], sub: Option<&[u8]>) -> u32 {
    let hash = fold(0x811c_9dc5, name);
    match sub {
        Some(sub) => fold(fold(hash, b"|"), sub),
        None => hash,
    }
}

const fn fold(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() && at < NAME_BYTES_MAX {
        hash = (hash ^ bytes[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// Open addressing: the row of each slot, plus 1; 0 is an empty slot. Built by the compiler.
const SLOT_ROWS: [u8; SLOTS] = {
    let mut slots = [0; SLOTS];
    let mut row = 0;
    while row < ROWS.len() {
        let mut slot = hash(ROWS[row].name.as_bytes(), None) as usize % SLOTS;
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = row as u8 + 1;
        row += 1;
    }
    slots
};

/// Which rows have subcommands. Those follow their container at once.
static CONTAINERS: [bool; ROWS.len()] = {
    let mut containers = [false; ROWS.len()];
    let mut row = 0;
    while row + 1 < ROWS.len() {
        containers[row] = is_sub_of(ROWS[row + 1].name.as_bytes(), ROWS[row].name.as_bytes());
        row += 1;
    }
    containers
};

const fn is_sub_of(name: &[u8], container: &[u8]) -> bool {
    if name.len() <= container.len() || name[container.len()] != b'|' {
        return false;
    }
    let mut at = 0;
    while at < container.len() {
        if name[at] != container[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Four times the commands or so: a miss ends soon.
const SLOTS: usize = 512;

/// No name is longer; what a client sends may be.
const NAME_BYTES_MAX: usize = 32;

const _: () = assert!(ROWS.len() < 255 && ROWS.len() * 2 < SLOTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for (index, row) in TABLE.iter().enumerate() {
            for name in [row.name.to_owned(), row.name.to_uppercase()] {
                let found = find_full(name.as_bytes()).expect("in the table");
                assert_eq!(usize::from(found.index.0), index);
                assert_eq!(found.command.name, row.name);
            }
            assert!(row.name.len() <= NAME_BYTES_MAX);
            assert_eq!(row.name, row.name.to_lowercase());
        }
        for name in [
            "",
            "ge",
            "gett",
            "client|nope",
            "|",
            "get|",
            "multi",
            "eval",
        ] {
            assert!(find_full(name.as_bytes()).is_none(), "{name}");
        }
        assert!(find(&[b'x'; 10_000], None).is_none());
        assert!(find(b"client|id", None).is_none());
    }

    #[test]
    fn names_are_unique_and_subcommands_have_a_container() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|other| other.name != row.name));
            if let Some((container, _)) = row.name.split_once('|') {
                let container = find(container.as_bytes(), None).expect("a container");
                assert!(CONTAINERS[usize::from(container.index.0)], "{}", row.name);
            }
        }
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let keys = |name: &str, count| -> Vec<usize> {
            let found = find_full(name.as_bytes()).expect("in the table");
            found.command.key_positions(count).collect()
        };
        assert_eq!(keys("mset", 5), [1, 3]);
        assert_eq!(keys("del", 4), [1, 2, 3]);
        assert_eq!(keys("smove", 4), [1, 2]);
        assert_eq!(keys("ping", 1), [0; 0]);
    }
}
