//! The workload's operations as commands of the Redis protocol, and the replies as the workload knows them.

use bytes::Bytes;
use node::{
    core::{
        op::{Action, Condition, ExpireCondition, Op, Pick, Read, SetExpiry, Write},
        reply::{Refusal, Reply},
    },
    level::Level,
};
use redis::Value;

/// The command's name and arguments, at another level than the connection's where it asks for one.
pub fn arguments(op: &Op) -> Vec<Bytes> {
    let mut words = Vec::new();
    if op.level != Level::default() {
        let level = Bytes::from(op.level.to_string());
        words.extend([Bytes::from_static(b"AT"), level]);
    }
    words.extend(match &op.action {
        Action::Read(action) => read(&op.key, action),
        Action::Write(action) => write(&op.key, action),
    });
    words
}

/// The command as a person would write it.
pub fn shown(op: &Op) -> String {
    let words = arguments(op);
    let words: Vec<_> = words
        .iter()
        .map(|word| String::from_utf8_lossy(word))
        .collect();
    words.join(" ")
}

fn read(key: &Bytes, action: &Read) -> Vec<Bytes> {
    let with = |name| command(name, key);
    match action {
        Read::Get => with("GET").done(),
        Read::GetOrNil => with("MGET").done(),
        Read::Strlen => with("STRLEN").done(),
        Read::GetRange { start, end } => with("GETRANGE").number(start).number(end).done(),
        Read::Exists => with("EXISTS").done(),
        Read::Type => with("TYPE").done(),
        Read::RemainingMs => with("PTTL").done(),
        Read::ExpiresAtMs => with("PEXPIRETIME").done(),
        Read::AreMembers { members } => with("SMISMEMBER").all(members).done(),
        Read::Members => with("SMEMBERS").done(),
        Read::Cardinality => with("SCARD").done(),
        Read::ScanMembers {
            cursor,
            count,
            pattern,
        } => {
            let page = with("SSCAN").number(cursor).word("COUNT").number(count);
            match pattern {
                Some(pattern) => page.word("MATCH").bytes(pattern).done(),
                None => page.done(),
            }
        }
        Read::RandomMembers { pick, .. } => match pick {
            Pick::Distinct(count) => with("SRANDMEMBER").number(count).done(),
            Pick::Repeating(count) => with("SRANDMEMBER").word(&format!("-{count}")).done(),
        },
        Read::Encoding => command("OBJECT", &Bytes::from_static(b"ENCODING"))
            .bytes(key)
            .done(),
        Read::MemoryUsage => command("MEMORY", &Bytes::from_static(b"USAGE"))
            .bytes(key)
            .done(),
    }
}

fn write(key: &Bytes, action: &Write) -> Vec<Bytes> {
    let with = |name| command(name, key);
    match action {
        Write::Set {
            value,
            expiry,
            condition,
            return_old,
        } => {
            let words = with("SET").bytes(value).condition(*condition);
            let words = match return_old {
                true => words.word("GET"),
                false => words,
            };
            match expiry {
                SetExpiry::Clear => words.done(),
                SetExpiry::Keep => words.word("KEEPTTL").done(),
                SetExpiry::At(at_ms) => words.word("PXAT").number(at_ms).done(),
            }
        }
        Write::GetDel => with("GETDEL").done(),
        Write::GetEx { expiry } => match expiry {
            SetExpiry::Clear => with("GETEX").word("PERSIST").done(),
            SetExpiry::Keep => with("GETEX").done(),
            SetExpiry::At(at_ms) => with("GETEX").word("PXAT").number(at_ms).done(),
        },
        Write::Append { value } => with("APPEND").bytes(value).done(),
        Write::SetRange { offset, value } => with("SETRANGE").number(offset).bytes(value).done(),
        Write::IncrBy { by } => with("INCRBY").number(by).done(),
        Write::Delete => with("DEL").done(),
        Write::Expire { at_ms, condition } => {
            let words = with("PEXPIREAT").number(at_ms);
            expire_words(*condition)
                .iter()
                .fold(words, |words, word| words.word(word))
                .done()
        }
        Write::Persist => with("PERSIST").done(),
        Write::Add { members } => with("SADD").all(members).done(),
        Write::Remove { members } => with("SREM").all(members).done(),
        Write::Pop { count, .. } => with("SPOP").number(count).done(),
    }
}

const fn expire_words(condition: ExpireCondition) -> &'static [&'static str] {
    match condition {
        ExpireCondition::Always => &[],
        ExpireCondition::IfNone => &["NX"],
        ExpireCondition::IfSome => &["XX"],
        ExpireCondition::IfLater => &["GT"],
        ExpireCondition::IfEarlier => &["LT"],
        ExpireCondition::IfSomeAndLater => &["XX", "GT"],
        ExpireCondition::IfSomeAndEarlier => &["XX", "LT"],
    }
}

fn command(name: &'static str, key: &Bytes) -> Words {
    Words(vec![Bytes::from_static(name.as_bytes()), key.clone()])
}

/// A command that is being put together.
struct Words(Vec<Bytes>);

impl Words {
    fn word(self, word: &str) -> Self {
        self.bytes(&Bytes::copy_from_slice(word.as_bytes()))
    }

    fn number(self, number: &impl ToString) -> Self {
        self.word(&number.to_string())
    }

