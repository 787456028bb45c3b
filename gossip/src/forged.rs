//! Goal: whatever a peer says, it breaks nothing here, and what it says of this node itself is answered as the docs say.
//!
//! Method: one machine, and messages written by hand, as a peer that lies or errs would write them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use crate::{
    codec::{Datagram, decode, encode, encode_refusal},
    config::{Config, Myself},
    event::{Event, Input, Now, Output, Source},
    gossip::Gossip,
    identity::{
        Directory, GENERATION_AHEAD_MS, Generation, Heartbeat, Identity, Protocol, Tag, Version,
    },
    limits::{KEYS_MAX, VALUE_BYTES_MAX},
    message::{
        Body, Delta, DigestEntry, Entry, Envelope, Gone, Hello, Introduction, Message, Status,
    },
    refusal::{Refusal, RefusalKind},
    settings::Settings,
    view::Standing,
};

const WALL_MS: u64 = 1_700_000_000_000;

/// A machine, a peer that it knows, and the time.
struct Stage {
    machine: Gossip,
    peer: Identity,
    now: Duration,
}

fn myself(node: &str, directory: u64) -> Myself {
    Myself {
        node: node.parse().expect("a name"),
        directory: Directory(directory),
        generation: Generation(WALL_MS),
        region: "us".parse().expect("a region"),
        address: format!("{node}:1").parse().expect("an address"),
        protocol: Protocol {
            speaks: 1,
            accepts: 1,
        },
    }
}

fn source() -> Source {
    Source {
        address: "peer:1".parse().expect("an address"),
        node: None,
    }
}

impl Stage {
    fn new() -> Self {
        let config = Config::new("demo".parse().expect("a name"));
        let now = Now {
            monotonic: Duration::ZERO,
            wall_ms: WALL_MS,
        };
        let machine = Gossip::new(config, myself("me", 1), Vec::new(), 7, now);
        let mut stage = Self {
            machine: machine.expect("a sound configuration"),
            peer: myself("peer", 2).identity(&Settings::default()),
            now: Duration::ZERO,
        };
        stage.wake();
        let hello = stage.hello(&stage.peer.clone());
        stage.tell(hello);
        assert_eq!(stage.machine.members().count(), 1);
        stage
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.now,
            wall_ms: WALL_MS + self.now.as_millis() as u64,
        }
    }

    fn wake(&mut self) -> Vec<Output> {
        self.now = self.machine.next_wakeup();
        self.machine.handle(Input::Wake, self.now())
    }

    fn receive(&mut self, bytes: Vec<u8>) -> Vec<Output> {
        let input = Input::Received {
            from: source(),
            bytes: Bytes::from(bytes),
        };
        self.machine.handle(input, self.now())
    }

    /// The machine hears this from the peer; the events that it reports.
    fn tell(&mut self, body: Body) -> Vec<Event> {
        self.tell_with(Vec::new(), body)
    }

    fn tell_with(&mut self, gone: Vec<Gone>, body: Body) -> Vec<Event> {
        let envelope = Envelope {
            cluster: self.machine.cluster,
            from: self.peer.tag(),
            heartbeat: Heartbeat(1 + self.now.as_millis() as u32),
            version: Version(1),
            stamp: self.now.as_micros() as u64,
        };
        let message = Message {
            envelope,
            gone,
            body,
        };
        events(self.receive(encode(&message)))
    }

    fn hello(&self, identity: &Identity) -> Body {
        let hello = Hello {
            cluster: "demo".parse().expect("a name"),
            identity: identity.clone(),
            settings: Settings::try_from(BTreeMap::new()).expect("none"),
        };
        Body::Ask {
            hello: Some(Box::new(hello)),
            complete: false,
            digest: Vec::new(),
        }
    }

    fn generation(&self) -> u64 {
        self.machine.identity().generation.0
    }

    fn my_tag(&self) -> Tag {
        self.machine.identity().tag()
    }
}

fn events(outputs: Vec<Output>) -> Vec<Event> {
    let events = outputs.into_iter().filter_map(|output| match output {
        Output::Event(event) => Some(event),
        Output::Send { .. } => None,
    });
    events.collect()
}

fn digest(tag: Tag, heartbeat: u32, version: u64) -> Body {
    let mention = DigestEntry {
        tag,
        heartbeat: Heartbeat(heartbeat),
        version: Version(version),
    };
    Body::Ask {
        hello: None,
        complete: false,
        digest: vec![mention],
    }
}

