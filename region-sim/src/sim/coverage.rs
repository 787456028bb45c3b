//! What a world came to, seen from outside the core: messages, refusals, events and faults, by name. What no seed ever came to, no seed
//! says anything about.

use std::{collections::BTreeMap, fmt};

use node::core::{
    Event,
    message::{About, Message, NackReason, Teaching, Unanswered},
    reply::{Refusal, Reply},
    ship::ShipEvent,
};
use node::storage::record::head::Conflict;

use super::fault::FaultKind;

/// How often each thing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts what another world came to as well.
    pub fn add(&mut self, other: &Self) {
        for (rule, count) in &other.0 {
            *self.0.entry(rule).or_default() += count;
        }
    }

    /// What never happened.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        RULES.into_iter().filter(|rule| !self.0.contains_key(rule))
    }

    fn note(&mut self, rule: &'static str) {
        debug_assert!(RULES.contains(&rule), "{rule} is no known rule");
        *self.0.entry(rule).or_default() += 1;
    }

    /// A message arrived.
    pub(super) fn message(&mut self, message: &Message) {
        if let Message::Ack(taken) = message {
            taken.taught.iter().for_each(|taught| self.taught(taught));
        }
        self.note(match message {
            Message::Ship(ship) if ship.is_for_region => "rows come to be passed on in a region",
            Message::Ship(_) => "rows come for a replica",
            Message::Ack(_) => "rows are acknowledged",
            Message::Nack { reason, .. } => match reason {
                NackReason::Gap => "rows are declined: some are missing before them",
                NackReason::ClockAhead { .. } => "rows are declined: a clock is ahead",
                NackReason::ReadOnly => "rows are declined: storage takes nothing",
                NackReason::Busy => "rows are declined: queues are full",
                NackReason::Malformed => "rows are declined: they do not decode",
            },
            Message::ClosedTimestamp { .. } => "an idle stream is promised how far it is",
            Message::Gap {
                is_for_region: true,
                ..
            } => "a taker is bridged over rows that its region has",
            Message::Gap { .. } => "a stream goes on behind rows that are gone",
            Message::Compare(compare) if compare.from > 0 => "another page of a key is asked for",
            Message::Compare(_) => "a replica is asked about a key",
            Message::Compared { copy: None, .. } => "copies of a key are equal",
            Message::Compared { .. } => "copies of a key differ",
            Message::Repair { .. } => "a replica is sent what it lacks",
            Message::Repaired { .. } => "what a replica lacked is durable there",
            Message::Forward { .. } => "a request is handed on",
            Message::Forwarded { .. } => "a request that was handed on is answered",
            Message::Unanswered { why, .. } => match why {
                Unanswered::TooLarge => "a question has no answer: the copy is too large",
                Unanswered::NotSent => "a question has no answer: it could not be sent",
                Unanswered::Damaged => "a question has no answer: a row is damaged",
                Unanswered::ReadOnly => "a question has no answer: storage takes nothing",
                Unanswered::Forgot => "a question has no answer: the replica has lost writes",
                Unanswered::ClockAhead => "a question has no answer: a clock is ahead",
            },
        });
    }

    fn taught(&mut self, taught: &Teaching) {
        self.note(match taught.about {
            _ if taught.is_lost => "an acknowledgement says that a row could not be joined",
            About::Elements | About::Increment if taught.is_other_type => {
                "an addition is taught a value of the other type"
            }
            About::Increment if taught.is_text => "an INCR is taught that the value is text",
            About::Elements | About::Increment => "an addition is taught an expiry",
            About::Removal => "a removal is taught what it had not seen",
            About::Statement => "a SET, DEL or EXPIRE is taught what it had not seen",
        });
    }

    /// A client is answered.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let Reply::Error(refusal) = reply else {
            return self.note("a request is answered");
        };
        self.note(match refusal {
            Refusal::WrongType | Refusal::NotAnInteger | Refusal::Overflow => {
                "a request is refused for what is under its key"
            }
            Refusal::StringTooLong | Refusal::TooLarge(_) | Refusal::Redis(_) => {
                "a request is refused for itself"
            }
            Refusal::Busy(_) => "a request is refused: BUSY",
            Refusal::ReadOnly(_) => "a request is refused: READONLY",
            Refusal::ClockSkew(_) => "a request is refused: CLOCKSKEW",
            Refusal::Unavailable(_) => "a request is refused: UNAVAILABLE",
            Refusal::NoQuorum { applied: None, .. } => "a request is refused: NOQUORUM",
            Refusal::NoQuorum { .. } => "a write is on too few replicas: NOQUORUM applied",
            Refusal::Timeout(_) => "a request runs out of time",
        });
    }

    /// A host reports.
    pub(super) fn event(&mut self, event: &Event) {
        self.note(match event {
            Event::Ship(ShipEvent::Dropped { .. }) => "an outbox drops rows",
            Event::Ship(ShipEvent::Replaced { .. }) => "a destination is seen to be another one",
            Event::Ship(ShipEvent::Declined { .. }) => "a decline is reported",
            Event::Conflict(clash) => match clash.kind {
                Conflict::Overwritten => "a register is overwritten unseen",
                Conflict::TextAndCounter => "increments wait behind text",
                Conflict::TwoTypes => "one type hides another",
            },
            Event::Replayed { .. } => "what was stamped ahead is written anew",
            Event::Repaired { .. } => "a read mends what differs",
            Event::Damaged(_) => "a row is damaged",
        });
    }

    /// A host goes on under another actor number.
    pub(super) fn renewal(&mut self) {
        self.note("a host renews its actor number");
    }

    /// A fault strikes.
    pub(super) fn fault(&mut self, kind: FaultKind) {
        self.note(match kind {
            FaultKind::Kill => "fault: kill",
            FaultKind::PowerLoss => "fault: power loss",
            FaultKind::Stop => "fault: stop",
            FaultKind::Pause => "fault: pause",
            FaultKind::Cut => "fault: cut",
            FaultKind::Isolate => "fault: isolate",
            FaultKind::Reset => "fault: reset",
            FaultKind::Lossy => "fault: lossy",
            FaultKind::Behind => "fault: rows held up",
            FaultKind::SlowDisk => "fault: slow disk",
            FaultKind::FullDisk => "fault: full disk",
            FaultKind::FailingDisk => "fault: failing disk",
            FaultKind::Step => "fault: clock step",
            FaultKind::Leap => "fault: clock leap",
            FaultKind::FarStart => "fault: clock ahead at the start",
            FaultKind::Wipe => "fault: wipe",
            FaultKind::Restore => "fault: restore",
        });
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in RULES {
            match self.0.get(rule) {
                Some(count) => writeln!(f, "{count:>10}  {rule}")?,
                None => writeln!(f, "     never  {rule}")?,
            }
        }
        Ok(())
    }
}

