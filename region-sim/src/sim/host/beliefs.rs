//! Who else is believed to live: the gossip of a process, and what its shards are told of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use gossip::{
    Address, Config, Directory, Generation, Gossip, Input, Myself, Now, Output, Protocol, Source,
    Standing,
};
use node::{core, names::NodeName};

use super::{Host, name, parsed};
use crate::sim::{
    agenda::{Due, HostIndex},
    desk::Desk,
    network::End,
};

/// A process's part in the gossip.
#[derive(Debug)]
pub struct Beliefs {
    gossip: Gossip,
    /// When it is woken next, by the world's clock.
    wakes_at: Option<Duration>,
    /// What the shards were told last.
    trusted: Option<Arc<BTreeSet<NodeName>>>,
}

impl Host {
    /// A life of this node begins.
    pub(super) fn begin_gossip(&mut self, desk: &mut Desk) {
        let Some(interval) = desk.plan.gossip_interval else {
            return;
        };
        let now = self.gossip_time(desk);
        let config = Config::new(parsed("sim")).with_interval(interval);
        let myself = self.myself(desk);
        let others = (0..desk.plan.regions.len()).filter(|other| *other != self.index);
        let entropy = desk.network.gossip_entropy();
        let gossip = Gossip::new(config, myself, others.map(address).collect(), entropy, now)
            .expect("the knobs are the defaults at an interval within its bounds");
        if let Some(process) = &mut self.process {
            process.beliefs = Some(Beliefs {
                gossip,
                wakes_at: None,
                trusted: None,
            });
        }
        self.gossip(Input::Wake, desk);
    }

    /// Its time has come.
    pub(super) fn wake_gossip(&mut self, desk: &mut Desk) {
        let Some(beliefs) = self.beliefs() else {
            return;
        };
        // What was put down for an earlier moment than it wanted in the end does not count.
        if beliefs.wakes_at.is_some_and(|at| at <= desk.now) {
            beliefs.wakes_at = None;
            self.gossip(Input::Wake, desk);
        }
    }

    /// A datagram came.
    pub fn hear_gossip(&mut self, from: HostIndex, bytes: Bytes, desk: &mut Desk) {
        let from = Source {
            address: address(from),
            node: Some(parsed(name(from).as_str())),
        };
        self.gossip(Input::Received { from, bytes }, desk);
    }

    /// A process that ends in good order says so.
    pub(super) fn say_goodbye(&mut self, desk: &mut Desk) {
        let now = self.gossip_time(desk);
        if let Some(beliefs) = self.beliefs() {
            let outputs = beliefs.gossip.depart(now);
            self.send_gossip(outputs, desk);
        }
    }

    /// Whom this process believes to live, if it has been told.
    pub(super) fn trusted(&self) -> Option<Arc<BTreeSet<NodeName>>> {
        self.process.as_ref()?.beliefs.as_ref()?.trusted.clone()
    }

    fn gossip(&mut self, input: Input, desk: &mut Desk) {
        let now = self.gossip_time(desk);
        let Some(beliefs) = self.beliefs() else {
            return;
        };
        let outputs = beliefs.gossip.handle(input, now);
        // Beliefs change with a word about it.
        let is_news = outputs
            .iter()
            .any(|output| matches!(output, Output::Event(_)));
        self.send_gossip(outputs, desk);
        self.wake_gossip_later(desk);
        if is_news || self.trusted().is_none() {
            self.tell_beliefs(desk);
        }
    }

    fn send_gossip(&mut self, outputs: Vec<Output>, desk: &mut Desk) {
        let from = End {
            host: self.index,
            run: self.run,
        };
        for output in outputs {
            match output {
                Output::Send { to, bytes } => {
                    let to = index_of(to.address.as_str());
                    desk.network
                        .datagram(from, to, bytes, desk.now, &mut desk.agenda);
                }
                Output::Event(event) => desk
                    .trace
                    .line(desk.now, || format!("n{} gossip: {event:?}", self.index)),
            }
        }
    }

    fn wake_gossip_later(&mut self, desk: &mut Desk) {
        let started = self.process.as_ref().map(|process| process.started);
        let (Some(started), Some(beliefs)) = (started, self.beliefs()) else {
            return;
        };
        let wanted = (started + beliefs.gossip.next_wakeup()).max(desk.now);
        if beliefs.wakes_at.is_none_or(|at| wanted < at) {
            beliefs.wakes_at = Some(wanted);
            let pause = wanted - desk.now;
            self.due_in(desk, pause, Due::Gossip);
        }
    }

    /// Tells the shards whom to wait for, if that has changed.
    fn tell_beliefs(&mut self, desk: &mut Desk) {
        let Some(beliefs) = self.beliefs() else {
            return;
        };
        let lives = |standing| matches!(standing, Standing::Up | Standing::Leaving);
        let members = beliefs.gossip.members();
        let trusted: BTreeSet<NodeName> = members
            .filter(|member| lives(member.standing))
            .map(|member| parsed(member.identity.node.as_str()))
            .collect();
        if beliefs.trusted.as_deref() == Some(&trusted) {
            return;
        }
        let trusted = Arc::new(trusted);
        beliefs.trusted = Some(Arc::clone(&trusted));
        desk.trace.line(desk.now, || {
            format!("n{} believes that these live: {trusted:?}", self.index)
        });
        self.tell_all(|| core::Input::Trusted(Arc::clone(&trusted)), desk);
    }

    fn beliefs(&mut self) -> Option<&mut Beliefs> {
        self.process.as_mut()?.beliefs.as_mut()
    }

    fn gossip_time(&self, desk: &Desk) -> Now {
        let now = self.time(desk.now);
        Now {
            monotonic: now.mono,
            wall_ms: now.wall_ms,
        }
    }

    fn myself(&self, desk: &Desk) -> Myself {
        Myself {
            node: parsed(self.name.as_str()),
            directory: Directory(self.directory.0),
            generation: Generation(self.clock.wall_ms(desk.now)),
            region: parsed(self.region.as_str()),
            address: address(self.index),
            protocol: Protocol {
                speaks: 1,
                accepts: 1,
            },
        }
    }
}

/// Where a host is reached.
fn address(host: HostIndex) -> Address {
    parsed(&format!("{host}:1"))
}

fn index_of(address: &str) -> HostIndex {
    let (host, _) = address.split_once(':').expect("addresses are made here");
    host.parse().expect("addresses are made here")
}
