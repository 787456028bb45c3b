//! Goal: every level succeeds while enough replicas live, and is refused at once, with nothing written, when they are known not to.
//! Method: three regions of three nodes. Nodes of the asked one's region die, and another region whole; at each step a write and a read at every
//! level is held against the table of the levels, written down here once more as numbers. And a node that holds no copy of a key, when all that do
//! are dead.

use std::time::{Duration, Instant};

use tests::{
    client::{Client, Value},
    patience::{eventually, holds},
    world::{LIMIT, World},
};

/// The node that is asked.
const ASKED: &str = "us-1";

const LEVELS: [&str; 8] = [
    "ONE",
    "TWO",
    "THREE",
    "LOCAL_QUORUM",
    "EACH_QUORUM",
    "QUORUM",
    "ALL",
    "4",
];

/// How many of the three replicas of each region live.
#[derive(Debug, Clone, Copy)]
struct Living {
    us: u32,
    eu: u32,
    ap: u32,
}

impl Living {
    fn meets(self, level: &str) -> bool {
        let all = self.us + self.eu + self.ap;
        match level {
            "ONE" => self.us >= 1,
            "TWO" | "LOCAL_QUORUM" => self.us >= 2,
            "THREE" => self.us >= 3,
            "EACH_QUORUM" => [self.us, self.eu, self.ap]
                .iter()
                .all(|living| *living >= 2),
            "QUORUM" => all >= 5,
            "ALL" => all >= 9,
            "4" => false,
            other => panic!("no level is called {other}"),
        }
    }
}

/// The cluster, and what it acknowledged.
struct Trial {
    world: World,
    acknowledged: Vec<String>,
    /// How long each refusal took.
    refusals: Vec<Duration>,
}

#[test]
fn each_level_is_met_or_refused_by_the_replicas_that_live() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us", "eu", "ap"]).nodes(3);
        builder.set("consistency.timeout", "20s")
    });
    let mut trial = Trial {
        world,
        acknowledged: Vec::new(),
        refusals: Vec::new(),
    };
    let (whole, none) = (3, 0);
    let living = |us, eu| Living { us, eu, ap: whole };

    trial.holds_to(living(3, whole));
    trial.kill("us-3");
    trial.holds_to(living(2, whole));
    trial.connection_with_levels_of_its_own();
    trial.kill("us-2");
    trial.holds_to(living(1, whole));
    trial.keeps_hints_for(&["us-2", "us-3"]);
    for node in trial.world.nodes_of("eu") {
        trial.kill(&node);
    }
    trial.holds_to(living(1, none));
    trial.restart("us-2", 2);
    trial.holds_to(living(2, none));
    trial.restart("us-3", 3);
    trial.holds_to(living(3, none));
    trial.are_refused_at_once();
    trial.heals();
}

#[test]
fn nothing_is_written_or_waited_for_where_all_replicas_of_the_region_are_dead() {
    let world = World::with(|builder| {
        let builder = builder.regions(["us", "eu"]).nodes(4).replicas(3);
        builder.set("consistency.timeout", "20s")
    });
    let (key, replicas) = key_held_by_others(&world);
    let mut client = world.client(ASKED);
    assert!(
        !client
            .call(&["AT", "ALL", "SET", &key, "before"])
            .is_error()
    );
    for node in &replicas {
        world.kill(node);
        world.await_missed(ASKED, node);
    }
    let mut waits = Vec::new();
    for level in LEVELS {
        waits.push(unavailable(
            &mut client,
            &["AT", level, "SET", &key, "lost"],
        ));
        if level != "EACH_QUORUM" {
            waits.push(unavailable(&mut client, &["AT", level, "GET", &key]));
        }
    }
    waits.sort_unstable();
    assert!(waits[waits.len() / 2] < REFUSAL_USUAL, "{waits:?}");

    for node in &replicas {
        world.restart(node);
    }
    world.await_connected();
    eventually(LIMIT, "a majority answers again", || {
        let read = client.text(&["AT", "LOCAL_QUORUM", "GET", &key]);
        holds(read.as_deref() == Some("before"), || format!("{read:?}"))
    });
}

/// A key that the asked node does not hold, and the three nodes of its region that do.
fn key_held_by_others(world: &World) -> (String, Vec<String>) {
    let mut keys = (0..).map(|number: u32| {
        let key = format!("key {number}");
        let replicas = world.replicas_of("us", &key);
        (key, replicas)
    });
    keys.find(|(_, replicas)| replicas.iter().all(|node| node != ASKED))
        .expect("there is such a key among any few")
}

/// Nobody can be asked, and that is said at once. Gives how long it took.
fn unavailable(client: &mut Client, command: &[&str]) -> Duration {
    let begun = Instant::now();
    let reply = client.call(command);
    let took = begun.elapsed();
    assert!(
        matches!(&reply, Value::Error(text) if text.starts_with("UNAVAILABLE ")),
        "{command:?} gave {reply:?}"
    );
    assert!(took < REFUSAL_LIMIT, "{command:?} took {took:?}");
    took
}

impl Trial {
    fn asked(&self) -> Client {
        self.world.client(ASKED)
    }

    fn kill(&self, node: &str) {
        self.world.kill(node);
        self.world.await_missed(ASKED, node);
    }

    /// Starts a node, after which so many of its region's replicas can be written to.
    fn restart(&self, node: &str, living: u32) {
        self.world.restart(node);
        self.world.await_up(ASKED, &[node]);
        self.comes_to_meet(&living.to_string());
    }

