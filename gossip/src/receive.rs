//! What happens when a datagram comes in.
//!
//! What is said of this node itself is not believed: a heartbeat or version that it has not reached, in its present life, it answers
//! with a new life above it (see `admission.rs` for generations).

use crate::{
    clock::milliseconds,
    codec::{self, CodecError, Datagram},
    event::{Event, Source, Target},
    gossip::Gossip,
    identity::Tag,
    limits::RUMOURS_MAX,
    member::{Ear, Heard},
    message::{Body, Envelope, Hello, Message},
    name::NodeId,
    refusal::{Refusal, RefusalKind, Refused},
};

/// An answer's proof that it belongs to a question of ours.
#[derive(Debug, Clone, Copy)]
struct Echo {
    to: Tag,
    stamp: u64,
    wall_ms: u64,
}

impl Gossip {
    pub(crate) fn receive(&mut self, from: &Source, bytes: &[u8]) {
        self.outbox.counters.datagrams_received += 1;
        match codec::decode(bytes) {
            Ok(Datagram::Message(message)) => self.receive_message(from, message),
            Ok(Datagram::Refusal(refusal)) => self.receive_refusal(from, refusal),
            Err(CodecError::Wire { found }) => {
                let detail = format!("wire format {found} is not {}", codec::WIRE);
                self.refuse(from, None, Refusal::new(RefusalKind::Protocol, detail));
            }
            Err(
                CodecError::Empty
                | CodecError::TooLong { .. }
                | CodecError::Malformed { .. }
                | CodecError::TrailingBytes { .. },
            ) => self.outbox.counters.malformed += 1,
        }
    }

    fn receive_refusal(&mut self, from: &Source, refusal: Refusal) {
        let refused = Refused {
            node: from.node.clone(),
            address: from.address.clone(),
            refusal: refusal.clone(),
        };
        if self.refused_by.note(None, refused, self.now.awake) {
            let address = from.address.clone();
            self.outbox.event(Event::RefusedBy { address, refusal });
        }
    }

    /// Says no, to whoever spoke and to whoever listens here.
    fn refuse(&mut self, from: &Source, tag: Option<Tag>, refusal: Refusal) {
        let to = Target {
            node: from.node.clone(),
            address: from.address.clone(),
        };
        self.outbox.send(to, codec::encode_refusal(&refusal));
        self.note_refused(tag, from.node.clone(), from.address.clone(), refusal);
    }

    fn receive_message(&mut self, from: &Source, message: Message) {
        let Message {
            envelope,
            gone,
            body,
        } = message;
        if envelope.from == self.me.tag {
            return;
        }
        if let Err(refusal) = self.check_sender(from, &envelope, &body) {
            self.refuse(from, Some(envelope.from), refusal);
            return;
        }
        for gone in gone.iter().take(RUMOURS_MAX) {
            self.hear_gone(gone);
        }
        if self.is_forgotten {
            return;
        }
        let ear = self.hear_sender(&envelope);
        match body {
            Body::Ask {
                hello,
                complete,
                digest,
            } => {
                let is_introduction = hello.is_some();
                self.receive_ask(from, &envelope, &digest, complete, is_introduction, &ear);
            }
            Body::Answer {
                to,
                echo,
                wall_ms,
                digest,
                wants,
                deltas,
            } => {
                let echo = Echo {
                    to,
                    stamp: echo,
                    wall_ms,
                };
                self.receive_answer(&envelope, echo);
                self.apply(deltas);
                self.receive_rest(from, &envelope, &digest, wants, &ear);
            }
            Body::Tell { wants, deltas } => {
                self.apply(deltas);
                self.tell(from, Vec::new(), &wants);
            }
        }
    }

