use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::*;
use crate::{
    core::{
        op::{Read, ScanFilter, Write},
        reply::Reply,
    },
    names::RegionName,
    placement::{PARTITIONS, Partition, Placement},
};

const AT: Duration = Duration::from_secs(100);
const WITHIN: Duration = Duration::from_secs(2);

fn name(text: &str) -> NodeName {
    text.parse().expect("a name of letters and a number")
}

fn op(action: Action) -> Op {
    let (key, level) = (Bytes::from_static(b"k"), Level::default());
    Op { key, action, level }
}

/// us-1 beside us-2, us-3 and us-4, of which the last is not believed to live; each holds a third of the keys.
fn topology() -> Topology {
    let region: RegionName = "us".parse().expect("a name of letters");
    let all = ["us-1", "us-2", "us-3", "us-4"].map(name);
    let members = [(region.clone(), BTreeSet::from(all))].into();
    let counts = [(region.clone(), 2)].into();
    Topology {
        node: name("us-1"),
        region,
        placement: Arc::new(Placement::new(members, &counts)),
        trusted: Arc::new(["us-2", "us-3"].map(name).into()),
        is_short: false,
        short: Arc::default(),
        crowded: None,
    }
}

struct World {
    errands: Errands,
    topology: Topology,
    out: Vec<Output>,
}

impl World {
    fn new() -> Self {
        let mut errands = Errands::default();
        for number in 2..=4 {
            errands.met(name(&format!("us-{number}")), SessionId(number));
        }
        Self {
            errands,
            topology: topology(),
            out: Vec::new(),
        }
    }

    fn begin(&mut self, kind: Kind, errand: Errand) -> ErrandId {
        let plan = Plan {
            nodes: ["us-2", "us-4", "us-3"].map(name).into(),
            kind,
            errand,
            within: WITHIN,
            walks_by: Some(Arc::new(self.topology.clone())),
        };
        self.errands.begin(plan, &self.topology, AT, &mut self.out)
    }

    fn read(&mut self) -> ErrandId {
        self.begin(Kind::Read, Errand::Ops(vec![op(Action::Read(Read::Get))]))
    }

    fn write(&mut self) -> ErrandId {
        let write = Action::Write(Write::IncrBy { by: 1 });
        self.begin(Kind::Write, Errand::Ops(vec![op(write)]))
    }

    /// The questions that were sent since this was asked last: their numbers and sessions.
    fn sent(&mut self) -> Vec<(u64, u64)> {
        let sent = |output: &Output| match output {
            Output::Send {
                question, session, ..
            } => Some((*question, session.0)),
            _ => None,
        };
        let all: Vec<(u64, u64)> = self.out.iter().filter_map(sent).collect();
        self.out.retain(|output| sent(output).is_none());
        for (question, _) in &all {
            let (topology, out) = (&self.topology, &mut self.out);
            self.errands.sent(*question, topology, AT, out);
        }
        all
    }

    /// When an errand wants to be woken, as it said last.
    fn due(&self, errand: ErrandId) -> Duration {
        let due = |output: &Output| match output {
            Output::Due { errand: of, at } if *of == errand => Some(*at),
            _ => None,
        };
        self.out
            .iter()
            .rev()
            .find_map(due)
            .expect("it is under way")
    }

    fn done(&self) -> Vec<(Option<NodeName>, Answer)> {
        let done = |output: &Output| match output {
            Output::Done { by, answer, .. } => Some((by.clone(), answer.clone())),
            _ => None,
        };
        self.out.iter().filter_map(done).collect()
    }

    fn answered(&mut self, question: u64, answer: Answer, after: Duration) {
        let (topology, now) = (&self.topology, AT + after);
        self.errands
            .answered(question, answer, topology, now, &mut self.out);
    }

    fn lost(&mut self, session: u64) {
        self.errands
            .lost(SessionId(session), &self.topology, AT, &mut self.out);
    }

    fn wake(&mut self, errand: ErrandId, now: Duration) {
        self.errands
            .wake(errand, &self.topology, now, &mut self.out);
    }
}

fn reply(number: i64) -> Answer {
    Answer::Replies(vec![Reply::Int(number)])
}

fn refused(answer: &Answer) -> (bool, String) {
    match answer {
        Answer::Refused(Refusal::Timeout(why)) => (true, why.clone()),
        Answer::Refused(Refusal::Unavailable(why)) => (false, why.clone()),
        other => panic!("{other:?} is no refusal of these kinds"),
    }
}