/// Everything that is counted.
const RULES: [&str; 68] = [
    "fault: kill",
    "fault: power loss",
    "fault: stop",
    "fault: pause",
    "fault: cut",
    "fault: isolate",
    "fault: reset",
    "fault: lossy",
    "fault: rows held up",
    "fault: slow disk",
    "fault: full disk",
    "fault: failing disk",
    "fault: clock step",
    "fault: clock leap",
    "fault: clock ahead at the start",
    "fault: wipe",
    "fault: restore",
    "rows come for a replica",
    "rows come to be passed on in a region",
    "rows are acknowledged",
    "an acknowledgement says that a row could not be joined",
    "an addition is taught a value of the other type",
    "an INCR is taught that the value is text",
    "an addition is taught an expiry",
    "a removal is taught what it had not seen",
    "a SET, DEL or EXPIRE is taught what it had not seen",
    "rows are declined: some are missing before them",
    "rows are declined: a clock is ahead",
    "rows are declined: storage takes nothing",
    "rows are declined: queues are full",
    "rows are declined: they do not decode",
    "an idle stream is promised how far it is",
    "a stream goes on behind rows that are gone",
    "a taker is bridged over rows that its region has",
    "a replica is asked about a key",
    "another page of a key is asked for",
    "copies of a key are equal",
    "copies of a key differ",
    "a replica is sent what it lacks",
    "what a replica lacked is durable there",
    "a question has no answer: the copy is too large",
    "a question has no answer: it could not be sent",
    "a question has no answer: a row is damaged",
    "a question has no answer: storage takes nothing",
    "a question has no answer: the replica has lost writes",
    "a question has no answer: a clock is ahead",
    "a request is handed on",
    "a request that was handed on is answered",
    "a read mends what differs",
    "a request is answered",
    "a request is refused for what is under its key",
    "a request is refused for itself",
    "a request is refused: BUSY",
    "a request is refused: READONLY",
    "a request is refused: CLOCKSKEW",
    "a request is refused: UNAVAILABLE",
    "a request is refused: NOQUORUM",
    "a write is on too few replicas: NOQUORUM applied",
    "a request runs out of time",
    "an outbox drops rows",
    "a destination is seen to be another one",
    "a decline is reported",
    "a register is overwritten unseen",
    "increments wait behind text",
    "one type hides another",
    "what was stamped ahead is written anew",
    "a row is damaged",
    "a host renews its actor number",
];
