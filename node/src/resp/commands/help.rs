//! What the HELP subcommands say.

use super::super::{args::Args, plan::Plan};
use crate::core::reply::Reply;

/// The reply to `<container> HELP`.
pub(super) fn of(args: Args<'_>, lines: &'static Help) -> Plan {
    debug_assert!(args.is(1, "help"));
    let lines = lines.iter().chain(FOOTER);
    Plan::Reply(Reply::Array(
        lines.map(|line| Reply::Simple(line)).collect(),
    ))
}

type Help = [&'static str];

const FOOTER: &Help = &["HELP", "    Prints this help."];

pub(super) const CLIENT: &Help = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <id> [<id> ...]",
    "      Return clients with these IDs.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Name the library of the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Accepted and without effect.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted and without effect.",
];

pub(super) const COMMAND: &Help = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST [FILTERBY (ACLCAT|PATTERN|MODULE) <value>]",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
];

pub(super) const CONFIG: &Help = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Remember <value> for a known <directive>; nothing else changes.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
];

pub(super) const FUNCTION: &Help = &[
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "FLUSH [ASYNC|SYNC]",
    "    Accepted and without effect: there are no functions.",
];

pub(super) const MEMORY: &Help = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return an estimate of the bytes that <key> and its value take.",
];

pub(super) const OBJECT: &Help = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
];
