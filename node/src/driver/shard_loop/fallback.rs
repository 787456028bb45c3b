//! What is said where the shard or the way to a peer is missing.

use crate::{
    core::{
        message::{AskId, Message, SessionId, Unanswered},
        op::{Action, Op},
        read::read,
        reply::{Refusal, Reply},
        view::Committed,
    },
    peer::SendError,
    storage::Storage,
};

/// What whoever waits for an answer is told where the question or the answer could not be sent.
pub(super) fn unanswered(session: SessionId, ask: AskId, error: &SendError) -> Message {
    let why = match error {
        SendError::TooLarge { bytes } => {
            tracing::warn!(
                ?session,
                bytes,
                "what is to be said of one key does not fit into one message between nodes: it cannot be compared with other replicas"
            );
            Unanswered::TooLarge
        }
        SendError::Full | SendError::Closed => Unanswered::NotSent,
    };
    Message::Unanswered { ask, why }
}

/// Reads are answered from what is committed while there is no shard; writes are refused.
pub(super) fn answer_without_shard(
    storage: &dyn Storage,
    op: &Op,
    asks_others: bool,
    wall_ms: u64,
    reason: &str,
) -> Reply {
    match &op.action {
        Action::Write(_) => {
            Refusal::ReadOnly(format!("the storage of this node failed: {reason}")).into()
        }
        Action::Read(_) if asks_others => Refusal::Unavailable(format!(
            "the storage of this node failed, and other replicas are to be asked: {reason}"
        ))
        .into(),
        Action::Read(action) => read(&Committed(storage), &op.key, action, wall_ms)
            .unwrap_or_else(|error| Refusal::Unavailable(error.to_string()).into()),
    }
}