fn introduction(identity: &Identity) -> Delta {
    Delta {
        tag: identity.tag(),
        introduction: Some(Introduction {
            identity: identity.clone(),
            heartbeat: Heartbeat(9),
            silence_ms: 0,
        }),
        status: Status::Up,
        from: Version(0),
        to: Version(1),
        floor: Version(0),
        entries: Vec::new(),
    }
}

fn tell(deltas: Vec<Delta>) -> Body {
    Body::Tell {
        wants: Vec::new(),
        deltas,
    }
}

#[test]
fn a_heartbeat_or_version_that_it_never_reached_makes_it_begin_a_life_above() {
    for (heartbeat, version) in [(1_000_000, 0), (0, 1_000_000), (u32::MAX, u64::MAX)] {
        let mut stage = Stage::new();
        let before = stage.generation();
        let events = stage.tell(digest(stage.my_tag(), heartbeat, version));
        assert_eq!(events, [Event::Renewed(Generation(before + 1))]);
        assert_eq!(stage.machine.identity().generation.0, before + 1);
    }
}

#[test]
fn a_later_life_of_its_own_name_is_outbid_at_most_three_times() {
    let mut stage = Stage::new();
    for turn in 0..5 {
        let mut forged = stage.machine.identity().clone();
        forged.generation.0 += 10;
        let events = stage.tell(tell(vec![introduction(&forged)]));
        let expected = if turn < 3 {
            Event::Renewed(Generation(forged.generation.0 + 1))
        } else {
            Event::NameContested(forged.generation)
        };
        assert_eq!(events, [expected]);
    }
}

#[test]
fn a_life_of_its_own_name_years_ahead_is_not_outbid() {
    let mut stage = Stage::new();
    let mut forged = stage.machine.identity().clone();
    forged.generation = Generation(WALL_MS + GENERATION_AHEAD_MS);
    let before = stage.generation();
    let events = stage.tell(tell(vec![introduction(&forged)]));
    assert_eq!(events, [Event::NameContested(forged.generation)]);
    assert_eq!(stage.generation(), before);
}

#[test]
fn what_others_tell_of_its_present_life_is_not_taken_in() {
    let mut stage = Stage::new();
    let me = stage.machine.identity().clone();
    let mut delta = introduction(&me);
    delta.status = Status::Left;
    delta.to = Version(50);
    assert_eq!(stage.tell(tell(vec![delta])), []);
    assert_eq!(stage.machine.status(), Status::Up);
    assert_eq!(stage.machine.identity(), &me);
}

#[test]
fn a_message_that_seems_its_own_is_not_heard() {
    let mut stage = Stage::new();
    stage.peer = stage.machine.identity().clone();
    let hello = stage.hello(&stage.peer.clone());
    assert_eq!(stage.tell(hello), []);
    assert_eq!(stage.machine.members().count(), 1);
}

#[test]
fn a_rumour_that_it_was_forgotten_silences_it() {
    let mut stage = Stage::new();
    let gone = Gone {
        tag: stage.my_tag(),
        node: stage.machine.identity().node.clone(),
        directory: stage.machine.identity().directory,
    };
    assert_eq!(
        stage.tell_with(vec![gone], tell(Vec::new())),
        [Event::Forgotten]
    );
    assert_eq!(stage.wake(), []);
    assert!(stage.machine.next_wakeup() > stage.now + Duration::from_secs(60));
}

#[test]
fn a_forged_version_of_another_hides_nothing_but_that_life() {
    let mut stage = Stage::new();
    let mut other = stage.peer.clone();
    other.node = "other".parse().expect("a name");
    let mut delta = introduction(&other);
    delta.to = Version(u64::MAX);
    delta.floor = Version(u64::MAX);
    stage.tell(tell(vec![delta]));
    // Its owner, told of that version, begins a life above, which is taken in here.
    other.generation.0 += 1;
    let events = stage.tell(tell(vec![introduction(&other)]));
    assert!(events.contains(&Event::Met(other)), "{events:?}");
}

#[test]
fn a_generation_of_another_years_ahead_is_refused() {
    let mut stage = Stage::new();
    let mut other = stage.peer.clone();
    other.node = "other".parse().expect("a name");
    other.generation = Generation(u64::MAX);
    let events = stage.tell(tell(vec![introduction(&other)]));
    assert!(
        matches!(&events[..], [Event::Refused(refused)] if refused.refusal.kind == RefusalKind::FutureGeneration)
    );
    assert_eq!(stage.machine.members().count(), 1);
}

#[test]
fn a_description_under_a_foreign_tag_is_not_taken_in() {
    let mut stage = Stage::new();
    let mut other = stage.peer.clone();
    other.node = "other".parse().expect("a name");
    let mut delta = introduction(&other);
    delta.tag = Tag::of(77);
    assert_eq!(stage.tell(tell(vec![delta])), []);
}