#[test]
fn only_what_writes_nothing_may_be_run_a_second_time() {
    let read = || op(Action::Read(Read::Get));
    let write = || op(Action::Write(Write::IncrBy { by: 1 }));
    assert_eq!(Kind::of(&[read(), read()]), Kind::Read);
    assert_eq!(Kind::of(&[write()]), Kind::Write);
    assert_eq!(Kind::of(&[read(), write()]), Kind::Write);
    let far = Op {
        level: Level::Quorum,
        ..read()
    };
    assert_eq!(Kind::of(&[read(), far]), Kind::FarRead);
    assert!(Kind::Count.is_repeatable() && Kind::Scan.is_repeatable());
    assert!(!Kind::Write.is_repeatable());
}

#[test]
fn the_first_that_is_trusted_and_has_a_session_is_asked_and_its_answer_ends_the_errand() {
    let mut world = World::new();
    let errand = world.read();
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, 2);
    world.answered(sent[0].0, reply(5), Duration::from_millis(3));
    assert_eq!(world.done(), [(Some(name("us-2")), reply(5))]);
    assert_eq!(world.errands.open_questions(), 0);
    // It has ended: its time comes and nothing follows.
    let before = world.out.len();
    world.wake(errand, AT + WITHIN);
    world.answered(sent[0].0, reply(6), Duration::ZERO);
    assert_eq!(world.out.len(), before);
}

#[test]
fn a_read_goes_to_the_next_one_where_the_first_is_silent_for_long_and_never_to_one_that_is_known_to_be_down()
 {
    let mut world = World::new();
    let errand = world.read();
    let first = world.sent()[0];
    let due = world.due(errand);
    assert!(due > AT && due < AT + WITHIN);
    world.wake(errand, due);
    let second = world.sent();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].1, 3, "us-4 is not believed to live");
    assert_eq!(world.due(errand), AT + WITHIN, "nobody is left to ask");
    // The first one answers after all, and the second is not waited for.
    world.answered(first.0, reply(1), Duration::from_millis(80));
    assert_eq!(world.done(), [(Some(name("us-2")), reply(1))]);
    assert_eq!(world.errands.open_questions(), 0);
}

#[test]
fn a_write_is_given_to_one_node_alone_and_waited_for_until_its_time_is_up() {
    let mut world = World::new();
    let errand = world.write();
    assert_eq!(world.sent().len(), 1);
    assert_eq!(world.due(errand), AT + WITHIN);
    // An earlier moment than it asked for changes nothing.
    world.wake(errand, AT + WITHIN / 2);
    assert!(world.sent().is_empty() && world.done().is_empty());
    world.wake(errand, AT + WITHIN);
    let done = world.done();
    let (is_timeout, why) = refused(&done[0].1);
    assert!(
        is_timeout && why.contains("us-2") && why.contains("may take effect"),
        "{why}"
    );
    assert_eq!(world.errands.open_questions(), 0);
}

#[test]
fn what_is_lost_with_a_session_is_asked_of_another_node_only_if_it_writes_nothing() {
    let mut world = World::new();
    world.read();
    assert_eq!(world.sent().len(), 1);
    world.lost(2);
    assert_eq!(world.sent()[0].1, 3);
    world.lost(3);
    let done = world.done();
    let (is_timeout, why) = refused(&done[0].1);
    assert!(!is_timeout && why.contains("us-3 was lost"), "{why}");

    let mut world = World::new();
    world.write();
    assert_eq!(world.sent().len(), 1);
    world.lost(2);
    assert!(world.sent().is_empty());
    let done = world.done();
    let (is_timeout, why) = refused(&done[0].1);
    assert!(
        is_timeout && why.contains("us-2 was lost") && why.contains("may take effect"),
        "{why}"
    );
}

/// Its session ends between the two: it was not heard of, and the next node may run it.
#[test]
fn a_write_whose_session_ends_before_it_is_sent_goes_to_the_next_node() {
    for is_sent in [true, false] {
        let mut world = World::new();
        world.write();
        let question = world.out.iter().find_map(|output| match output {
            Output::Send { question, .. } => Some(*question),
            _ => None,
        });
        let question = question.expect("us-2 is asked");
        world.out.clear();
        world.lost(2);
        assert!(world.done().is_empty(), "nobody knows yet");
        let (topology, out) = (&world.topology, &mut world.out);
        match is_sent {
            true => world.errands.sent(question, topology, AT, out),
            false => world.errands.unsent(question, topology, AT, out),
        }
        match is_sent {
            true => assert!(refused(&world.done()[0].1).0, "it may have been heard"),
            false => assert_eq!(world.sent()[0].1, 3),
        }
    }
}