    /// Whether to listen to a sender at all; one who introduces itself is taken in.
    fn check_sender(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        body: &Body,
    ) -> Result<(), Refusal> {
        if envelope.cluster != self.cluster {
            let detail = match body {
                Body::Ask {
                    hello: Some(hello), ..
                } => format!(
                    "cluster '{}' is not cluster '{}'",
                    hello.cluster, self.config.cluster
                ),
                _ => format!("this is a node of cluster '{}'", self.config.cluster),
            };
            return Err(Refusal::new(RefusalKind::Cluster, detail));
        }
        if let Some(refusal) = self.refused.standing(envelope.from, self.now.awake) {
            return Err(refusal.clone());
        }
        if let Body::Ask {
            hello: Some(hello), ..
        } = body
        {
            self.check_hello(from, envelope, hello)?;
        }
        self.check_name(from, envelope.from)
    }

    fn check_hello(
        &mut self,
        from: &Source,
        envelope: &Envelope,
        hello: &Hello,
    ) -> Result<(), Refusal> {
        if let Some(difference) = self.config.settings.contradiction(&hello.settings) {
            let (mine, theirs) = (&self.me.identity.node, &hello.identity.node);
            let detail =
                format!("cluster-wide settings of '{theirs}' and '{mine}' differ: {difference}");
            return Err(Refusal::new(RefusalKind::Settings, detail));
        }
        let authenticated = from.node.as_ref().unwrap_or(&hello.identity.node);
        if hello.identity.tag() != envelope.from || *authenticated != hello.identity.node {
            return Err(impostor(authenticated, &hello.identity.node));
        }
        self.admit_in_person(&hello.identity, envelope.heartbeat)
    }

    fn check_name(&self, from: &Source, tag: Tag) -> Result<(), Refusal> {
        let member = self.roster.member(tag);
        let (Some(authenticated), Some(member)) = (&from.node, member) else {
            return Ok(());
        };
        let claimed = &member.life.identity.node;
        if authenticated == claimed {
            return Ok(());
        }
        Err(impostor(authenticated, claimed))
    }

    /// The sender lives, or did when it sent this. How to take the rest of what it says.
    fn hear_sender(&mut self, envelope: &Envelope) -> Ear {
        let mut ear = Ear {
            now: self.now.awake,
            tuning: self.tuning,
            is_news: false,
            is_catching_up: self.clock.is_catching_up(),
        };
        let Some(member) = self.roster.member_mut(envelope.from) else {
            return ear;
        };
        member.path.talked(self.now.awake);
        ear.is_news = member.path.is_news(envelope.stamp);
        let heard = member.hear(envelope.heartbeat, &ear);
        let is_trusted = member.trust.is_up();
        self.heed(envelope.from, heard);
        if !is_trusted {
            self.probe(envelope.from);
        }
        ear
    }

    pub(crate) fn heed(&mut self, tag: Tag, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Sign => self.probe(tag),
            Heard::Proof => self.prove(tag),
        }
    }

    /// An answer to a question that was asked just now proves that the peer lives.
    fn receive_answer(&mut self, envelope: &Envelope, echo: Echo) {
        let rtt = self.now.stamp.checked_sub(echo.stamp);
        let Some(rtt) = rtt.filter(|rtt| *rtt < ANSWER_MICROS_MAX) else {
            return;
        };
        // What waited while this process slept says nothing of the path.
        if echo.to != self.me.tag || self.clock.is_catching_up() {
            return;
        }
        let Some(member) = self.roster.member_mut(envelope.from) else {
            return;
        };
        // It read its clock half a round trip ago, give or take as much.
        let read_at = self.now.stamp - rtt / 2;
        let ahead_ms = milliseconds(echo.wall_ms).saturating_sub(milliseconds(read_at / 1_000));
        member.path.answered(self.now.awake, rtt, ahead_ms);
        if member.trust.counts_answer_to(echo.stamp) {
            self.prove(envelope.from);
        }
    }
}

fn impostor(authenticated: &NodeId, claimed: &NodeId) -> Refusal {
    let detail = format!("node '{authenticated}' speaks as '{claimed}'");
    Refusal::new(RefusalKind::Impostor, detail)
}

/// An answer that took longer is none: nobody knows what has happened since.
const ANSWER_MICROS_MAX: u64 = 5_000_000;