    fn comes_to_meet(&self, level: &str) {
        eventually(LIMIT, "a level is met again", || {
            let reply = self.asked().call(&["AT", level, "SET", "probe", "back"]);
            holds(!reply.is_error(), || format!("{level}: {reply:?}"))
        });
    }

    fn holds_to(&mut self, living: Living) {
        let mut client = self.asked();
        for level in LEVELS {
            let key = format!("{living:?} {level}");
            let write = ["AT", level, "SET", &key, "written"];
            if living.meets(level) {
                met(&mut client, &write, &Value::Simple("OK".into()), living);
                self.acknowledged.push(key);
            } else {
                self.refusals.push(refused(&mut client, &write, living));
                let left = client.text(&["AT", "ONE", "GET", &key]);
                assert_eq!(left, None, "{living:?} {write:?} left something");
            }
        }
        for level in LEVELS {
            self.reads_at(&mut client, level, living);
        }
    }

    /// Everything that was acknowledged so far, or a refusal.
    fn reads_at(&mut self, client: &mut Client, level: &str, living: Living) {
        for key in &self.acknowledged {
            let read = ["AT", level, "GET", key];
            if level == "EACH_QUORUM" {
                let only = Value::Error("ERR EACH_QUORUM is for writes".into());
                assert_eq!(client.call(&read), only);
            } else if living.meets(level) {
                met(client, &read, &Value::Bulk(b"written".to_vec()), living);
            } else {
                self.refusals.push(refused(client, &read, living));
                return;
            }
        }
    }

    /// One local replica is dead: what the connection is set to goes for every command, and `AT` stands above it.
    fn connection_with_levels_of_its_own(&self) {
        let mut client = self.asked();
        client.call(&["CONSISTENCY", "READ", "THREE", "WRITE", "THREE"]);
        let says =
            |reply: Value| matches!(reply, Value::Error(text) if text.starts_with("NOQUORUM "));
        assert!(says(client.call(&["SET", "own", "level"])));
        assert!(says(client.call(&["GET", "own"])));
        let living = Living {
            us: 2,
            eu: 3,
            ap: 3,
        };
        let write = ["AT", "TWO", "SET", "own", "level"];
        met(&mut client, &write, &Value::Simple("OK".into()), living);
        client.call(&["CONSISTENCY", "READ", "LOCAL_QUORUM"]);
        let read = Value::Bulk(b"level".to_vec());
        met(&mut client, &["GET", "own"], &read, living);
        assert!(says(client.call(&["SET", "own", "level"])));
    }

    fn keeps_hints_for(&self, dead: &[&str]) {
        let nodes = self.world.status(ASKED).nodes;
        for name in dead {
            let node = nodes.iter().find(|node| node.name.as_str() == *name);
            assert!(node.is_some_and(|node| node.hints > 0), "{nodes:?}");
            self.comes_to_count(ASKED, name, |pending| pending > 0.0);
        }
    }

    /// The metric is brought up to date now and then.
    fn comes_to_count(&self, at: &str, of: &str, is_right: impl Fn(f64) -> bool) {
        eventually(LIMIT, "hints are counted", || {
            let pending = self.world.metric(at, "meridian_hints_pending", of);
            holds(is_right(pending), || format!("{at}: {pending} for {of:?}"))
        });
    }

    /// Where a level is known to be out of reach nothing is waited for. On a busy machine one may take longer, most do not.
    fn are_refused_at_once(&mut self) {
        self.refusals.sort_unstable();
        let median = self.refusals[self.refusals.len() / 2];
        assert!(median < REFUSAL_USUAL, "{:?}", self.refusals);
    }

    /// All come back: what is owed is taken, and every replica of every region has what was acknowledged.
    fn heals(&self) {
        for node in self.world.nodes_of("eu") {
            self.world.restart(&node);
        }
        self.world.await_connected();
        self.comes_to_meet("ALL");
        self.world.await_converged();
        for node in self.world.nodes() {
            self.comes_to_count(&node, "", |pending| pending == 0.0);
            let mut client = self.world.client(&node);
            for key in &self.acknowledged {
                let found = client.text(&["AT", "ONE", "GET", key]);
                assert_eq!(found.as_deref(), Some("written"), "{node}: {key}");
            }
        }
    }
}

fn met(client: &mut Client, command: &[&str], expected: &Value, living: Living) {
    let reply = client.call(command);
    assert_eq!(reply, *expected, "{living:?} {command:?}");
}

/// Known beforehand: nothing is sent, and nothing is waited for. Gives how long it took.
fn refused(client: &mut Client, command: &[&str], living: Living) -> Duration {
    let begun = Instant::now();
    let reply = client.call(command);
    let took = begun.elapsed();
    let Value::Error(text) = reply else {
        panic!("{living:?} {command:?} gave {reply:?}");
    };
    assert!(
        text.starts_with("NOQUORUM ") && !text.contains("applied="),
        "{living:?} {command:?} gave {text}"
    );
    assert!(took < REFUSAL_LIMIT, "{living:?} {command:?} took {took:?}");
    took
}

/// Far less than the time after which a command is given up here.
const REFUSAL_LIMIT: Duration = Duration::from_secs(5);
/// What a client may count on.
const REFUSAL_USUAL: Duration = Duration::from_millis(100);