#[test]
fn a_question_that_was_not_sent_goes_to_the_next_node_also_where_it_writes() {
    let mut world = World::new();
    world.write();
    for session in [2, 3] {
        let sent = world.sent();
        assert_eq!((sent.len(), sent[0].1), (1, session));
        world
            .errands
            .unsent(sent[0].0, &world.topology, AT, &mut world.out);
    }
    let done = world.done();
    let (is_timeout, why) = refused(&done[0].1);
    assert!(!is_timeout && why.contains("us-2, us-4, us-3"), "{why}");
}

#[test]
fn a_walk_that_one_node_refuses_is_asked_of_the_next_up_to_the_end_of_its_own_run() {
    let mut world = World::new();
    let filter = ScanFilter {
        count: 10,
        pattern: None,
        kind: None,
    };
    let errand = Errand::Scan {
        cursor: Position::FIRST.cursor(),
        filter,
        upto: 0,
    };
    world.begin(Kind::Scan, errand);
    let upto = |out: &[Output], session: u64| {
        out.iter().find_map(|output| match output {
            Output::Send {
                session: SessionId(to),
                request,
                ..
            } if *to == session => request.upto,
            _ => None,
        })
    };
    let first = Partition::all().next().expect("there are partitions");
    let end = world.topology.run_end(first, Some(&name("us-2")));
    assert_eq!(upto(&world.out, 2), Some(end));
    let sent = world.sent();
    let no = Answer::Refused(Refusal::Busy("not now".to_owned()));
    world.answered(sent[0].0, no, Duration::ZERO);
    assert!(world.done().is_empty());
    let end = world.topology.run_end(first, Some(&name("us-3")));
    assert_eq!(upto(&world.out, 3), Some(end));
}

#[test]
fn a_count_ends_when_all_have_answered_or_when_all_is_counted_and_the_others_are_slow() {
    let all: Vec<(u16, u64)> = (0..PARTITIONS).map(|partition| (partition, 1)).collect();
    let counted = |world: &mut World| {
        let counted = std::mem::take(&mut world.out).into_iter();
        let mut counted = counted.filter_map(|output| match output {
            Output::Counted { counts, .. } => Some(counts.total()),
            _ => None,
        });
        counted.next()
    };
    for is_whole in [true, false] {
        let mut world = World::new();
        let nodes = ["us-2", "us-3", "us-4"].map(name).into();
        let counts = Counts::default();
        let (errands, topology) = (&mut world.errands, &world.topology);
        let errand = errands.count((nodes, WITHIN), counts, topology, AT, &mut world.out);
        let sent = world.sent();
        assert_eq!(sent.iter().map(|sent| sent.1).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(world.due(errand), AT + WITHIN, "nothing is counted yet");
        let some = all[usize::from(!is_whole)..].to_vec();
        world.answered(sent[0].0, Answer::Counts(some), Duration::ZERO);
        match is_whole {
            true => {
                let due = world.due(errand);
                assert!(due < AT + WITHIN, "us-3 need not be waited for");
                world.wake(errand, due);
                assert_eq!(counted(&mut world), Some(Ok(u64::from(PARTITIONS))));
            }
            false => {
                world.lost(3);
                let total = counted(&mut world).expect("each has answered or is lost");
                assert!(total.is_err(), "a partition was counted by nobody");
            }
        }
        assert_eq!(world.errands.open_questions(), 0);
    }
}

#[test]
fn what_nobody_waits_for_takes_no_room() {
    let mut world = World::new();
    let errands: Vec<ErrandId> = (0..QUESTIONS_MAX).map(|_| world.write()).collect();
    assert_eq!(world.errands.open_questions(), QUESTIONS_MAX);
    world.out.clear();
    world.write();
    assert!(world.sent().is_empty());
    assert_eq!(world.done().len(), 1);
    for errand in errands {
        world.errands.forget(errand);
    }
    assert_eq!(world.errands.open_questions(), 0);
    world.write();
    assert_eq!(world.sent().len(), 1);
}