#[test]
fn an_answer_to_no_question_brings_nobody_back() {
    let mut stage = Stage::new();
    let deadline = stage.now + Duration::from_secs(30);
    while stage.now < deadline {
        stage.wake();
    }
    let name = stage.peer.node.clone();
    assert_eq!(
        stage.machine.verdict(&name).map(|verdict| verdict.standing),
        Some(Standing::Down)
    );
    let body = Body::Answer {
        to: stage.my_tag(),
        echo: 1_000,
        wall_ms: WALL_MS,
        digest: Vec::new(),
        wants: Vec::new(),
        deltas: Vec::new(),
    };
    assert_eq!(stage.tell(body), []);
    assert_eq!(
        stage.machine.verdict(&name).map(|verdict| verdict.standing),
        Some(Standing::Down)
    );
}

#[test]
fn more_keys_than_a_node_may_publish_are_not_kept() {
    let mut stage = Stage::new();
    let peer = stage.peer.clone();
    for turn in 0..40_u64 {
        let from = 1 + turn * 10;
        let entries = (1..=10).map(|number| Entry {
            version: Version(from + number),
            key: format!("key-{turn}-{number}").parse().expect("a key"),
            value: Some(Bytes::from(vec![0; VALUE_BYTES_MAX / 8])),
        });
        let delta = Delta {
            tag: peer.tag(),
            introduction: None,
            status: Status::Up,
            from: Version(if turn == 0 { 0 } else { from }),
            to: Version(from + 10),
            floor: Version(0),
            entries: entries.collect(),
        };
        stage.tell(tell(vec![delta]));
    }
    assert_eq!(stage.machine.values(&peer.node).count(), KEYS_MAX);
}

#[test]
fn another_wire_format_is_refused_and_a_refusal_is_not_answered() {
    let mut stage = Stage::new();
    let outputs = stage.receive(vec![42, 1, 2, 3]);
    let Some(Output::Send { bytes, .. }) = outputs.first() else {
        panic!("a refusal: {outputs:?}");
    };
    let Ok(Datagram::Refusal(refusal)) = decode(bytes) else {
        panic!("a refusal: {bytes:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::Protocol);
    let outputs = stage.receive(encode_refusal(&Refusal::new(
        RefusalKind::Full,
        "no".to_owned(),
    )));
    assert!(
        matches!(&outputs[..], [Output::Event(Event::RefusedBy { .. })]),
        "{outputs:?}"
    );
}

/// Bytes on which the machine has something to say.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..1_500),
        vec(any::<u8>(), 0..400).prop_map(|bytes| [&[1], &bytes[..]].concat()),
        vec(any::<u8>(), 0..300).prop_map(|bytes| [&[0], &bytes[..]].concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_do_no_harm(datagrams in vec(noise(), 1..20)) {
        let mut stage = Stage::new();
        for bytes in datagrams {
            for output in stage.receive(bytes) {
                if let Output::Send { bytes, .. } = output {
                    prop_assert!(bytes.len() <= stage.machine.config.datagram_bytes);
                }
            }
        }
        prop_assert_eq!(stage.machine.members().count(), 1);
        stage.wake();
    }

    #[test]
    fn forged_digests_and_deltas_do_no_harm(
        mentions in vec((0_u64..4, any::<u32>(), any::<u64>()), 0..40),
        deltas in vec((0_u64..4, any::<[u64; 3]>(), any::<u64>(), any::<bool>()), 0..6),
    ) {
        let mut stage = Stage::new();
        let mut other = stage.peer.clone();
        other.node = "other".parse().expect("a name");
        let tags = [stage.my_tag(), stage.peer.tag(), other.tag(), Tag::of(3)];
        let digest = mentions.iter().map(|(who, heartbeat, version)| DigestEntry {
            tag: tags[*who as usize],
            heartbeat: Heartbeat(*heartbeat),
            version: Version(*version),
        });
        let body = Body::Ask { hello: None, complete: true, digest: digest.collect() };
        stage.tell(body);
        let deltas = deltas.into_iter().map(|(who, versions, generation, with_identity)| {
            let identity = Identity { generation: Generation(generation), ..other.clone() };
            let mut delta = introduction(&identity);
            if !with_identity {
                delta.introduction = None;
                delta.tag = tags[who as usize];
            }
            [delta.from, delta.to, delta.floor] = versions.map(Version);
            delta
        });
        stage.tell(tell(deltas.collect()));
        for _ in 0..20 {
            stage.wake();
        }
        prop_assert!(stage.machine.members().count() <= 2);
    }
}
