//! From the replies of a command's single-key parts to the command's own.

use super::error;
use crate::core::reply::{Refusal, Reply};

/// How the replies of one command are joined. An error among them becomes the command's reply, unless said otherwise.
#[derive(Debug, Clone)]
pub(super) enum Aggregate {
    /// There is one: it is the command's.
    Same,
    /// The sum of integers.
    Sum,
    /// `+OK` if all are.
    AllOk,
    /// An array of all, errors included.
    List,
    /// 1 for `+OK`, 0 for nil (SETNX).
    Flag,
    /// Milliseconds to seconds, rounded to the nearest; negative values are kept.
    Seconds,
    /// The first item of an array, or nil.
    First,
    /// An array as a set.
    AsSet,
    /// One of two replies, by whether the part found anything. Boxed: few commands need it.
    Found(Box<Found>),
}

/// What is said of something, and of nothing, which nil and 0 stand for.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) absent: Reply,
    pub(super) present: Reply,
}

impl Aggregate {
    /// One reply if the part finds something, another if it does not.
    pub(super) fn found(present: Reply, absent: Reply) -> Self {
        Self::Found(Box::new(Found { absent, present }))
    }

    /// Joins the next `count` of `replies`, which are consumed whatever comes of them.
    pub(super) fn of(&self, count: usize, replies: &mut impl Iterator<Item = Reply>) -> Reply {
        match self {
            Self::Sum => sum(replies.take(count)),
            Self::AllOk => all_ok(replies.take(count)),
            Self::List => Reply::Array(replies.take(count).collect()),
            Self::Same
            | Self::Flag
            | Self::Seconds
            | Self::First
            | Self::AsSet
            | Self::Found(_) => match replies.next() {
                Some(reply) => self.of_one(reply),
                None => Reply::Error(error::no_reply()),
            },
        }
    }

    /// The command's reply from that of its only part.
    pub(super) fn of_one(&self, reply: Reply) -> Reply {
        if matches!(reply, Reply::Error(_)) && !matches!(self, Self::List) {
            return reply;
        }
        match (self, reply) {
            (Self::Same | Self::Sum | Self::AllOk, reply) => reply,
            (Self::List, reply) => Reply::Array(vec![reply]),
            (Self::Flag, reply) => Reply::Int(i64::from(reply == Reply::Ok)),
            (Self::Seconds, Reply::Int(ms)) => Reply::Int(seconds(ms)),
            (Self::First, Reply::Array(items)) => items.into_iter().next().unwrap_or(Reply::Nil),
            (Self::AsSet, Reply::Array(items) | Reply::Set(items)) => Reply::Set(items),
            (Self::Found(found), Reply::Nil | Reply::Int(0)) => found.absent.clone(),
            (Self::Found(found), _) => found.present.clone(),
            (Self::Seconds | Self::First | Self::AsSet, _) => Reply::Error(error::no_reply()),
        }
    }
}

fn seconds(ms: i64) -> i64 {
    if ms < 0 {
        ms
    } else {
        ms.saturating_add(500) / 1000
    }
}

/// The sum of integers, or the first error. Every part was carried out or refused on its own: with an
/// error the others may have taken effect, as the command reference says.
fn sum(replies: impl Iterator<Item = Reply>) -> Reply {
    let mut total: i64 = 0;
    let mut refused: Option<Refusal> = None;
    for reply in replies {
        match reply {
            Reply::Int(value) => total = total.saturating_add(value),
            Reply::Error(refusal) => refused = refused.or(Some(refusal)),
            _ => refused = refused.or_else(|| Some(error::no_reply())),
        }
    }
    refused.map_or(Reply::Int(total), Reply::Error)
}

fn all_ok(replies: impl Iterator<Item = Reply>) -> Reply {
    let mut refused: Option<Refusal> = None;
    for reply in replies {
        if let Reply::Error(refusal) = reply {
            refused = refused.or(Some(refusal));
        }
    }
    refused.map_or(Reply::Ok, Reply::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(join: Aggregate, replies: Vec<Reply>) -> Reply {
        let count = replies.len();
        join.of(count, &mut replies.into_iter())
    }

    #[test]
    fn a_sum_with_an_error_is_the_error() {
        assert_eq!(
            joined(Aggregate::Sum, vec![Reply::Int(2), Reply::Int(3)]),
            Reply::Int(5)
        );
        let busy = Refusal::Busy("shard 1 is behind".to_owned());
        assert_eq!(
            joined(
                Aggregate::Sum,
                vec![
                    Reply::Int(2),
                    busy.clone().into(),
                    Refusal::WrongType.into()
                ]
            ),
            Reply::Error(busy)
        );
    }

    #[test]
    fn an_error_passes_through_every_way_of_joining_one_reply() {
        for join in [
            Aggregate::Same,
            Aggregate::Flag,
            Aggregate::Seconds,
            Aggregate::First,
            Aggregate::AsSet,
        ] {
            assert_eq!(
                joined(join, vec![Refusal::WrongType.into()]),
                Reply::Error(Refusal::WrongType)
            );
        }
    }

    #[test]
    fn seconds_are_rounded_and_signs_of_absence_kept() {
        for (ms, expected) in [(-2, -2), (-1, -1), (0, 0), (499, 0), (500, 1), (1499, 1)] {
            assert_eq!(
                joined(Aggregate::Seconds, vec![Reply::Int(ms)]),
                Reply::Int(expected)
            );
        }
    }

    #[test]
    fn a_missing_reply_is_an_error_and_no_panic() {
        assert!(matches!(joined(Aggregate::Same, vec![]), Reply::Error(_)));
        assert!(matches!(
            joined(Aggregate::First, vec![Reply::Ok]),
            Reply::Error(_)
        ));
    }
}
