//! Errands of other nodes, which this one runs and answers.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::context::Node;
use crate::core::{
    message::{Answer, Errand, Message, SessionId},
    reply::Refusal,
};

/// Runs another node's errand, and answers.
pub fn serve(node: &Node, session: SessionId, id: u64, within_ms: u32, errand: Errand) {
    let permit = Arc::clone(&node.inner().forwards.serving).try_acquire_owned();
    let Ok(permit) = permit else {
        let busy = Refusal::Busy(format!(
            "{} runs too many errands of other nodes",
            node.inner().name
        ));
        answer(node, session, id, Answer::Refused(busy));
        return;
    };
    let node = node.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let deadline = Instant::now() + Duration::from_millis(within_ms.into());
        // An answer that comes too late is of no use to anybody.
        if let Ok(given) = timeout_at(deadline, node.run_here(errand)).await {
            answer(&node, session, id, given);
        }
    });
}

fn answer(node: &Node, session: SessionId, id: u64, answer: Answer) {
    let message = Message::Forwarded { id, answer };
    if let Err(error) = node.inner().outbound.send(session, message) {
        tracing::debug!(?session, %error, "an answer to a forwarded request was not sent");
        let refusal =
            Refusal::TooLarge("the answer is larger than one message between nodes".to_owned());
        let answer = Answer::Refused(refusal);
        // Where the session is gone this fails as well, and who asked hears of that.
        let _ = node
            .inner()
            .outbound
            .send(session, Message::Forwarded { id, answer });
    }
}
