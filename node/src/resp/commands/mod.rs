//! The commands: one table, and what each of them comes to.
//!
//! A row reads: name, arity (its own name included; negative: at least), `[flags]`, `(first last step)` of its keys,
//! `[categories]`, group, the version of Redis that has it, summary, and the function that plans it. The table drives
//! dispatch, arity errors and COMMAND; a subcommand is a row of its own.

mod algebra;
mod client;
mod connection;
mod expiry;
mod help;
mod introspection;
mod keys;
mod levels;
mod server;
mod sets;
mod strings;

pub(super) use keys::page;

use super::{
    plan::Plan,
    server_state::ServerState,
    session::Session,
    table::{Command, Keys},
};
use crate::core::reply::Refusal;

/// What a command may look at and change while it is planned.
pub(super) struct Context<'a> {
    /// Its connection.
    pub(super) session: &'a mut Session,
    /// What connections share.
    pub(super) lobby: &'a ServerState,
    /// Clock and chance.
    pub(super) source: &'a dyn Source,
    /// The command's row.
    pub(super) command: &'static Command,
}

/// Clock and chance, which come from the node.
pub(super) trait Source {
    /// Wall clock, Unix microseconds.
    fn wall_us(&self) -> u64;
    /// 64 random bits.
    fn entropy(&self) -> u64;
}

impl Context<'_> {
    /// Wall clock, Unix milliseconds.
    fn wall_ms(&self) -> i64 {
        i64::try_from(self.source.wall_us() / 1000).unwrap_or(i64::MAX)
    }
}

/// What planning a command gives; a refusal is its reply.
pub(super) type Planned = Result<Plan, Refusal>;

macro_rules! commands {
    ($(
        $name:literal $arity:literal [$($flag:ident)*] ($first:literal $last:literal $step:literal)
        [$($category:ident)*] $group:ident $since:literal $summary:literal => $run:path;
    )*) => {
        &[$(Command {
            name: $name,
            arity: $arity,
            flags: &[$(stringify!($flag)),*],
            keys: Keys { first: $first, last: $last, step: $step },
            categories: &[$(concat!("@", stringify!($category))),*],
            group: stringify!($group),
            since: $since,
            summary: $summary,
            run: $run,
        }),*]
    };
}

