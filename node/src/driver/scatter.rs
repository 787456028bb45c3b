//! Requests that were asked together, on their way: those of keys held here to the shards that own them, the others to
//! other nodes.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::queue::ShardQueue;
use crate::{
    core::{
        fixed::Answer,
        op::Op,
        reply::{Refusal, Reply},
    },
    placement::Partition,
};

/// Puts replies where they belong.
pub(super) fn put(replies: &mut [Reply], places: Vec<usize>, given: Vec<Reply>) {
    for (place, reply) in places.into_iter().zip(given) {
        replies[place] = reply;
    }
}

/// One command's ops, on their way through the shards that own their keys.
pub(super) struct Scatter {
    count: usize,
    shares: Vec<Share>,
}

struct Share {
    /// Where each reply belongs.
    places: Vec<usize>,
    answers: Result<oneshot::Receiver<Vec<Answer>>, Refusal>,
}

impl Scatter {
    /// Queues every op, in order for each shard.
    pub(super) fn of(ops: Vec<Op>, shards: &[ShardQueue]) -> Self {
        let count = ops.len();
        let mut split: Vec<(Vec<usize>, Vec<Op>)> = vec![Default::default(); shards.len()];
        for (place, op) in ops.into_iter().enumerate() {
            // At most 65,535 shards: the configuration's type says so.
            let shard = Partition::of(&op.key).shard(shards.len() as u16);
            let (places, share) = &mut split[usize::from(shard)];
            places.push(place);
            share.push(op);
        }
        let queue = |((places, ops), shard): ((Vec<usize>, Vec<Op>), &ShardQueue)| Share {
            places,
            answers: shard.request(ops),
        };
        let shares = split
            .into_iter()
            .zip(shards)
            .filter(|((places, _), _)| !places.is_empty())
            .map(queue)
            .collect();
        Self { count, shares }
    }

    /// Waits for the answers, and carries out what is left to be read; in the order of the requests.
    pub(super) async fn gather(self, limit: Duration) -> Vec<Reply> {
        let mut replies = vec![Reply::Nil; self.count];
        let deadline = Instant::now() + limit;
        for share in self.shares {
            let answers = match share.answers {
                Ok(receiver) => heard(receiver, deadline, limit).await,
                Err(refusal) => Err(refusal),
            };
            match answers {
                Ok(answers) => put(
                    &mut replies,
                    share.places,
                    carry_out(answers, deadline).await,
                ),
                Err(refusal) => share
                    .places
                    .into_iter()
                    .for_each(|place| replies[place] = refusal.clone().into()),
            }
        }
        replies
    }
}

async fn heard(
    answers: oneshot::Receiver<Vec<Answer>>,
    deadline: Instant,
    limit: Duration,
) -> Result<Vec<Answer>, Refusal> {
    match timeout_at(deadline, answers).await {
        Ok(Ok(answers)) => Ok(answers),
        Ok(Err(_)) => Err(Refusal::Timeout(
            "this node stopped before it answered; the write may take effect".to_owned(),
        )),
        Err(_) => Err(Refusal::Timeout(format!(
            "a shard of this node did not answer within {limit:?}; the write may take effect"
        ))),
    }
}

/// Reads what the shard has only fixed, on a thread that may wait. Nobody waits for it after the deadline: what it holds of the storage is
/// let go of then.
async fn carry_out(answers: Vec<Answer>, deadline: Instant) -> Vec<Reply> {
    if !answers
        .iter()
        .any(|answer| matches!(answer, Answer::Fixed(_)))
    {
        let at_once = |answer| match answer {
            Answer::Reply(reply) => Some(reply),
            Answer::Fixed(_) => None,
        };
        return answers.into_iter().filter_map(at_once).collect();
    }
    let count = answers.len();
    let read = move || {
        let carry_out = |answer| match answer {
            Answer::Reply(reply) => reply,
            Answer::Fixed(read) => read.answer(&|| Instant::now() < deadline),
        };
        answers.into_iter().map(carry_out).collect()
    };
    let stopping = || Refusal::Unavailable("this node is stopping".to_owned()).into();
    spawn_blocking(read)
        .await
        .unwrap_or_else(|_| vec![stopping(); count])
}