    fn bytes(mut self, bytes: &Bytes) -> Self {
        self.0.push(bytes.clone());
        self
    }

    fn all(mut self, all: &[Bytes]) -> Self {
        self.0.extend_from_slice(all);
        self
    }

    fn condition(self, condition: Condition) -> Self {
        match condition {
            Condition::Always => self,
            Condition::IfAbsent => self.word("NX"),
            Condition::IfPresent => self.word("XX"),
        }
    }

    fn done(self) -> Vec<Bytes> {
        self.0
    }
}

/// What a reply in RESP2 says; `None` where it is none that the command can have.
pub fn reply(op: &Op, value: Value) -> Option<Reply> {
    let reply = plain(value)?;
    Some(match (&op.action, reply) {
        (Action::Read(Read::Members), Reply::Array(items)) => Reply::Set(items),
        (_, reply) => reply,
    })
}

fn plain(value: Value) -> Option<Reply> {
    Some(match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Int(number),
        Value::BulkString(bytes) => Reply::Bulk(Bytes::from(bytes)),
        Value::Okay => Reply::Ok,
        Value::SimpleString(text) => {
            let known = ["none", "string", "set"]
                .into_iter()
                .find(|known| *known == text);
            Reply::Simple(known?)
        }
        Value::Array(items) => Reply::Array(items.into_iter().map(plain).collect::<Option<_>>()?),
        Value::ServerError(error) => {
            let detail = error.details().unwrap_or_default();
            Reply::Error(refusal(error.code(), detail))
        }
        _ => return None,
    })
}

/// What an error says, by its first word and the rest.
pub fn refusal(code: &str, detail: &str) -> Refusal {
    let rest = detail.to_owned();
    match code {
        "WRONGTYPE" => Refusal::WrongType,
        "BUSY" => Refusal::Busy(rest),
        "READONLY" => Refusal::ReadOnly(rest),
        "CLOCKSKEW" => Refusal::ClockSkew(rest),
        "TOOLARGE" => Refusal::TooLarge(rest),
        "UNAVAILABLE" => Refusal::Unavailable(rest),
        "TIMEOUT" => Refusal::Timeout(rest),
        "NOQUORUM" => {
            let applied = detail
                .rsplit_once("applied=")
                .and_then(|(_, count)| count.parse().ok());
            Refusal::NoQuorum {
                detail: rest,
                applied,
            }
        }
        _ => Refusal::Redis(format!("{code} {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(action: Action) -> Op {
        Op {
            key: Bytes::from_static(b"k"),
            action,
            level: Level::default(),
        }
    }

    #[test]
    fn operations_are_the_commands_that_mean_them() {
        let set = |expiry, condition, return_old| {
            shown(&op(Action::Write(Write::Set {
                value: Bytes::from_static(b"v"),
                expiry,
                condition,
                return_old,
            })))
        };
        assert_eq!(set(SetExpiry::Clear, Condition::Always, false), "SET k v");
        assert_eq!(
            set(SetExpiry::At(5), Condition::IfAbsent, false),
            "SET k v NX PXAT 5"
        );
        assert_eq!(
            set(SetExpiry::Keep, Condition::IfPresent, true),
            "SET k v XX GET KEEPTTL"
        );
        let expire = Write::Expire {
            at_ms: 7,
            condition: ExpireCondition::IfSomeAndLater,
        };
        assert_eq!(shown(&op(Action::Write(expire))), "PEXPIREAT k 7 XX GT");
        let members = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        assert_eq!(
            shown(&op(Action::Write(Write::Add { members }))),
            "SADD k a b"
        );
        assert_eq!(
            shown(&op(Action::Read(Read::MemoryUsage))),
            "MEMORY USAGE k"
        );
        let everywhere = Op {
            level: Level::All,
            ..op(Action::Read(Read::Get))
        };
        assert_eq!(shown(&everywhere), "AT all GET k");
    }

    #[test]
    fn replies_are_what_the_workload_expects() {
        let bulk = Value::BulkString(b"x".to_vec());
        let items = Value::Array(vec![bulk]);
        let one = vec![Reply::Bulk(Bytes::from_static(b"x"))];
        let members = op(Action::Read(Read::Members));
        assert_eq!(
            reply(&members, items.clone()),
            Some(Reply::Set(one.clone()))
        );
        let pop = op(Action::Write(Write::Pop {
            count: 1,
            entropy: 0,
        }));
        assert_eq!(reply(&pop, items), Some(Reply::Array(one)));
        assert_eq!(reply(&pop, Value::Okay), Some(Reply::Ok));
        assert_eq!(reply(&pop, Value::Double(0.5)), None);
    }

    #[test]
    fn an_error_says_whether_the_write_may_take_effect() {
        let missed = |text| refusal("NOQUORUM", text);
        assert!(matches!(
            missed("us-2 is away"),
            Refusal::NoQuorum { applied: None, .. }
        ));
        assert!(matches!(
            missed("us-2 is away applied=1"),
            Refusal::NoQuorum {
                applied: Some(1),
                ..
            }
        ));
        assert!(matches!(refusal("TIMEOUT", "late"), Refusal::Timeout(_)));
        assert_eq!(
            refusal("ERR", "value is not an integer or out of range").to_string(),
            "ERR value is not an integer or out of range"
        );
    }
}