/// Every command, subcommands behind their container.
pub(super) const ROWS: &[Command] = commands! {
    "ping" -1 [fast] (0 0 0) [fast connection] connection "1.0.0"
        "Ping the server" => connection::ping;
    "echo" 2 [loading stale fast] (0 0 0) [fast connection] connection "1.0.0"
        "Echo the given string" => connection::echo;
    "hello" -1 [noscript loading stale fast no_auth allow_busy] (0 0 0) [fast connection] connection "6.0.0"
        "Handshake: protocol version and name of the connection" => connection::hello;
    "quit" -1 [noscript loading stale fast no_auth allow_busy] (0 0 0) [fast connection] connection "1.0.0"
        "Close the connection" => connection::quit;
    "reset" 1 [noscript loading stale fast no_auth allow_busy] (0 0 0) [fast connection] connection "6.2.0"
        "Reset the connection" => connection::reset;
    "select" 2 [loading stale fast] (0 0 0) [fast connection] connection "1.0.0"
        "Change the selected database for the current connection" => connection::select;
    "auth" -2 [noscript loading stale fast no_auth allow_busy] (0 0 0) [fast connection] connection "1.0.0"
        "Authenticate to the server" => connection::auth;
    "consistency" -1 [noscript loading stale fast] (0 0 0) [fast connection] connection "1.0.0"
        "Show or choose the consistency levels of the connection" => levels::consistency;
    "at" -3 [noscript movablekeys] (0 0 0) [slow connection] connection "1.0.0"
        "Run one command at a consistency level" => levels::at;
    "client" -2 [] (0 0 0) [slow] connection "2.4.0"
        "A container for client connection commands" => client::container;
    "client|setname" 3 [noscript loading stale] (0 0 0) [slow connection] connection "2.6.9"
        "Set the current connection name" => client::set_name;
    "client|getname" 2 [noscript loading stale] (0 0 0) [slow connection] connection "2.6.9"
        "Get the current connection name" => client::name;
    "client|setinfo" 4 [noscript loading stale] (0 0 0) [slow connection] connection "7.2.0"
        "Set the name or version of the client library" => client::set_library;
    "client|id" 2 [noscript loading stale] (0 0 0) [slow connection] connection "5.0.0"
        "Returns the client ID for the current connection" => client::id;
    "client|list" -2 [admin noscript loading stale] (0 0 0) [admin slow dangerous connection] connection "2.4.0"
        "Get the list of client connections" => client::list;
    "client|info" 2 [noscript loading stale] (0 0 0) [slow connection] connection "6.2.0"
        "Returns information about the current client connection" => client::info;
    "client|no-evict" 3 [admin noscript loading stale] (0 0 0) [admin slow dangerous connection] connection "7.0.0"
        "Set client eviction mode for the current connection" => client::switch;
    "client|no-touch" 3 [noscript loading stale] (0 0 0) [slow connection] connection "7.2.0"
        "Accepted and without effect: reads do not alter keys here" => client::switch;
    "client|help" 2 [loading stale] (0 0 0) [slow connection] connection "5.0.0"
        "Show helpful text about the different subcommands" => client::help;
    "command" -1 [loading stale] (0 0 0) [slow connection] server "2.8.13"
        "Get array of Redis command details" => introspection::all;
    "command|count" 2 [loading stale] (0 0 0) [slow connection] server "2.8.13"
        "Get total number of Redis commands" => introspection::count;
    "command|docs" -2 [loading stale] (0 0 0) [slow connection] server "7.0.0"
        "Get array of specific Redis command documentation" => introspection::docs;
    "command|info" -2 [loading stale] (0 0 0) [slow connection] server "2.8.13"
        "Get array of specific Redis command details, or all when no argument is given" => introspection::info;
    "command|list" -2 [loading stale] (0 0 0) [slow connection] server "7.0.0"
        "Get an array of Redis command names" => introspection::list;
    "command|getkeys" -4 [loading stale] (0 0 0) [slow connection] server "2.8.13"
        "Extract keys given a full Redis command" => introspection::keys;
    "command|help" 2 [loading stale] (0 0 0) [slow connection] server "5.0.0"
        "Show helpful text about the different subcommands" => introspection::help;
    "info" -1 [loading stale] (0 0 0) [slow dangerous] server "1.0.0"
        "Get information and statistics about the server" => server::info;
    "config" -2 [] (0 0 0) [slow] server "2.0.0"
        "A container for server configuration commands" => server::container;
    "config|get" -3 [admin noscript loading stale] (0 0 0) [admin slow dangerous] server "2.0.0"
        "Get the values of configuration parameters" => server::config_get;
    "config|set" -4 [admin noscript loading stale] (0 0 0) [admin slow dangerous] server "2.0.0"
        "Remember a value for a known name; nothing changes" => server::config_set;
    "config|resetstat" 2 [admin noscript loading stale] (0 0 0) [admin slow dangerous] server "2.0.0"
        "Reset the stats returned by INFO" => server::reset_stats;
    "config|help" 2 [loading stale] (0 0 0) [slow] server "5.0.0"
        "Show helpful text about the different subcommands" => server::config_help;
    "time" 1 [loading stale fast] (0 0 0) [fast] server "2.6.0"
        "Return the current server time" => server::time;
    "dbsize" 1 [readonly fast] (0 0 0) [keyspace read fast] server "1.0.0"
        "Return the number of keys in the selected database" => server::key_count;
    "flushdb" -1 [write] (0 0 0) [keyspace write slow dangerous] server "1.0.0"
        "Delete every key visible at this node" => server::flush;
    "flushall" -1 [write] (0 0 0) [keyspace write slow dangerous] server "1.0.0"
        "Delete every key visible at this node" => server::flush;
    "function" -2 [] (0 0 0) [slow] scripting "7.0.0"
        "A container for function commands" => server::container;
    "function|flush" -2 [write noscript] (0 0 0) [write slow scripting] scripting "7.0.0"
        "Accepted: there are no functions" => server::flush_functions;
    "function|help" 2 [loading stale] (0 0 0) [slow scripting] scripting "7.0.0"
        "Show helpful text about the different subcommands" => server::function_help;
    "memory" -2 [] (0 0 0) [slow] server "4.0.0"
        "A container for memory diagnostics commands" => keys::container;
    "memory|usage" -3 [readonly] (2 2 1) [read slow] server "4.0.0"
        "Estimate the memory usage of a key" => keys::memory_usage;
    "memory|help" 2 [loading stale] (0 0 0) [slow] server "4.0.0"
        "Show helpful text about the different subcommands" => keys::memory_help;
    "object" -2 [] (0 0 0) [slow] generic "2.2.3"
        "A container for object introspection commands" => keys::container;
    "object|encoding" 3 [readonly] (2 2 1) [keyspace read slow] generic "2.2.3"
        "Inspect the internal encoding of a Redis object" => keys::encoding;
    "object|refcount" 3 [readonly] (2 2 1) [keyspace read slow] generic "2.2.3"
        "Get the number of references to the value of the key" => keys::refcount;
    "object|idletime" 3 [readonly] (2 2 1) [keyspace read slow] generic "2.2.3"
        "Get the time since a Redis object was last accessed" => keys::idle_time;
    "object|freq" 3 [readonly] (2 2 1) [keyspace read slow] generic "4.0.0"
        "Get the logarithmic access frequency counter of a Redis object" => keys::frequency;
    "object|help" 2 [loading stale] (0 0 0) [keyspace slow] generic "6.2.0"
        "Show helpful text about the different subcommands" => keys::object_help;
    "cluster.status" 1 [readonly] (0 0 0) [read slow] server "1.0.0"
        "The cluster as this node sees it, as JSON" => server::status;
    "conflicts" -1 [readonly] (0 0 0) [read slow dangerous] server "1.0.0"
        "The last writes that another one hides, the newest first" => server::conflicts;
    "get" 2 [readonly fast] (1 1 1) [read string fast] string "1.0.0"
        "Get the value of a key" => strings::get;
    "set" -3 [write denyoom] (1 1 1) [write string slow] string "1.0.0"
        "Set the string value of a key" => strings::set;
    "mget" -2 [readonly fast] (1 -1 1) [read string fast] string "1.0.0"
        "Get the values of all the given keys" => strings::mget;
    "mset" -3 [write denyoom] (1 -1 2) [write string slow] string "1.0.1"
        "Set multiple keys to multiple values" => strings::mset;
    "setnx" 3 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Set the value of a key, only if the key does not exist" => strings::setnx;
    "setex" 4 [write denyoom] (1 1 1) [write string slow] string "2.0.0"
        "Set the value and expiration of a key" => strings::setex;
    "psetex" 4 [write denyoom] (1 1 1) [write string slow] string "2.6.0"
        "Set the value and expiration in milliseconds of a key" => strings::psetex;
    "getset" 3 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Set the string value of a key and return its old value" => strings::getset;
    "getdel" 2 [write fast] (1 1 1) [write string fast] string "6.2.0"
        "Get the value of a key and delete the key" => strings::getdel;
    "getex" -2 [write fast] (1 1 1) [write string fast] string "6.2.0"
        "Get the value of a key and optionally set its expiration" => strings::getex;
    "append" 3 [write denyoom fast] (1 1 1) [write string fast] string "2.0.0"
        "Append a value to a key" => strings::append;
    "strlen" 2 [readonly fast] (1 1 1) [read string fast] string "2.2.0"
        "Get the length of the value stored in a key" => strings::strlen;
    "getrange" 4 [readonly] (1 1 1) [read string slow] string "2.4.0"
        "Get a substring of the string stored at a key" => strings::getrange;
    "substr" 4 [readonly] (1 1 1) [read string slow] string "1.0.0"
        "Get a substring of the string stored at a key" => strings::getrange;
    "setrange" 4 [write denyoom] (1 1 1) [write string slow] string "2.2.0"
        "Overwrite part of a string at key starting at the specified offset" => strings::setrange;
    "incr" 2 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Increment the integer value of a key by one" => strings::incr;
    "decr" 2 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Decrement the integer value of a key by one" => strings::decr;
    "incrby" 3 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Increment the integer value of a key by the given amount" => strings::incrby;
    "decrby" 3 [write denyoom fast] (1 1 1) [write string fast] string "1.0.0"
        "Decrement the integer value of a key by the given number" => strings::decrby;
    "del" -2 [write] (1 -1 1) [keyspace write slow] generic "1.0.0"
        "Delete a key" => keys::delete;
    "unlink" -2 [write fast] (1 -1 1) [keyspace write fast] generic "4.0.0"
        "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking" => keys::delete;
    "exists" -2 [readonly fast] (1 -1 1) [keyspace read fast] generic "1.0.0"
        "Determine if a key exists" => keys::exists;
    "type" 2 [readonly fast] (1 1 1) [keyspace read fast] generic "1.0.0"
        "Determine the type stored at key" => keys::kind;
    "expire" -3 [write fast] (1 1 1) [keyspace write fast] generic "1.0.0"
        "Set a key's time to live in seconds" => expiry::expire;
    "pexpire" -3 [write fast] (1 1 1) [keyspace write fast] generic "2.6.0"
        "Set a key's time to live in milliseconds" => expiry::pexpire;
    "expireat" -3 [write fast] (1 1 1) [keyspace write fast] generic "1.2.0"
        "Set the expiration for a key as a UNIX timestamp" => expiry::expireat;
    "pexpireat" -3 [write fast] (1 1 1) [keyspace write fast] generic "2.6.0"
        "Set the expiration for a key as a UNIX timestamp specified in milliseconds" => expiry::pexpireat;
    "expiretime" 2 [readonly fast] (1 1 1) [keyspace read fast] generic "7.0.0"
        "Get the expiration Unix timestamp for a key" => expiry::expiretime;
    "pexpiretime" 2 [readonly fast] (1 1 1) [keyspace read fast] generic "7.0.0"
        "Get the expiration Unix timestamp for a key in milliseconds" => expiry::pexpiretime;
    "ttl" 2 [readonly fast] (1 1 1) [keyspace read fast] generic "1.0.0"
        "Get the time to live for a key in seconds" => expiry::ttl;
    "pttl" 2 [readonly fast] (1 1 1) [keyspace read fast] generic "2.6.0"
        "Get the time to live for a key in milliseconds" => expiry::pttl;
    "persist" 2 [write fast] (1 1 1) [keyspace write fast] generic "2.2.0"
        "Remove the expiration from a key" => expiry::persist;
    "scan" -2 [readonly] (0 0 0) [keyspace read slow] generic "2.8.0"
        "Incrementally iterate the keys space" => keys::scan;
    "keys" 2 [readonly] (0 0 0) [keyspace read slow dangerous] generic "1.0.0"
        "Find all keys matching the given pattern" => keys::keys;
    "randomkey" 1 [readonly] (0 0 0) [keyspace read slow] generic "1.0.0"
        "Return a random key from the keyspace" => keys::random;
    "touch" -2 [readonly fast] (1 -1 1) [keyspace read fast] generic "3.2.1"
        "Alters the last access time of a key(s). Returns the number of existing keys specified" => keys::exists;
    "sadd" -3 [write denyoom fast] (1 1 1) [write set fast] set "1.0.0"
        "Add one or more members to a set" => sets::add;
    "srem" -3 [write fast] (1 1 1) [write set fast] set "1.0.0"
        "Remove one or more members from a set" => sets::remove;
    "sismember" 3 [readonly fast] (1 1 1) [read set fast] set "1.0.0"
        "Determine if a given value is a member of a set" => sets::is_member;
    "smismember" -3 [readonly fast] (1 1 1) [read set fast] set "6.2.0"
        "Returns the membership associated with the given elements for a set" => sets::are_members;
    "smembers" 2 [readonly] (1 1 1) [read set slow] set "1.0.0"
        "Get all the members in a set" => sets::members;
    "scard" 2 [readonly fast] (1 1 1) [read set fast] set "1.0.0"
        "Get the number of members in a set" => sets::cardinality;
    "sscan" -3 [readonly] (1 1 1) [read set slow] set "2.8.0"
        "Incrementally iterate Set elements" => sets::scan;
    "spop" -2 [write fast] (1 1 1) [write set fast] set "1.0.0"
        "Remove and return one or multiple random members from a set" => sets::pop;
    "srandmember" -2 [readonly] (1 1 1) [read set slow] set "1.0.0"
        "Get one or multiple random members from a set" => sets::random;
    "smove" 4 [write fast] (1 2 1) [write set fast] set "1.0.0"
        "Move a member from one set to another" => sets::move_member;
    "sinter" -2 [readonly] (1 -1 1) [read set slow] set "1.0.0"
        "Intersect multiple sets" => algebra::intersection;
    "sunion" -2 [readonly] (1 -1 1) [read set slow] set "1.0.0"
        "Add multiple sets" => algebra::union;
    "sdiff" -2 [readonly] (1 -1 1) [read set slow] set "1.0.0"
        "Subtract multiple sets" => algebra::difference;
    "sintercard" -3 [readonly movablekeys] (0 0 0) [read set slow] set "7.0.0"
        "Intersect multiple sets and return the cardinality of the result" => algebra::intersection_size;
};
